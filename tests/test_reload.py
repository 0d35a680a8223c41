"""What a reload may change, and what becomes of a relay in this process that is reloaded."""

import gc
import json
import weakref
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay, chat
from waiting import until
from websockets.sync.client import connect

from relay.reload import Reloader, Sources, Supervision, differing, settle
from relay.settings import Settings, SettingsError

ADMIN_KEY = "rk-admin-canary-0123"
BEARER = {"authorization": f"Bearer {ADMIN_KEY}"}

ENDLESS = """
import threading

class Endless:
    def generate(self, prompt):
        while True:
            yield "again "
            threading.Event().wait(0.01)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and nothing remembered."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RELAY_DATABASE_URL", "none")
    return tmp_path


@pytest.fixture
def relay(folder: Path, start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    """A relay in front of the fake upstream, which reads the folder's files when it reloads."""
    running = start_relay(upstream_url=upstream.url, admin_key=ADMIN_KEY)
    Reloader(running.relay, Sources({"admin_key": ADMIN_KEY}))
    return running


def reload(relay: RunningRelay, headers: dict[str, str] | None = None) -> httpx.Response:
    return relay.http.post("/admin/reload", headers=BEARER if headers is None else headers)


def test_only_what_was_opened_at_the_start_needs_a_restart() -> None:
    running, wanted = Settings(port=8001), Settings(port=8002, workers=2, retries=5)
    settings, after_restart = settle(running, wanted)
    assert after_restart == ("port", "workers")
    assert (settings.port, settings.workers, settings.retries) == (8001, 1, 5)
    assert differing(running, settings) == ("retries",)


def test_keys_cannot_be_dropped_while_the_old_address_is_open_to_others() -> None:
    running = Settings(host="0.0.0.0", api_keys=("rk-1",))
    with pytest.raises(SettingsError, match=r"open to everyone on 0\.0\.0\.0"):
        settle(running, Settings(host="127.0.0.1"))


def test_the_admin_key_reloads_and_hears_what_changed(
    relay: RunningRelay, folder: Path, upstream: FakeUpstream
) -> None:
    text = f'upstream_url = "{upstream.url}"\nshutdown_grace_s = 0.2\nretries = 5\nport = 8999'
    (folder / "relay.toml").write_text(text)
    answer = reload(relay)
    assert answer.status_code == 200
    assert answer.json() == {"changed": ["retries"], "after_restart": ["port"]}
    assert relay.relay.settings.retries == 5
    assert reload(relay).json()["changed"] == []


def test_what_is_known_of_an_upstream_is_kept_as_long_as_it_stays_the_same(
    relay: RunningRelay, folder: Path, upstream: FakeUpstream
) -> None:
    relay.ask()
    known = relay.relay.router.health["upstream"]
    assert known.calls == 1
    text = f'upstream_url = "{upstream.url}"\nretries = 5'
    (folder / "relay.toml").write_text(text)
    reload(relay)
    assert relay.relay.router.health["upstream"] is known
    (folder / "relay.toml").write_text(text + "\ntimeouts = { idle_s = 7 }")
    reload(relay)
    assert relay.relay.router.health["upstream"] is not known


def test_a_reload_keeps_the_side_and_counts_no_move(
    relay: RunningRelay, folder: Path, upstream: FakeUpstream
) -> None:
    def mode(method: str = "GET", **body: str) -> dict[str, Any]:
        answer = relay.http.request(method, "/admin/mode", json=body or None, headers=BEARER)
        return cast(dict[str, Any], answer.json())

    text = f'upstream_url = "{upstream.url}"\nlocal = "echo"\n'
    (folder / "relay.toml").write_text(text)
    reload(relay)
    for wanted in ("local", "auto", "local"):
        before = mode("PUT", mode=wanted)
    assert (before["serving"], before["moves"]) == ("local", {"remote": 1, "local": 2})
    (folder / "relay.toml").write_text(text + "retries = 5")
    assert reload(relay).json()["changed"] == ["retries"]
    after = mode()
    assert {**after, "kept": True} == before
    assert relay.ask().headers["x-relay-upstream"] == "local"


