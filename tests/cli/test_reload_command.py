"""`relay reload`: what a running relay makes of it, in one line and an exit status."""

import os
import signal
from pathlib import Path

import pytest
from fake_script import Script
from fake_upstream import FakeUpstream
from running import process

from cli.program import Program, Terminal

ADMIN_KEY = "rk-admin-canary-0123"


def test_it_asks_and_says_what_changed(relay: Program, tmp_path: Path) -> None:
    env = {"RELAY_ADMIN_KEY": ADMIN_KEY}
    with process(tmp_path, local="echo", admin_key=ADMIN_KEY) as (_, root):
        (tmp_path / "relay.toml").write_text('retries = 5\nhost = "localhost"')
        shown = relay("reload", "--url", f"{root}/v1", env=env)
        assert shown.returncode == 0, shown.stderr
        assert shown.stderr == "reloaded; changed: retries\nonly a restart changes: host\n"
        (tmp_path / "relay.toml").write_text("retires = 5")
        shown = relay("reload", "--url", root, "--key", ADMIN_KEY)
        assert shown.returncode == 1
        assert shown.stderr.endswith("there is no such setting; did you mean retries?\n")
        shown = relay("reload", "--url", root, "--key", "rk-wrong-canary")
        assert (shown.returncode, shown.stderr) == (1, f"relay: {root} refuses the admin key\n")


def test_without_options_the_settings_here_say_where_and_with_which_key(
    relay: Program, tmp_path: Path
) -> None:
    with process(tmp_path, local="echo", admin_key=ADMIN_KEY) as (_, root):
        port = root.rpartition(":")[2]
        (tmp_path / ".env").write_text(f"RELAY_PORT={port}\nRELAY_ADMIN_KEY={ADMIN_KEY}")
        shown = relay("reload")
        assert (shown.returncode, shown.stderr) == (0, "reloaded; changed: nothing\n")


def test_a_bad_file_here_is_said_before_anybody_is_asked(relay: Program, tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text("retires = 5")
    shown = relay("reload")
    assert shown.returncode == 1
    assert "did you mean retries?" in shown.stderr
    assert shown.stderr.endswith("relay: nothing was reloaded\n")


def test_without_a_key_it_says_what_is_needed(relay: Program) -> None:
    shown = relay("reload")
    assert shown.returncode == 1
    assert "set RELAY_ADMIN_KEY, give --key, or send a signal by --pid" in shown.stderr


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (Script(status=404), "has no admin API"),
        (Script(status=500, body=b"boom"), "500: boom"),
        (Script(body=b"{}"), "what answered is not a relay"),
    ],
)
def test_an_answer_of_somebody_else_is_explained(
    relay: Program, upstream: FakeUpstream, script: Script, said: str
) -> None:
    upstream.answer(script)
    shown = relay("reload", "--url", upstream.root_url, "--key", ADMIN_KEY)
    assert shown.returncode == 1
    assert said in shown.stderr


def test_nobody_there_is_explained(relay: Program, tmp_path: Path) -> None:
    with process(tmp_path, local="echo") as (_, root):
        pass
    shown = relay("reload", "--url", root, "--key", ADMIN_KEY)
    assert shown.returncode == 1
    assert "nothing listens on" in shown.stderr


def test_a_process_can_be_told_by_its_id(relay: Program, tmp_path: Path) -> None:
    with process(tmp_path, local="echo") as (running, _):
        shown = relay("reload", "--pid", str(running.pid))
        assert shown.returncode == 0
        assert running.stdout is not None
        assert any(" reloaded " in line for line in running.stdout)
    shown = relay("reload", "--pid", str(running.pid))
    assert (shown.returncode, shown.stderr) == (1, f"relay: there is no process {running.pid}\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_relay_at_a_terminal_ends_with_it(tmp_path: Path, workers: str) -> None:
    with Terminal(
        "serve", "--local", "echo", "--port", "0", "--workers", workers, directory=tmp_path
    ) as terminal:
        terminal.see("curl")
        os.kill(terminal.process.pid, signal.SIGHUP)
        terminal.see(" reloaded ")
        terminal.hang_up()
        assert terminal.process.wait(timeout=30) == 0
