"""`relay mode`, against relays that run."""

import json
import socket
from pathlib import Path

import pytest
from fake_script import Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay

from cli.program import Program

KEY = "ak-canary-0123456789"


@pytest.fixture
def running(start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path) -> RunningRelay:
    return start_relay(
        upstream_url=upstream.url,
        local="echo",
        admin_key=KEY,
        state_file=tmp_path / "state.json",
    )


@pytest.mark.parametrize("suffix", ["", "/", "/v1"])
def test_the_mode_is_shown(relay: Program, running: RunningRelay, suffix: str) -> None:
    shown = relay("mode", "--url", running.root + suffix, "--admin-key", KEY)

    assert (shown.returncode, shown.stdout) == (0, "mode auto, serving remote\n")


def test_the_mode_is_changed(relay: Program, running: RunningRelay) -> None:
    changed = relay("mode", "local", "--url", running.root, env={"RELAY_ADMIN_KEY": KEY})
    shown = relay("mode", "--json", "--url", running.root, "--admin-key", KEY)

    assert (changed.returncode, changed.stdout) == (0, "mode local, serving local\n")
    assert changed.stderr == ""
    assert json.loads(shown.stdout)["moves"] == {"remote": 0, "local": 1}


def test_the_moves_are_shown_and_who_is_out_of_reach(
    relay: Program, start_relay: StartRelay, tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        running = start_relay(
            upstream_url=f"http://127.0.0.1:{closed.getsockname()[1]}/v1",
            local="echo",
            admin_key=KEY,
            state_file=tmp_path / "state.json",
        )
        assert running.ask().headers["x-relay-upstream"] == "local"
        shown = relay("mode", "--url", running.root, "--admin-key", KEY)
    mode, course = shown.stdout.splitlines()
    assert mode == "mode auto, serving local"
    assert course.startswith("  since 20")
    assert course.endswith(" UTC; moves: 0 to remote, 1 to local; out of reach: upstream")


def test_a_mode_that_is_not_kept_is_said(
    relay: Program, start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path
) -> None:
    running = start_relay(
        upstream_url=upstream.url,
        local="echo",
        admin_key=KEY,
        state_file=tmp_path / "no" / "state.json",
    )

    changed = relay("mode", "local", "--url", running.root, "--admin-key", KEY)

    assert (changed.returncode, changed.stdout) == (0, "mode local, serving local\n")
    assert "could not be kept" in changed.stderr


def test_a_mode_that_cannot_be_is_explained(relay: Program, start_relay: StartRelay) -> None:
    running = start_relay(local="echo", admin_key=KEY)

    changed = relay("mode", "remote", "--url", running.root, "--admin-key", KEY)

    assert changed.returncode == 1
    assert changed.stderr == "relay: 400: There is no upstream to serve from.\n"


def test_a_word_that_is_no_mode_is_a_mistake_of_the_user(relay: Program) -> None:
    assert relay("mode", "offline", "--admin-key", KEY).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 2, "the admin API needs its key"),
        (("--admin-key", "ak-wrong-canary"), 1, "the admin key is refused"),
        (("--admin-key", "two words"), 2, "--admin-key: a key is printable ASCII"),
        (("--admin-key", KEY, "--url", "localhost"), 2, "--url: a base URL starts with http://"),
        (("--admin-key", KEY, "--url", "http://127.0.0.1:1"), 1, "nothing listens on 127.0.0.1:1"),
    ],
)
def test_what_is_wrong_is_one_clear_sentence(
    relay: Program, running: RunningRelay, arguments: tuple[str, ...], status: int, said: str
) -> None:
    shown = relay("mode", "--url", running.root, *arguments)

    assert shown.returncode == status
    assert said in shown.stderr
    assert shown.stdout == ""
    assert "canary" not in shown.stderr


def test_a_relay_without_an_admin_api_is_told_apart_from_another_server(
    relay: Program, start_relay: StartRelay, fake: FakeUpstream
) -> None:
    closed = start_relay(local="echo")

    at_relay = relay("mode", "--url", closed.root, "--admin-key", KEY)
    fake.answer(Script(body=b"<html>"), path="/admin/mode")
    elsewhere = relay("mode", "--url", fake.root_url, "--admin-key", "sk-canary")

    assert "there is no admin API at" in at_relay.stderr
    assert "not a relay?" in elsewhere.stderr
    assert (at_relay.returncode, elsewhere.returncode) == (1, 1)
