"""One row of the ledger for each request, however it ended; what the rows say of each."""

import asyncio
import json
import resource
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import ledger_file
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay, chat, process
from websockets.sync.client import connect

from relay.stores import LedgerRow

KEY = "rk-canary-0123456789abcdef"
UPSTREAM_KEY = "sk-canary-0123456789abcdef"
BEARER = {"authorization": f"Bearer {KEY}"}
STREAM = [(b"content-type", b"text/event-stream")]
PRICES = [{"model": "*", "upstream": "a", "prompt_usd": 1, "completion_usd": 2}]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
def backup() -> Iterator[FakeUpstream]:
    with FakeUpstream.in_thread() as fake:
        yield fake


@pytest.fixture
def relay(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream, ledger: Path
) -> RunningRelay:
    """Two upstreams, a local model, models that hedge and that share; one client's key."""

    def model(name: str, *targets: str, **more: Any) -> dict[str, Any]:
        return {"id": name, "targets": [{"upstream": target} for target in targets], **more}

    relay = start_relay(
        upstreams=[
            {"name": "a", "base_url": upstream.url, "api_keys": [UPSTREAM_KEY]},
            {"name": "b", "base_url": backup.url},
        ],
        models=[
            model("m", "a"),
            model("late", "b", "a", hedge_after_s=0.05),
            model("shared", "a", single_flight=True),
            {"id": "here", "targets": [{"local": True}]},
        ],
        local="echo",
        api_keys=KEY,
        prices=[*PRICES, {"model": "*", "upstream": "b"}],
        database_url=ledger_file.url(ledger),
        retries=0,
    )
    relay.http.headers.update(BEARER)
    return relay


def whole(text: str = "ab", **more: Any) -> Script:
    return Script(body=transcripts.chat_body(text, **more))


def streamed(*pieces: str, usage: Any = None, **more: Any) -> Script:
    events = transcripts.chat_stream(pieces, usage=usage)
    return Script(pieces=events, headers=STREAM, **more)


def tokens(row: LedgerRow) -> tuple[int | None, int | None, bool]:
    return row.prompt_tokens, row.completion_tokens, bool(row.estimated)


def leave(relay: RunningRelay, when: Callable[[], None], **fields: Any) -> None:
    """Ask, and hang up as soon as `when` returns."""

    async def ask_and_leave() -> None:
        async with httpx.AsyncClient(timeout=30, trust_env=False, headers=BEARER) as client:
            url = f"{relay.url}/chat/completions"
            asking = asyncio.create_task(client.post(url, json=chat(**fields)))
            await asyncio.to_thread(when)
            asking.cancel()
            await asyncio.wait([asking])

    asyncio.run(ask_and_leave())


def test_3_every_request_has_one_row(
    relay: RunningRelay, upstream: FakeUpstream, backup: FakeUpstream, ledger: Path
) -> None:
    # answered, whole and streamed
    upstream.answer(whole())
    assert relay.ask().status_code == 200
    upstream.answer(streamed("a", "b", usage=transcripts.USAGE))
    assert relay.ask(stream=True).status_code == 200
    # failed: by the upstream, for want of a model, for a body that is none
    upstream.answer(Script(status=500, body=b"{}"))
    assert relay.ask().status_code == 500
    assert relay.ask(model="nobody's").status_code == 404
    assert relay.http.post("/v1/chat/completions", json={"model": 1}).status_code == 400
    # hedged, whole and streamed
    backup.answer(Script(gate=Gate()))
    upstream.answer(whole())
    assert relay.ask(model="late").status_code == 200
    upstream.answer(streamed("a", usage=transcripts.USAGE))
    assert relay.ask(model="late", stream=True).status_code == 200
    # left: before the head, in the middle of a stream
    upstream.answer(Script(gate=Gate()))
    seen = len(upstream.requests)
    leave(relay, lambda: upstream.wait_for(lambda: len(upstream.requests) > seen))
    upstream.answer(streamed("a" * 40, "b", piece_gates={2: Gate()}))
    with relay.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        pieces = answer.iter_bytes()
        while b"a" * 40 not in next(pieces):
            pass
    # local, by Anthropic's API, passed through, on a socket
    assert relay.ask(model="here").status_code == 200
    assert relay.ask(model="here", stream=True).status_code == 200
    upstream.answer(whole())
    message = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    assert relay.http.post("/v1/messages", json=message).status_code == 200
    assert relay.http.post("/v1/embeddings", json={"model": "m", "input": "x"}).status_code == 200
    upstream.answer(streamed("a", "b"))
    with connect(relay.root.replace("http", "ws") + "/ws", additional_headers=BEARER) as socket:
        socket.send(json.dumps({"query": "x", "model": "m"}))
        while json.loads(socket.recv(timeout=20))["status"] != 200:
            pass
    # what is no call of a model
    relay.http.get("/v1/models").raise_for_status()
    relay.http.get("/healthz").raise_for_status()
    assert relay.http.get("/v1/chat/completions").status_code == 405

    rows = ledger_file.rows_of(relay, ledger)
    assert Counter((row.path.rpartition("/")[2], row.status) for row in rows) == {
        ("completions", 200): 6,
        ("completions", 500): 1,
        ("completions", 404): 1,
        ("completions", 400): 1,
        ("completions", 499): 2,
        ("messages", 200): 1,
        ("embeddings", 200): 1,
        ("ws", 200): 1,
    }
    assert len({row.request_id for row in rows}) == len(rows)
    assert [row.lost_attempts for row in rows if row.model_asked == "late"] == [1, 1]
    assert {row.attempts for row in rows if row.model_asked == "late"} == {2}
    assert all(row.error for row in rows if row.status != 200)


