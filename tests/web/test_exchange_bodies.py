"""How fast bodies are read and written: as fast as the other side takes them."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from fake_script import Bell, Gate
from wire import Wire, serving

from relay.web.exchange import HIGH_WATER_BYTES, Exchange

GET = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nhost: h\r\n\r\n"


# The request's body


def post(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    lines = [
        b"POST / HTTP/1.1",
        b"content-length: %d" % (len(body) if length is None else length),
        *headers,
    ]
    return b"\r\n".join([*lines, b"", body])


@pytest.mark.parametrize("body", [b"", b"small", b"x" * (HIGH_WATER_BYTES + 1)])
def test_a_body_that_is_here_is_taken_at_once(body: bytes) -> None:
    async def take(exchange: Exchange) -> None:
        taken = exchange.take()
        if taken is None:  # it came in several pieces
            taken = b""
            more = True
            while more:
                message = await exchange.receive()
                taken, more = taken + message["body"], message["more_body"]
        exchange.answer(200, [], taken)

    with serving(take) as served, Wire(served.port) as wire:
        for _ in range(2):
            assert wire.ask(post(body)).body == body


def test_a_body_that_is_half_here_is_not_taken() -> None:
    bell = Bell()
    untaken: list[Exchange] = []

    async def take(exchange: Exchange) -> None:
        assert exchange.take() is None
        untaken.append(exchange)
        bell.ring()
        pieces = []
        while not pieces or pieces[-1]["more_body"]:
            pieces.append(await exchange.receive())
        exchange.answer(200, [], b"".join(piece["body"] for piece in pieces))

    with serving(take) as served, Wire(served.port) as wire:
        wire.send(post(b"half", length=8))
        bell.wait_for(lambda: untaken)
        wire.send(b"more")
        assert wire.read().body == b"halfmore"


def test_who_waits_for_leave_to_send_gets_it_once() -> None:
    async def read(exchange: Exchange) -> None:
        body = b""
        while (message := await exchange.receive())["more_body"]:
            body += message["body"]
        exchange.answer(200, [], body + message["body"])

    with serving(read) as served, Wire(served.port) as wire:
        for _ in range(2):
            wire.send(post(b"", b"Expect: 100-Continue", length=2))
            assert wire.read().status == 100
            wire.send(b"a")
            wire.send(b"b")
            assert wire.read().body == b"ab"


def test_no_leave_to_send_stands_in_an_answer() -> None:
    async def hasty(exchange: Exchange) -> None:
        exchange.begin(200, [(b"content-length", b"4")])
        exchange.write(b"no")
        assert (await exchange.receive())["body"] == b"ab"
        exchange.end(b"pe")

    with serving(hasty) as served, Wire(served.port) as wire:
        wire.send(post(b"", b"expect: 100-continue", length=2))
        assert wire.head()[1] == 200
        wire.send(b"ab")
        assert wire.take(4) == b"nope"


def test_a_body_that_nobody_receives_is_not_read_on() -> None:
    """So what waits in memory is bounded by the high water and one read."""
    bell, gate = Bell(), Gate()
    waiting: list[int] = []

    async def idle(exchange: Exchange) -> None:
        await gate.passed()
        total = 0
        while True:
            message = await exchange.receive()
            waiting.append(len(message["body"]))
            total += len(message["body"])
            if not message["more_body"]:
                break
        exchange.answer(200, [], b"%d" % total)
        bell.ring()

    size = 32 * 1024 * 1024
    with serving(idle) as served, Wire(served.port) as wire:
        wire.send(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size)
        wire.socket.setblocking(False)
        sent = 0
        piece = b"x" * 65536
        with suppress(BlockingIOError):
            while sent < size:
                sent += wire.socket.send(piece)
        assert sent < size
        wire.socket.settimeout(20)
        gate.open()
        wire.send(b"x" * (size - sent))
        assert wire.read().body == b"%d" % size
    assert max(waiting) <= HIGH_WATER_BYTES + 256 * 1024


@pytest.mark.parametrize("before", [0, 1])
def test_receiving_behind_the_body_tells_of_the_end(before: int) -> None:
    """Of the answer's, or of the client's."""
    bell = Bell()
    heard: list[Any] = []

    async def listen(exchange: Exchange) -> None:
        for _ in range(2):
            heard.append((await exchange.receive())["type"])
            bell.ring()
        heard.append((await exchange.receive())["type"])
        heard.append(exchange.take())
        assert exchange.end(b"unheard") is None
        bell.ring()

    async def answer(exchange: Exchange) -> None:
        if exchange.method == "HEAD":
            exchange.answer(200, [], b"")
            heard.append((await exchange.receive())["type"])
        else:
            exchange.begin(200, [])
            await listen(exchange)

    with serving(answer) as served:
        with Wire(served.port) as wire:
            for _ in range(before):
                wire.ask(HEAD, method="HEAD")
            wire.send(GET)
            bell.wait_for(lambda: "http.request" in heard)
        bell.wait_for(lambda: None in heard)
    assert heard == ["http.disconnect"] * before + [
        "http.request",
        "http.disconnect",
        "http.disconnect",
        None,
    ]


@pytest.mark.parametrize("way", ["taken", "received"])
def test_behind_a_large_body_the_clients_leaving_is_heard(way: str) -> None:
    bell = Bell()
    gate = Gate()
    events: list[str] = []

    async def listen(exchange: Exchange) -> None:
        def left() -> None:
            events.append("left")
            bell.ring()

        exchange.on_leave = left  # without receiving: that would read on anyway
        more = way == "received" or exchange.take() is None
        while more:
            more = (await exchange.receive())["more_body"]
        events.append("read")
        bell.ring()
        await gate.passed()

    with serving(listen) as served:
        with Wire(served.port) as wire:
            wire.send(post(b"x" * (HIGH_WATER_BYTES + 1)))
            bell.wait_for(lambda: "read" in events)
        bell.wait_for(lambda: "left" in events)
        gate.open()


# Back-pressure


def test_a_slow_reader_holds_the_writer_and_gets_it_all() -> None:
    bell = Bell()
    waits: list[int] = []
    pieces = 512
    piece = b"x" * 65536

    async def pour(exchange: Exchange) -> None:
        exchange.begin(200, [(b"content-length", b"%d" % (pieces * len(piece)))])
        for number in range(pieces):
            wait = exchange.write(piece)
            if wait is not None:
                waits.append(number)
                bell.ring()
                await wait
        exchange.end()

    with serving(pour) as served, Wire(served.port, receive_bytes=65536) as wire:
        wire.send(GET)
        bell.wait_for(lambda: waits)
        (connection,) = served.connections
        assert connection._transport.get_write_buffer_size() < 3 * 1024 * 1024
        assert connection._exchange.answered is False
        assert len(wire.read().body) == pieces * len(piece)
    assert waits[0] < pieces - 1


def test_a_slow_reader_that_leaves_frees_the_writer() -> None:
    bell = Bell()
    events: list[str] = []

    async def pour(exchange: Exchange) -> None:
        exchange.on_leave = lambda: events.append("left")
        await exchange.send({"type": "http.response.start", "status": 200})
        while not exchange.gone:
            asyncio.get_running_loop().call_soon(bell.ring)  # once this has to wait
            body = {"type": "http.response.body", "body": b"x" * 65536, "more_body": True}
            await exchange.send(body)
        events.append("stopped")
        bell.ring()

    with serving(pour) as served:
        with Wire(served.port) as wire:
            wire.send(GET)
            bell.wait_for(lambda: any(one.blocked for one in served.connections))
            assert wire.head()[1] == 200
        bell.wait_for(lambda: "stopped" in events)
    assert events == ["left", "stopped"]


def test_what_is_waited_for_late_may_have_come_already() -> None:
    """A ping's wait begins a turn of the loop after its write."""
    bell, gate = Bell(), Gate()
    blocked: list[bool] = []

    async def pour(exchange: Exchange) -> None:
        exchange.begin(200, [])
        wait = None
        while wait is None:
            wait = exchange.write(b"x" * 65536)
        blocked.append(True)
        bell.ring()
        await gate.passed()
        await wait
        exchange.end()

    with serving(pour) as served, Wire(served.port) as wire:
        wire.send(GET)
        bell.wait_for(lambda: blocked)
        wire.head()
        chunks = wire.chunks()
        (connection,) = served.connections
        while connection.blocked:
            next(chunks)
        gate.open()
        for _ in chunks:
            pass
