"""`relay keys` and `relay teams`, against a relay that runs."""

import json
import time
from pathlib import Path

import pytest
from fake_script import Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay
from typer.testing import CliRunner, Result

from cli.program import Program
from relay.cli import app

KEY = "ak-canary-0123456789"
ENV = {"RELAY_ADMIN_KEY": KEY}


class Command:
    """`relay` in this process: a start of Python for each of so many would take a minute."""

    def __call__(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        return CliRunner(env={"OPENAI_API_KEY": "", **(env or {})}).invoke(app, arguments)


@pytest.fixture
def command() -> Command:
    return Command()


@pytest.fixture
def running(start_relay: StartRelay, tmp_path: Path) -> RunningRelay:
    return start_relay(local="echo", admin_key=KEY, database_url=f"sqlite:///{tmp_path}/relay.db")


def test_a_key_lives_from_its_making_to_its_end(command: Command, running: RunningRelay) -> None:
    at = ("--url", running.root)
    team = command("teams", "create", "ops", "--rpm", "100", *at, env=ENV).stdout.strip()
    assert team.startswith("team_")

    made = command(
        *("keys", "create", "ci", "--models", "a, b/*", "--rpm", "60", "--budget-usd", "2.5"),
        *("--budget-window", "day", "--expires", "30d", "--origins", "https://a.example"),
        *("--networks", "10.0.0.0/8", "--team", "ops", "--metadata", "owner=ann", "--keep-bodies"),
        *at,
        env=ENV,
    )
    assert made.exit_code == 0, made.stderr
    key = made.stdout.strip()
    assert len(key) == 46
    assert "shown this once" in made.stderr
    assert key not in made.stderr

    listed = json.loads(command("keys", "list", "--json", *at, env=ENV).stdout)
    [state] = listed
    assert state["expires_at"] == pytest.approx(time.time() + 30 * 86400, abs=60)
    assert (state["models"], state["team"], state["metadata"], state["keep_bodies"]) == (
        ["a", "b/*"],
        team,
        {"owner": "ann"},
        True,
    )
    table = command("keys", "list", *at, env=ENV).stdout
    assert key not in table
    for word in (state["id"], state["prefix"], "active", "a, b/*", "rpm 60, $0.00 of $2.5 a day"):
        assert word in table

    changed = command(
        *("keys", "update", state["id"], "--name", "build", "--models", "none", "--rpm", "none"),
        *("--expires", "2099-01-01", "--metadata", "none", "--no-keep-bodies", *at),
        env=ENV,
    )
    assert changed.exit_code == 0, changed.stderr
    assert "name              build" in changed.stdout
    assert "2099-01-01 00:00" in changed.stdout
    assert "budget_usd        2.5\n" in changed.stdout
    assert "budget_resets_at  20" in changed.stdout
    shown = json.loads(command("keys", "show", state["id"], "--json", *at, env=ENV).stdout)
    assert (shown["models"], shown["rpm"], shown["metadata"]) == (None, None, {})

    rotated = command("keys", "rotate", state["id"], "--grace", "15m", *at, env=ENV)
    assert rotated.stdout.strip() not in ("", key)
    assert "replaced" in rotated.stderr
    revoked = command("keys", "revoke", state["id"], *at, env=ENV)
    assert (revoked.exit_code, revoked.stdout) == (0, "")
    assert f"revoked: {state['id']} (build)" in revoked.stderr
    assert json.loads(command("keys", "list", "--json", *at, env=ENV).stdout) == []
    assert "revoked" in command("keys", "list", "--revoked", *at, env=ENV).stdout


def test_a_list_is_followed_to_its_end(
    command: Command, running: RunningRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.cli.keys.PAGE", 2)
    at = ("--url", running.root)
    for name in "abcde":
        command("keys", "create", f"job-{name}", *at, env=ENV)
    command("teams", "create", "ops", *at, env=ENV)
    command("keys", "create", "laptop", "--team", "ops", *at, env=ENV)

    def names(*arguments: str) -> list[str]:
        listed = command("keys", "list", "--json", *arguments, *at, env=ENV)
        assert listed.exit_code == 0, listed.stderr
        return [key["name"] for key in json.loads(listed.stdout)]

    jobs = [f"job-{name}" for name in "abcde"]
    assert names() == [*jobs, "laptop"]
    assert names("--limit", "3") == jobs[:3]
    assert names("--limit", "2", "--newest") == ["laptop", "job-e"]
    assert names("--search", "JOB-", "--status", "active") == jobs
    assert names("--team", "ops") == ["laptop"]
    nobody = command("keys", "list", "--team", "dev", *at, env=ENV)
    assert (nobody.exit_code, nobody.stdout) == (1, "")
    assert "There is no team 'dev'" in nobody.stderr
    assert "ops" in command("teams", "list", "--limit", "1", *at, env=ENV).stdout


def test_a_team_is_listed_changed_and_deleted(command: Command, running: RunningRelay) -> None:
    at = ("--url", running.root)
    made = json.loads(
        command("teams", "create", "ops", "--models", "a", "--json", *at, env=ENV).stdout
    )
    command("teams", "update", made["id"], "--models", "none", "--tpm", "5", *at, env=ENV)
    table = command("teams", "list", *at, env=ENV).stdout
    assert "all" in table
    assert "tpm 5" in table
    gone = command("teams", "delete", made["id"], "--json", *at, env=ENV)
    assert json.loads(gone.stdout)["id"] == made["id"]
    assert json.loads(command("teams", "list", "--json", *at, env=ENV).stdout) == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("create", "a", "--rpm", "many"), 2, "--rpm: write a number"),
        (("create", "a", "--expires", "soon"), 2, "--expires: write a date"),
        (("create", "a", "--metadata", "x"), 2, "--metadata: write NAME=VALUE"),
        (("create", "a", "--budget-window", "year"), 2, "budget-window"),
        (("create", "a", "--team", "nobody"), 1, "400: There is no team 'nobody'."),
        (("rotate", "key_0", "--grace", "a while"), 2, "--grace: write seconds"),
        (("show", "key_0"), 1, "404: There is no key 'key_0'."),
        (("list", "--admin-key", "ak-wrong"), 1, "the admin key is refused"),
    ],
)
def test_what_is_wrong_is_one_clear_sentence(
    command: Command, running: RunningRelay, arguments: tuple[str, ...], status: int, said: str
) -> None:
    shown = command("keys", *arguments, "--url", running.root, env=ENV)

    assert shown.exit_code == status
    assert said in shown.stderr
    assert shown.stdout == ""
    assert "canary" not in shown.stderr


def test_what_is_no_relay_and_no_admin_api_is_told_apart(
    command: Command, start_relay: StartRelay, fake: FakeUpstream
) -> None:
    closed = start_relay(local="echo")
    at_relay = command("keys", "list", "--url", closed.root, env=ENV)
    fake.answer(Script(body=b"<html>"), path="/admin/keys")
    elsewhere = command("keys", "list", "--url", fake.root_url, "--admin-key", "sk-canary")
    fake.answer(Script(body=b"[]"), path="/admin/keys")
    listed = command("keys", "list", "--url", fake.root_url, "--admin-key", "sk-canary")
    fake.answer(Script(status=404, body=b"<html>"), path="/admin/keys")
    nothing = command("keys", "list", "--url", fake.root_url, "--admin-key", "sk-canary")

    assert "there is no admin API at" in at_relay.stderr
    assert "none of a relay" in elsewhere.stderr
    assert "none of a relay" in listed.stderr
    assert "there is no admin API at" in nothing.stderr


def test_it_is_a_command_of_the_program(relay: Program, running: RunningRelay) -> None:
    made = relay("keys", "create", "ci", "--url", running.root, env=ENV)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("rk-")
