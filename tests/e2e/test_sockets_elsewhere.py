"""WebSockets of `create_app` in somebody else's server: what holds there as under our own."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ledger_file
import pytest
import uvicorn
from fake_realtime import FakeRealtime
from fake_upstream import FakeUpstream
from sockets import answer, ask, close_code, stalling, told
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from relay import Settings, create_app
from relay.serving import listen

KEY = "rk-elsewhere-0123456789"
BEARER = {"additional_headers": {"authorization": f"Bearer {KEY}"}}


@contextmanager
def uvicorn_serving(**settings: Any) -> Iterator[tuple[str, uvicorn.Server]]:
    app = create_app(Settings(**{"database_url": "none", "local": "echo", **settings}))
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}", server
    finally:
        server.should_exit = True
        thread.join()


def dial(root: str, path: str = "/ws", **more: Any) -> ClientConnection:
    return connect(root + path, proxy=None, **more)


def test_chats_keys_and_caps_are_the_same() -> None:
    caps = {"max_frame_bytes": 5000, "frames_per_s": 5, "max_open": 2}
    with uvicorn_serving(api_keys=[KEY], websocket=caps) as (root, _):
        with pytest.raises(InvalidStatus) as refused, dial(root, subprotocols=["relay", "key.no"]):
            pass
        assert refused.value.response.status_code == 401
        assert b"invalid_api_key" in (refused.value.response.body or b"")
        with dial(root) as first, dial(root, **BEARER) as second:
            first.send(json.dumps({"key": KEY}))
            for socket in (first, second):
                ask(socket, "a")
                assert answer(socket)[-1] == {"type": "done", "id": "a"}
            with dial(root, **BEARER) as third:
                assert close_code(third) == 1013
            first.send("\u4e16" * 1700)  # more bytes than characters
            assert close_code(first) == 1009
            for _ in range(6):
                second.send("{}")
            assert close_code(second) == 1008


def test_a_realtime_session_passes() -> None:
    with (
        FakeRealtime() as realtime,
        uvicorn_serving(upstream_url=realtime.url, websocket={"max_frame_bytes": 5000}) as (
            root,
            _,
        ),
        dial(root, "/v1/realtime?model=m", subprotocols=["realtime"]) as session,
    ):
        assert session.subprotocol == "realtime"
        assert told(session) == {"type": "session.created"}
        for message in ("hello", b"\x00" * 5000):
            session.send(message)
            assert session.recv(timeout=20) == message
        session.send(b"\x00" * 5001)
        assert close_code(session) == 1009
        realtime.wait_for(lambda: realtime.closes)


def test_its_shutdown_ends_answers_which_are_in_the_ledger(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    ledger = tmp_path / "relay.db"
    upstream.answer(stalling("begun"))
    settings = {"upstream_url": upstream.url, "database_url": ledger_file.url(ledger)}
    with uvicorn_serving(**settings) as (root, server), dial(root) as socket:
        ask(socket, "a")
        assert told(socket)["type"] == "chunk"
        server.should_exit = True
        assert close_code(socket) == 1012
        upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
    [row] = ledger_file.rows(ledger)
    assert row.status == 499


def test_a_server_that_cannot_say_why_refuses_all_the_same() -> None:
    app = create_app(Settings(database_url="none", local="echo", api_keys=[KEY]))
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/realtime", "raw_path": b"/v1/realtime"}
    more = {"headers": [], "subprotocols": [], "query_string": b"", "client": None}
    asyncio.run(app({**scope, **more}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
