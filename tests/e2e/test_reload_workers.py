"""Reloading several workers: their parent hears the signal, and all of them follow."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
from running import process
from test_reload_serving import ADMIN_KEY, ask, line_with
from test_workers import WHO, WHO_CONFIG, until, workers


def statuses(root: str, enough: Callable[[dict[str, set[int]]], bool]) -> None:
    """Ask with both keys, on new connections, until it is enough."""
    found: dict[str, set[int]] = {"rk-old": set(), "rk-new": set()}
    while not enough(found):
        for key, seen in found.items():
            answer = ask(root, authorization=f"Bearer {key}")
            if answer.status_code == 200:
                said = answer.json()["choices"][0]["message"]["content"]
                seen.add(int(said.split()[0]))


def test_all_workers_follow_and_later_ones_begin_with_it(tmp_path: Path) -> None:
    (tmp_path / "who.py").write_text(WHO)
    config = tmp_path / "relay.toml"
    config.write_text('api_keys = ["rk-old"]' + WHO_CONFIG)
    with process(tmp_path, workers=2) as (relay, root):
        until(lambda: len(workers(relay)) == 2)
        config.write_text('api_keys = ["rk-new"]' + WHO_CONFIG)
        relay.send_signal(signal.SIGHUP)
        for _ in range(2):
            assert "changed=api_keys" in line_with(relay, " reloaded ")
        for _ in range(8):
            assert ask(root, authorization="Bearer rk-old").status_code == 401
            assert ask(root, authorization="Bearer rk-new").status_code == 200
        before = workers(relay)
        os.kill(min(before), signal.SIGKILL)
        until(lambda: len(workers(relay) - before) == 1)
        [new] = workers(relay) - before
        statuses(root, lambda found: new in found["rk-new"] and not found["rk-old"])
        relay.terminate()
        assert relay.wait(timeout=20) == 0


def test_a_bad_file_is_told_once(tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    with process(tmp_path, local="echo", workers=2) as (relay, root):
        until(lambda: len(workers(relay)) == 2)
        config.write_text("retires = 1")
        relay.send_signal(signal.SIGHUP)
        assert "did you mean" in line_with(relay, "reload_refused")
        assert ask(root).status_code == 200
        relay.terminate()
        output, _ = relay.communicate(timeout=20)
        assert "reload_refused" not in output


def test_the_admin_api_of_one_reaches_all(tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    with process(tmp_path, local="echo", workers=2, admin_key=ADMIN_KEY) as (relay, root):
        until(lambda: len(workers(relay)) == 2)
        config.write_text("retries = 1")
        answer = httpx.post(
            f"{root}/admin/reload",
            headers={"authorization": f"Bearer {ADMIN_KEY}"},
            trust_env=False,
            timeout=30,
        )
        assert answer.json() == {"changed": ["retries"], "after_restart": []}
        for _ in range(2):
            assert "changed=retries" in line_with(relay, "changed=retries")


def test_a_watched_file_reaches_all(tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    config.write_text("watch_config = true")
    with process(tmp_path, local="echo", workers=2) as (relay, _):
        until(lambda: len(workers(relay)) == 2)
        config.write_text("watch_config = true\nretries = 1")
        for _ in range(2):
            assert "changed=retries" in line_with(relay, "changed=retries")