def test_tokens_are_as_they_were_told_and_else_an_estimate(
    relay: RunningRelay, upstream: FakeUpstream, ledger: Path
) -> None:
    text = "x" * 400
    upstream.answer(whole())
    relay.ask()
    upstream.answer(whole(text, usage=None))
    relay.ask()
    upstream.answer(streamed("a", usage=transcripts.USAGE))
    relay.ask(stream=True)
    upstream.answer(streamed(text))
    relay.ask(stream=True)
    relay.ask("one two three", model="here")
    relay.ask("one two three", model="here", stream=True)
    told, unknown, in_stream, cut, here, here_streamed = ledger_file.rows_of(relay, ledger)
    prompt = unknown.prompt_tokens or 0
    assert tokens(told) == tokens(in_stream) == (3, 5, False)
    assert told.cost_nano == 3 * 1000 + 5 * 2000
    assert tokens(unknown) == (prompt, 100, True)
    assert 10 < prompt < 30
    assert unknown.cost_nano == prompt * 1000 + 200_000
    assert tokens(cut)[1:] == (100, True)
    assert (here.upstream, here.cost_nano) == ("local", 0)
    assert tokens(here) == tokens(here_streamed)
    assert here.estimated == 0


def test_what_a_client_gave_up_is_estimated(
    relay: RunningRelay, upstream: FakeUpstream, ledger: Path
) -> None:
    upstream.answer(Script(gate=Gate()))
    leave(relay, lambda: upstream.wait_for(lambda: upstream.requests))
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
    upstream.answer(streamed("a" * 40, "b", piece_gates={2: Gate()}))
    with relay.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        pieces = answer.iter_bytes()
        while b"a" * 40 not in next(pieces):
            pass
    before, middle = ledger_file.rows_of(relay, ledger)
    assert (before.status, middle.status) == (499, 499)
    assert (before.error, middle.error) == ("client_left", "client_left")
    assert (before.attempts, before.upstream) == (1, "a")
    assert tokens(before) == (before.prompt_tokens, 0, True)
    assert tokens(middle) == (middle.prompt_tokens, 10, True)
    assert before.prompt_tokens
    assert middle.first_token_s is not None
    assert before.cost_nano == before.prompt_tokens * 1000


def test_one_of_those_who_shared_a_call_has_its_cost(
    relay: RunningRelay, upstream: FakeUpstream, ledger: Path
) -> None:
    gate = Gate()
    upstream.answer(Script(body=transcripts.chat_body("x"), gate=gate))

    async def ask_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=30, trust_env=False, headers=BEARER) as client:
            url = f"{relay.url}/chat/completions"
            asking = [
                asyncio.create_task(client.post(url, json=chat(model="shared"))) for _ in range(5)
            ]
            await asyncio.to_thread(_until, lambda: len(relay.relay.presence) == 5)
            gate.open()
            return await asyncio.gather(*asking)

    replies = asyncio.run(ask_all())
    assert {reply.headers["x-relay-attempts"] for reply in replies} == {"1"}
    rows = ledger_file.rows_of(relay, ledger)
    assert sorted(row.attempts for row in rows) == [0, 0, 0, 0, 1]
    assert sum(row.prompt_tokens or 0 for row in rows) == 3
    assert sum(row.cost_nano or 0 for row in rows) == 13_000
    assert {(row.upstream, row.model_served, row.status) for row in rows} == {("a", "shared", 200)}


