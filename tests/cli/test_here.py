"""Commands ask the relay that the settings in their folder describe."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from running import RunningRelay, StartRelay

from cli.program import Program

KEY = "ak-canary-0123456789"


@pytest.fixture
def described(start_relay: StartRelay, tmp_path: Path) -> RunningRelay:
    """A relay that runs, and a relay.toml in the program's folder that says where."""
    running = start_relay(
        local="echo", admin_key=KEY, database_url=f"sqlite:///{tmp_path}/elsewhere.db"
    )
    port = urlsplit(running.root).port
    (tmp_path / "relay.toml").write_text(f'port = {port}\nadmin_key = "{KEY}"\n')
    return running


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("keys", "list", "--json"), "[]"),
        (("teams", "list", "--json"), "[]"),
        (("usage", "--json"), "cost_usd"),
        (("mode", "--json"), "serving"),
        (("models",), "echo"),
        (("chat", "Hello there"), "Hello there"),
    ],
)
def test_without_a_url_the_settings_say_where_it_is_and_with_which_key(
    relay: Program, described: RunningRelay, arguments: tuple[str, ...], said: str
) -> None:
    shown = relay(*arguments)
    assert shown.returncode == 0, shown.stderr
    assert said in shown.stdout


def test_what_is_given_wins_over_the_settings(relay: Program, described: RunningRelay) -> None:
    elsewhere = relay("keys", "list", "--url", "http://127.0.0.1:1")
    assert "nothing listens on 127.0.0.1:1" in elsewhere.stderr
    other = relay("keys", "list", "--admin-key", "ak-other-0123456789")
    assert "the admin key is refused" in other.stderr
    variable = relay("models", env={"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})
    assert "nothing listens on 127.0.0.1:1" in variable.stderr


def test_settings_that_are_wrong_are_told_with_a_way_round(
    relay: Program, described: RunningRelay, tmp_path: Path
) -> None:
    (tmp_path / "relay.toml").write_text("prot = 1\n")
    for arguments in (("keys", "list"), ("models",)):
        shown = relay(*arguments)
        assert shown.returncode == 1
        assert "'prot' in relay.toml: there is no such setting; did you mean port?" in shown.stderr
        assert "--url" in shown.stderr
    given = relay("keys", "list", "--url", described.root, "--admin-key", KEY)
    assert given.returncode == 0, given.stderr