def test_an_open_socket_keeps_nothing_of_the_configuration_it_began_with(
    relay: RunningRelay, folder: Path
) -> None:
    with connect(relay.root.replace("http", "ws") + "/ws", proxy=None) as socket:
        socket.send(json.dumps({"query": "hello", "model": "m"}))
        while json.loads(socket.recv())["status"] != 200:
            pass
        old = weakref.ref(relay.relay.router)
        (folder / "relay.toml").write_text("retries = 5")
        assert "retries" in reload(relay).json()["changed"]

        def gone() -> bool:  # what is left of the reload's own request goes with the next ones
            relay.http.get("/healthz")
            gc.collect()
            return old() is None

        until(gone)


def test_a_wrong_file_is_409_with_the_reason(relay: RunningRelay, folder: Path) -> None:
    before = relay.relay.settings
    (folder / "relay.toml").write_text("retires = 5")
    answer = reload(relay)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "reload_refused"
    assert "did you mean retries?" in answer.json()["error"]["message"]
    assert relay.relay.settings is before


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer rk-other"},
        {"authorization": f"Basic {ADMIN_KEY}"},
        {"authorization": "Bearer \u00e9"},
    ],
)
def test_nobody_else_reloads(relay: RunningRelay, headers: dict[str, str]) -> None:
    given = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = relay.http.post("/admin/reload", headers=given)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_two_bearers_are_none(relay: RunningRelay) -> None:
    answer = relay.http.post("/admin/reload", headers=[*BEARER.items(), *BEARER.items()])
    assert answer.status_code == 401


def test_without_an_admin_key_there_is_nothing(remote: RunningRelay) -> None:
    assert reload(remote).status_code == 404


def test_the_admin_key_can_be_changed(relay: RunningRelay, folder: Path) -> None:
    Reloader(relay.relay, Sources())
    (folder / ".env").write_text("RELAY_ADMIN_KEY=rk-next\nRELAY_LOCAL=echo")
    assert "admin_key" in reload(relay).json()["changed"]
    assert reload(relay).status_code == 401
    assert reload(relay, {"authorization": "Bearer rk-next"}).status_code == 200


def test_settings_that_a_program_gave_cannot_be_read_again(
    start_relay: StartRelay, caplog: pytest.LogCaptureFixture
) -> None:
    running = start_relay(local="echo", admin_key=ADMIN_KEY)
    assert "given by a program" in reload(running).json()["error"]["message"]
    Reloader(running.relay, None)
    assert "given by a program" in reload(running).json()["error"]["message"]
    assert Supervision(Settings(), None, local=None, opened=None).renew() is None
    assert caplog.text.count("reload_refused") == 2


def test_an_answer_that_outlives_every_limit_is_ended_with_its_backend(
    folder: Path, start_relay: StartRelay
) -> None:
    (folder / "endless_model.py").write_text(ENDLESS)
    running = start_relay(
        upstream_url="http://127.0.0.1:9/v1",
        timeouts={"total_s": 0.5},
        models=[{"id": "m", "targets": [{"local": True}]}],
        admin_key=ADMIN_KEY,
    )
    Reloader(running.relay, Sources({"admin_key": ADMIN_KEY}))
    config = 'local = "endless_model:Endless"\n[timeouts]\ntotal_s = 0.5\n'
    (folder / "relay.toml").write_text(config)
    assert "local" in reload(running).json()["changed"]
    with running.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        pieces = answer.iter_bytes()
        next(pieces)
        (folder / "relay.toml").write_text('local = "echo"')
        assert "local" in reload(running).json()["changed"]
        rest = b"".join(pieces)
    assert b"[DONE]" not in rest
    assert b"error" in rest


def test_the_parent_of_workers_takes_what_is_right_and_keeps_it_from_what_is_not(
    folder: Path,
) -> None:
    supervision = Supervision(Settings(), Sources(), local=None, opened=None)
    (folder / "relay.toml").write_text('local = "echo"\nretries = 5\nport = 1')
    renewed = supervision.renew()
    assert renewed is not None
    assert (renewed.retries, renewed.port) == (5, 8000)
    (folder / "relay.toml").write_text('local = "nothing"')
    assert supervision.renew() is None
    assert supervision.settings is renewed


def test_an_unreadable_env_file_names_no_files(folder: Path) -> None:
    assert Sources().files() == (folder / "relay.toml", folder / ".env")
    (folder / ".env").write_text("RELAY_CONFIG=other.toml")
    assert Sources().files() == (folder / "other.toml", folder / ".env")
    (folder / ".env").write_bytes(b"\xff")
    assert Sources().files() == ()