def test_the_last_to_leave_a_shared_call_stands_for_it(
    relay: RunningRelay, upstream: FakeUpstream, ledger: Path
) -> None:
    upstream.answer(Script(gate=Gate()))
    leave(relay, lambda: upstream.wait_for(lambda: upstream.requests), model="shared")
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
    [row] = ledger_file.rows_of(relay, ledger)
    assert (row.status, row.attempts, row.upstream, row.estimated) == (499, 1, "a", 1)


def test_wrong_keys_leave_no_rows_and_no_key_is_in_the_file(
    relay: RunningRelay, upstream: FakeUpstream, ledger: Path
) -> None:
    upstream.answer(whole())
    relay.ask()
    upstream.answer(Script(status=401, body=UPSTREAM_KEY.encode()))
    relay.ask()
    wrong = {"authorization": "Bearer rk-wrong-canary-0123456789"}
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/embeddings"):
        assert relay.http.post(path, json=chat(), headers=wrong).status_code == 401
    ok, refused = ledger_file.rows_of(relay, ledger)
    assert (ok.status, refused.status, refused.error) == (200, 502, "upstream_auth")
    kept = b"".join(path.read_bytes() for path in ledger.parent.glob("relay.db*"))
    assert b"canary" not in kept


def test_a_stopped_or_left_turn_of_a_socket_has_its_row(
    relay: RunningRelay, upstream: FakeUpstream, ledger: Path
) -> None:
    where = relay.root.replace("http", "ws") + "/ws"
    for stop in (True, False):
        upstream.answer(streamed("a" * 40, "b", piece_gates={2: Gate()}))
        with connect(where, additional_headers=BEARER) as socket:
            socket.send(json.dumps({"query": "x", "model": "m"}))
            assert json.loads(socket.recv(timeout=20))["status"] == 202
            if stop:
                socket.send(json.dumps({"type": "stop"}))
                assert json.loads(socket.recv(timeout=20))["status"] == 200
    upstream.answer(Script(status=500, body=b"{}"))
    with connect(where, additional_headers=BEARER) as socket:
        socket.send(json.dumps({"query": "x", "model": "m"}))
        assert json.loads(socket.recv(timeout=20))["status"] == 500
    _until(lambda: relay.relay._now.users.count == 0)
    stopped, left, failed = ledger_file.rows_of(relay, ledger)
    for row in (stopped, left):
        assert (row.status, row.error, row.path) == (499, "client_left", "/ws")
        assert tokens(row)[1:] == (10, True)
    assert (failed.status, failed.error, failed.cost_nano) == (500, "upstream_error", 0)


def test_calls_that_are_passed_on_have_their_model_and_tokens(
    start_relay: StartRelay, upstream: FakeUpstream, ledger: Path
) -> None:
    relay = start_relay(
        upstreams=[{"name": "a", "base_url": upstream.url}],
        prices=PRICES,
        database_url=ledger_file.url(ledger),
        passthrough="*",
    )
    vector = {"object": "list", "data": [0.5] * 5000, "model": "e-1"}
    body = json.dumps(vector | {"usage": {"prompt_tokens": 7, "total_tokens": 7}})
    upstream.answer(Script(body=body.encode(), cuts=[9000, 18_000]))
    relay.http.post("/v1/embeddings", json={"model": "e", "input": "x"}).raise_for_status()
    told = {"input_tokens": 2, "output_tokens": 3}
    events = [
        transcripts.event({"type": "response.output_text.delta", "delta": "x"}),
        transcripts.event({"type": "response.completed", "response": {"usage": told}}),
    ]
    upstream.answer(Script(pieces=events, headers=STREAM))
    relay.http.post("/v1/responses", json={"model": "r", "stream": True}).raise_for_status()
    upstream.answer(Script(body=json.dumps({"usage": told}).encode()))
    relay.http.get("/v1/responses/resp_1").raise_for_status()
    relay.http.post("/v1/audio/transcriptions", files={"file": b"x" * 100}).raise_for_status()
    upstream.answer(Script(body=b"Hello.", headers=[(b"content-type", b"text/plain")]))
    sound = {"file": ("a.wav", b"x" * 4000)}
    relay.http.post("/v1/audio/transcriptions", data={"model": "w"}, files=sound)
    embedded, responded, read, heard, silent = ledger_file.rows_of(relay, ledger)
    assert (silent.model_asked, *tokens(silent), silent.cost_nano) == ("w", None, None, False, None)
    assert (embedded.model_asked, *tokens(embedded)) == ("e", 7, 0, False)
    assert (responded.model_asked, *tokens(responded)) == ("r", 2, 3, False)
    assert (responded.stream, responded.cost_nano) == (1, 8000)
    assert tokens(read) == (None, None, False)
    assert tokens(heard) == (2, 3, False)


