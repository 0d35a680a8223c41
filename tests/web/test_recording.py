"""Bodies are kept for the keys whose policy asks for that, and for no others."""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import ledger_file
import pytest
import transcripts
from fake_script import Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay, chat
from websockets.sync.client import connect

from relay.keys import Keyring
from relay.types import Identity
from relay.web import recording

STREAM = [(b"content-type", b"text/event-stream")]
SECRET = "sk-canary-0123456789"


def kept(relay: RunningRelay, path: Path) -> list[tuple[bytes, bytes]]:
    relay.stop()
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT request, response FROM relay_bodies ORDER BY at").fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls has a policy that keeps bodies."""

    def identify(self: Keyring, headers: Iterable[tuple[bytes, bytes]], *_: Any) -> Identity:
        return Identity("watched", key_id="key_1", keep_bodies=True)

    monkeypatch.setattr(Keyring, "identify", identify)


@pytest.fixture
def relay(start_relay: StartRelay, upstream: FakeUpstream, path: Path) -> RunningRelay:
    return start_relay(
        upstream_url=upstream.url,
        local="echo",
        models=[
            {"id": "m", "targets": [{"upstream": "upstream", "model": "other"}]},
            {"id": "here", "targets": [{"local": True}]},
        ],
        database_url=ledger_file.url(path),
    )


@pytest.mark.usefixtures("keeping")
def test_what_was_asked_and_answered_is_kept_byte_for_byte_but_for_keys(
    relay: RunningRelay, upstream: FakeUpstream, path: Path
) -> None:
    whole = Script(body=transcripts.chat_body("ab"))
    events = transcripts.chat_stream(["a", "b"])
    upstream.answer(whole)
    body = json.dumps(chat(f"my key is {SECRET}"), indent=1)
    headers = {"content-type": "application/json"}
    relay.http.post("/v1/chat/completions", content=body, headers=headers)
    upstream.answer(Script(pieces=events, headers=STREAM))
    relay.ask(stream=True)
    local = relay.ask(model="here", stream=True)
    with connect(relay.root.replace("http", "ws") + "/ws") as socket:
        socket.send(json.dumps({"query": "question", "model": "m"}))
        while json.loads(socket.recv(timeout=20))["status"] != 200:
            pass
    plain, streamed, here, turn = kept(relay, path)
    assert plain == (body.replace(SECRET, "[redacted]").encode(), whole.body)
    assert streamed[1] == b"".join(events)
    assert here[1] == local.content
    assert b"question" in turn[0]
    assert turn[1] == b"ab"


@pytest.mark.usefixtures("keeping")
def test_what_is_long_is_cut(
    relay: RunningRelay, upstream: FakeUpstream, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MAX_BYTES", 100)
    body = transcripts.chat_body("x" * 200_000)
    upstream.answer(Script(body=body))
    assert relay.ask("y" * 200_000).content == body
    [(request, response)] = kept(relay, path)
    assert (len(request), len(response)) == (100, 100)
    assert body.startswith(response)


@pytest.mark.usefixtures("keeping")
def test_a_client_that_leaves_is_noticed_as_ever(
    relay: RunningRelay, upstream: FakeUpstream, path: Path
) -> None:
    events = transcripts.chat_stream(["a", "b"])
    upstream.answer(Script(pieces=events, headers=STREAM, stall_after=2))
    with relay.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        next(answer.iter_bytes())
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None, timeout_s=5)
    [(_, response)] = kept(relay, path)
    assert response
    assert b"".join(events).startswith(response)


def test_nobody_elses_bodies_are_kept(
    relay: RunningRelay, upstream: FakeUpstream, path: Path
) -> None:
    upstream.answer(Script(body=transcripts.chat_body("ab")))
    relay.ask().raise_for_status()
    assert kept(relay, path) == []
