"""A client's connection: one request after another, several at once, other protocols."""

import asyncio
import json
import socket
from collections.abc import Iterator

import pytest
from fake_script import Gate
from running import RunningRelay
from starlette.types import Receive, Scope, Send
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri
from wire import CHUNKED, Served, Stage, Wire, body_of, check_refusal, get, post, serving, tell

from relay.web.connection import MAX_PIPELINED
from relay.web.exchange import HIGH_WATER_BYTES, Exchange


@pytest.fixture(scope="module")
def teller() -> Iterator[Served]:
    with serving(tell) as served:
        yield served


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def staged(stage: Stage) -> Iterator[Served]:
    with serving(stage.answer) as served:
        yield served
        stage.gate.open()


# Requests


def test_a_connection_serves_one_request_after_another(teller: Served) -> None:
    with Wire(teller.port) as wire:
        for number in range(3):
            reply = wire.ask(get(f"/{number}"))
            assert (reply.status, reply.body) == (200, f"GET /{number} ".encode())
            assert "connection" not in reply.headers
            assert "date" in reply.headers


@pytest.mark.parametrize(
    "request_bytes",
    [
        get("/", "connection: close"),
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    ],
)
def test_a_connection_that_serves_once_is_closed(teller: Served, request_bytes: bytes) -> None:
    with Wire(teller.port) as wire:
        assert wire.ask(request_bytes).headers["connection"] == "close"
        assert wire.rest() == b""


def test_a_request_may_come_byte_by_byte(teller: Served) -> None:
    with Wire(teller.port) as wire:
        for byte in post(b"body", "x-many: values", path="/slow?q=1"):
            wire.send(bytes([byte]))
        assert wire.read().body == b"POST /slow body"


def test_a_body_may_come_in_chunks_with_extensions_and_trailers(teller: Served) -> None:
    with Wire(teller.port) as wire:
        wire.send(CHUNKED + b"3;name=value\r\none\r\n4\r\n two\r\n0\r\nx-sum: 1\r\n\r\n")
        assert wire.read().body == b"POST / one two"
        assert wire.ask(get("/next")).body == b"GET /next "


def test_what_trails_a_body_is_no_header() -> None:
    async def names(exchange: Exchange) -> None:
        await body_of(exchange)
        exchange.answer(200, [], b",".join(name for name, _ in exchange.headers))

    with serving(names) as served, Wire(served.port) as wire:
        reply = wire.ask(CHUNKED + b"1\r\nx\r\n0\r\nauthorization: Bearer x\r\n\r\n")
        assert reply.body == b"host,transfer-encoding"


def test_a_large_body_leaves_the_connection_usable(teller: Served) -> None:
    body = b"x" * (HIGH_WATER_BYTES * 20)
    with Wire(teller.port) as wire:
        reply = wire.ask(post(body))
        assert reply.body == b"POST / " + body
        assert "connection" not in reply.headers
        assert wire.ask(get("/next")).body == b"GET /next "


# Several requests at once


def test_requests_at_once_are_answered_in_order(teller: Served) -> None:
    with Wire(teller.port) as wire:
        wire.send(get("/0") + post(b"body", path="/1") + get("/2") + post(b"ha", path="/3")[:-1])
        assert [wire.read().body for _ in range(3)] == [b"GET /0 ", b"POST /1 body", b"GET /2 "]
        wire.send(b"a")
        assert wire.read().body == b"POST /3 ha"


def test_too_many_requests_at_once_are_refused_behind_the_answers(
    staged: Served, stage: Stage
) -> None:
    with Wire(staged.port) as wire:
        wire.send(get("/") * (MAX_PIPELINED + 3))
        stage.gate.open()
        for _ in range(MAX_PIPELINED + 1):
            assert wire.read().status == 200
        assert "More requests" in check_refusal(wire)["message"]