def test_a_kill_loses_no_more_than_what_was_not_written_yet(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    upstream.answer(whole())
    ledger = tmp_path / "relay.db"
    settings = {
        "upstream_url": upstream.url,
        "database_url": ledger_file.url(ledger),
        "ledger_flush_s": 0.1,
    }
    with process(tmp_path, **settings) as (relay, root):
        with httpx.Client(base_url=root, trust_env=False, timeout=30) as client:
            for _ in range(30):
                client.post("/v1/chat/completions", json=chat()).raise_for_status()
            _until(lambda: len(ledger_file.rows(ledger)) == 30)
            for _ in range(5):
                client.post("/v1/chat/completions", json=chat()).raise_for_status()
        relay.kill()
        relay.wait()
    found = ledger_file.rows(ledger)
    assert 30 <= len(found) <= 35
    with sqlite3.connect(ledger) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_while_the_disk_is_full_calls_are_answered_and_their_rows_come_later(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    upstream.answer(whole())
    ledger = tmp_path / "relay.db"
    settings = {
        "upstream_url": upstream.url,
        "database_url": ledger_file.url(ledger),
        "ledger_flush_s": 0.05,
    }
    with (
        process(tmp_path, **settings) as (relay, root),
        httpx.Client(base_url=root, trust_env=False, timeout=30) as client,
    ):
        client.post("/v1/chat/completions", json=chat()).raise_for_status()
        _until(lambda: len(ledger_file.rows(ledger)) == 1)
        _, hard = resource.prlimit(relay.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (1, hard))
        for _ in range(10):
            client.post("/v1/chat/completions", json=chat()).raise_for_status()
        assert relay.stdout is not None
        while "ledger_unavailable" not in (line := relay.stdout.readline()):
            assert line
        assert client.get("/readyz").status_code == 200
        resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (hard, hard))
        while "ledger_available" not in (line := relay.stdout.readline()):
            assert line
        _until(lambda: len(ledger_file.rows(ledger)) == 11)


def test_a_full_queue_holds_requests_up_and_refuses_none(
    start_relay: StartRelay,
    upstream: FakeUpstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.ledger.ledger.ROOM_S", 0.01)
    monkeypatch.setattr("relay.ledger.ledger.CLOSE_S", 0.01)
    away = tmp_path / "not there" / "relay.db"
    relay = start_relay(
        upstream_url=upstream.url, database_url=ledger_file.url(away), api_keys=["k"]
    )
    bearer = {"authorization": "Bearer k"}
    relay.http.headers.update(bearer)
    monkeypatch.setattr(relay.relay.ledger, "_max_rows", 2)
    upstream.answer(whole())
    for _ in range(4):
        relay.ask().raise_for_status()
    upstream.answer(streamed("a", "b"))
    with connect(relay.root.replace("http", "ws") + "/ws", additional_headers=bearer) as socket:
        socket.send(json.dumps({"query": "x", "model": "m"}))
        while json.loads(socket.recv(timeout=20))["status"] != 200:
            pass
    relay.http.get("/healthz").raise_for_status()
    relay.stop()
    assert relay.relay.ledger.lost == 5


def _until(happens: Callable[[], bool]) -> None:
    """Look until it happens, in another thread or process, which ring no bell."""
    deadline = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.005)
