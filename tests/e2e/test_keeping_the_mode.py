"""A mode set by hand outlives the process, and reaches every worker."""

import json
from pathlib import Path

import httpx
from fake_upstream import FakeUpstream
from running import chat, process

KEY = "ak-admin-0123456789"
ADMIN = {"authorization": f"Bearer {KEY}"}


def put(root: str, mode: str) -> None:
    state = httpx.put(
        f"{root}/admin/mode", json={"mode": mode}, headers=ADMIN, trust_env=False
    ).json()
    assert (state["mode"], state["kept"]) == (mode, True)


def until_all_say(root: str, mode: str, times: int = 20) -> None:
    """Ask on connections of their own, which all workers take, until nobody differs any more."""
    agreed = 0
    while agreed < times:
        state = httpx.get(f"{root}/admin/mode", headers=ADMIN, trust_env=False).json()
        agreed = agreed + 1 if state["mode"] == mode else 0


def test_all_workers_follow_and_a_restart_changes_nothing(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    settings = {"upstream_url": upstream.url, "local": "echo", "admin_key": KEY}
    kept = tmp_path / "relay.state.json"
    with process(tmp_path, **settings, workers=2) as (relay, root):
        until_all_say(root, "auto")
        put(root, "local")
        until_all_say(root, "local")
        relay.terminate()
        output, _ = relay.communicate(timeout=20)
        assert "mode_changed mode=local serving=local" in output
        assert "Traceback" not in output
    assert json.loads(kept.read_text()) == {"mode": "local"}
    with process(tmp_path, **settings, workers=2) as (_, root):
        until_all_say(root, "local")
        answer = httpx.post(f"{root}/v1/chat/completions", json=chat(), trust_env=False)
        assert answer.headers["x-relay-upstream"] == "local"
        assert upstream.requests == []
        put(root, "auto")
        until_all_say(root, "auto")
    assert not kept.exists()


def test_a_broken_file_is_a_warning_and_no_failed_start(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    (tmp_path / "relay.state.json").write_text("{")
    with process(tmp_path, upstream_url=upstream.url, admin_key=KEY) as (relay, root):
        until_all_say(root, "auto", times=1)
        relay.terminate()
        output, _ = relay.communicate(timeout=20)
    assert relay.returncode == 0
    assert "WARNING mode_unreadable file=relay.state.json" in output