@pytest.mark.parametrize(
    "broken",
    [
        b"NONSENSE\r\n\r\n",
        CHUNKED + b"zz\r\n",
        get("/", "upgrade: websocket", "connection: upgrade"),
        b"CONNECT h:80 HTTP/1.1\r\n\r\n",
    ],
)
@pytest.mark.parametrize("before", [1, 2])
def test_what_is_wrong_behind_a_request_is_told_behind_its_answer(
    staged: Served, stage: Stage, broken: bytes, before: int
) -> None:
    with Wire(staged.port) as wire:
        wire.send(get("/") * before + broken)
        stage.wait_for(lambda: stage.came)
        stage.gate.open()
        assert [wire.read().body for _ in range(before)] == [b"/"] * before
        check_refusal(wire)


def test_what_follows_the_last_request_is_not_read(staged: Served, stage: Stage) -> None:
    with Wire(staged.port) as wire:
        wire.send(get("/", "connection: close") + get("/more"))
        stage.gate.open()
        assert wire.read().body == b"/"
        assert wire.rest() == b""
    assert stage.came == ["/"]


def test_a_client_that_leaves_ends_what_is_answered_and_begins_nothing_more() -> None:
    stage = Stage()

    async def stream(exchange: Exchange) -> None:
        stage.came.append(exchange.path)
        exchange.on_leave = lambda: stage.note(exchange.path)
        exchange.begin(200, [])
        while not exchange.gone:
            if (wait := exchange.write(b"x" * 1024)) is not None:
                await wait
            await asyncio.sleep(0)  # writing to the lost does not wait, and this has to be told
        exchange.end()

    with serving(stream) as served:
        with Wire(served.port) as wire:
            wire.send(get("/first") + get("/second"))
            assert wire.head()[1] == 200
        stage.wait_for(lambda: stage.left)
    assert (stage.came, stage.left) == (["/first"], ["/first"])


def test_a_client_that_leaves_is_noticed_in_the_last_of_several_requests() -> None:
    stage = Stage()

    async def answer(exchange: Exchange) -> None:
        if exchange.path == "/last":
            await stage.answer(exchange)
        exchange.answer(200, [], b"")

    with serving(answer) as served:
        with Wire(served.port) as wire:
            wire.send(get("/first") + get("/last"))
            assert wire.read().status == 200
            stage.wait_for(lambda: stage.came)
        stage.wait_for(lambda: stage.left == ["/last"])
        stage.gate.open()


# Targets and scope


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        ("/plain", "/plain", "/plain", ""),
        ("//a/../b", "//a/../b", "//a/../b", ""),
        ("/%41%2fb?c=%64&e", "/A/b", "/%41%2fb", "c=%64&e"),
        ("/%ff", "/\N{REPLACEMENT CHARACTER}", "/%ff", ""),
        ("/a?b?c", "/a", "/a", "b?c"),
        ("http://h:1/abs?q", "/abs", "/abs", "q"),
        ("http://h", "/", "/", ""),
        ("*", "*", "*", ""),
    ],
)
def test_a_target_is_divided(target: str, path: str, raw_path: str, query: str) -> None:
    async def divided(exchange: Exchange) -> None:
        scope = exchange.scope
        assert scope is exchange.scope
        assert scope["path"] == exchange.path
        parts = [scope["path"], scope["raw_path"].decode(), scope["query_string"].decode()]
        exchange.answer(200, [], json.dumps(parts).encode())

    with serving(divided) as served, Wire(served.port) as wire:
        wire.send(f"OPTIONS {target} HTTP/1.1\r\nhost: h\r\n\r\n".encode())
        assert json.loads(wire.read().body) == [path, raw_path, query]


def test_a_scope_describes_the_request_and_its_state_is_its_own() -> None:
    scopes: list[Scope] = []

    async def keep(exchange: Exchange) -> None:
        exchange.scope["state"]["mine"] = len(scopes)
        scopes.append(exchange.scope)
        exchange.answer(200, [], b"")

    with serving(keep) as served, Wire(served.port) as wire:
        wire.ask(b"PUT /x HTTP/1.1\r\nHost: h\r\ncontent-length: 0\r\n\r\n")
        wire.ask(b"GET / HTTP/1.0\r\n\r\n")
        address = wire.socket.getsockname()
    first, second = scopes
    assert (first["type"], first["method"], first["http_version"]) == ("http", "PUT", "1.1")
    assert first["headers"] == [(b"host", b"h"), (b"content-length", b"0")]
    assert (first["scheme"], first["client"]) == ("http", address)
    assert first["server"] == ("127.0.0.1", served.port)
    assert (first["state"], second["state"]) == ({"mine": 0}, {"mine": 1})
    assert second["http_version"] == "1.0"


# Other protocols


async def parrot(scope: Scope, receive: Receive, send: Send) -> None:
    """A WebSocket that says again what it hears."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"{scope['path']} {message['text']}"})


def test_a_websocket_takes_the_connection_over_with_what_came_behind_its_head() -> None:
    client = ClientProtocol(parse_uri("ws://h/talk"))
    client.send_request(client.connect())
    request = b"".join(client.data_to_send())
    early = Frame(Opcode.TEXT, b"early").serialize(mask=True)
    with serving(tell, app=parrot) as served, Wire(served.port) as wire:
        assert wire.ask(get("/")).status == 200
        wire.send(request + early)
        assert wire.head()[1] == 101
        assert wire.take(13) == b"\x81\x0b/talk early"


@pytest.mark.parametrize("body", [b"", b"the body"])
@pytest.mark.parametrize("cut", [None, -3])
def test_whoever_wants_another_protocol_is_answered_in_this_one(
    teller: Served, body: bytes, cut: int | None
) -> None:
    """As `curl --http2` and Java's client ask: the body has to be read, and the leaving heard."""
    headers = ["connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABk"]
    request = post(body, *headers)
    with Wire(teller.port) as wire:
        for _ in range(2):
            wire.send(request[:cut])
            wire.send(request[len(request) if cut is None else cut :])
            assert wire.read().body == b"POST / " + body
        wire.send(request * 3)
        assert [wire.read().body for _ in range(3)] == [b"POST / " + body] * 3


def test_an_old_client_that_wants_another_protocol_stays_an_old_one(teller: Served) -> None:
    with Wire(teller.port) as wire:
        wire.send(b"GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
        assert wire.read().headers["connection"] == "close"


def test_leaving_is_heard_when_another_protocol_was_asked_for(staged: Served, stage: Stage) -> None:
    with Wire(staged.port) as wire:
        wire.send(get("/", "connection: upgrade", "upgrade: h2c"))
        stage.wait_for(lambda: stage.came)
    stage.wait_for(lambda: stage.left)


def test_a_whole_relay_refuses_with_the_same_envelope(echo: RunningRelay) -> None:
    with Wire(int(echo.root.rpartition(":")[2])) as wire:
        wire.send(b"NONSENSE\r\n\r\n")
        check_refusal(wire)


# The end of a server


def test_a_server_that_stops_closes_idle_connections_and_ends_busy_ones() -> None:
    stage = Stage()
    with serving(stage.answer) as served:
        fresh, idle, busy, piped = (Wire(served.port) for _ in range(4))
        with fresh, idle, busy, piped:
            stage.gate.open()
            idle.ask(get("/idle"))
            stage.gate = Gate()
            busy.send(get("/busy"))
            piped.send(get("/1") + get("/2"))
            stage.wait_for(lambda: len(stage.came) == 3)
            served.server.should_exit = True
            assert fresh.rest() == idle.rest() == b""
            stage.gate.open()
            assert busy.read().headers["connection"] == "close"
            assert [piped.read().body, piped.read().body] == [b"/1", b"/2"]
            assert busy.rest() == piped.rest() == b""
        served.stop()
    assert not served.connections


def test_half_a_connection_is_closed(staged: Served, stage: Stage) -> None:
    with Wire(staged.port) as wire:
        wire.send(get("/"))
        stage.wait_for(lambda: stage.came)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.rest() == b""
    stage.wait_for(lambda: stage.left)
