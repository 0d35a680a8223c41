"""One connection, fed with raw bytes: what it does to its transport and to its reader."""

import asyncio
from typing import Any

import pytest

from relay.errors import UpstreamProtocol, UpstreamTimeout
from relay.settings import Timeouts
from relay.types import TimeLimits
from relay.upstream import limits
from relay.upstream.http1 import Connection

OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = OK + b"content-length: 2\r\n\r\nok"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps what is written and tells what is asked of it."""

    def __init__(self, room: int = 1 << 30) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.aborted = False
        self._room = room

    def write(self, data: Any) -> None:
        self.written += data
        if len(self.written) > self._room:
            self.connection.pause_writing()

    def drain(self, room: int) -> None:
        self._room = len(self.written) + room
        self.connection.resume_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        assert not self.aborted
        self.aborted = True


def connected(wire: Wire, **timeouts: float) -> Connection:
    wire.connection = Connection(
        "u", TimeLimits(**Timeouts(**timeouts).model_dump()), lambda _: None
    )
    wire.connection.connection_made(wire)
    return wire.connection


def send(
    connection: Connection, body: bytes = b"", *, whole: bool = False, bodiless: bool = False
) -> None:
    now = asyncio.get_running_loop().time()
    connection.send(b"HEAD", body, total_at=now + 600, whole=whole, bodiless=bodiless)


async def test_a_small_request_is_one_write():
    wire = Wire()
    send(connected(wire), b"body")
    assert wire.written == b"HEADbody"


async def test_a_large_request_leaves_only_as_fast_as_it_is_taken():
    body = bytes(range(256)) * 4096
    wire = Wire(room=100_000)
    connection = connected(wire)
    send(connection, body)
    while len(wire.written) < len(body):
        assert len(wire.written) <= wire._room + limits.SLICE_BYTES
        wire.drain(100_000)
    assert wire.written == b"HEAD" + body
    connection.data_received(WHOLE)
    connection.resume_writing()
    assert connection.finish()


async def test_an_answer_that_comes_before_the_request_has_left_is_the_last():
    wire = Wire(room=0)
    connection = connected(wire)
    send(connection, b"x" * 1_000_000)
    connection.data_received(WHOLE)
    assert connection.ready
    assert not connection.finish()
    assert wire.aborted


async def test_nothing_more_is_sent_once_the_upstream_has_refused():
    wire = Wire(room=0)
    connection = connected(wire)
    send(connection, b"x" * 1_000_000)
    connection.data_received(b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\n\r\n")
    sent = len(wire.written)
    wire.drain(1_000_000)
    assert len(wire.written) == sent
    rest = asyncio.create_task(connection.rest())
    await asyncio.sleep(0)
    connection.data_received(b"full")
    assert await rest == b"full"
    assert not connection.finish()


async def test_what_ends_a_stream_is_given_back_for_the_last_write():
    wire = Wire()
    connection = connected(wire)
    send(connection)
    connection.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
    poured: list[bytes] = []
    pouring = asyncio.create_task(connection.pour(poured.append))
    await asyncio.sleep(0)
    connection.data_received(b"1\r\nb\r\n1\r\nc\r\n")
    assert poured == [b"a", b"bc"]
    connection.data_received(b"1\r\nd\r\n0\r\n\r\n")
    assert await pouring == b"d"
    assert poured == [b"a", b"bc"]
    assert connection.finish()


async def test_an_answer_that_is_all_there_is_one_last_piece():
    connection = connected(Wire())
    send(connection)
    connection.data_received(WHOLE)
    poured: list[bytes] = []
    assert await connection.pour(poured.append)
    assert not poured


async def test_a_request_goes_on_while_its_answer_has_begun():
    wire = Wire(room=0)
    connection = connected(wire)
    send(connection, b"x" * 200_000)
    connection.data_received(CHUNKED + b"1\r\na\r\n")
    while len(wire.written) < 200_000:
        wire.drain(0)
    wire.drain(0)
    connection.data_received(b"0\r\n\r\n")
    assert connection.finish()


async def test_the_upstream_waits_while_the_reader_has_not_taken_what_is_there():
    wire = Wire()
    connection = connected(wire)
    send(connection)
    connection.data_received(CHUNKED)
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    fed = 0
    while wire.reading:
        connection.data_received(chunk)
        fed += len(chunk)
    assert fed <= limits.MAX_UNREAD_BYTES + 2 * len(chunk)
    connection.answer.pieces.clear()
    waiting = connection.more()
    assert wire.reading
    connection.data_received(chunk)
    await waiting
    assert wire.reading


async def test_a_connection_that_waited_for_its_reader_reads_again_when_it_is_free():
    wire = Wire()
    connection = connected(wire)
    send(connection)
    connection.data_received(OK + b"content-length: 300000\r\n\r\n" + b"x" * 299_999)
    assert not wire.reading
    connection.data_received(b"x")
    assert connection.finish()
    assert wire.reading


async def test_a_whole_answer_wakes_its_reader_once():
    connection = connected(Wire())
    send(connection, whole=True)
    waiting = connection.more()
    for byte in WHOLE:
        assert not waiting.done()
        connection.data_received(bytes([byte]))
    await waiting
    assert connection.ready


async def test_a_whole_answer_has_a_largest_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("relay.upstream.http1.MAX_BODY_BYTES", 1000)
    connection = connected(Wire())
    send(connection, whole=True)
    connection.data_received(OK + b"content-length: 2000\r\n\r\n" + b"x" * 900)
    assert not connection.closed
    connection.data_received(b"x" * 900)
    with pytest.raises(UpstreamProtocol, match="too large"):
        connection.more()


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"x: " + b"a" * limits.MAX_HEAD_BYTES,
        OK + b"x: " + b"a" * limits.MAX_HEAD_BYTES + b"\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" * 2000,
        CHUNKED + b"1;" + b"a" * limits.MAX_HEAD_BYTES,
    ],
    ids=["no end", "with an end", "interim answers", "a chunk extension"],
)
async def test_what_is_no_body_has_a_largest_size(raw: bytes):
    wire = Wire()
    connection = connected(wire)
    send(connection)
    connection.data_received(raw)
    assert wire.aborted
    with pytest.raises(UpstreamProtocol, match="too large"):
        connection.more()


async def test_an_endless_trailer_ends():
    connection = connected(Wire())
    send(connection)
    connection.data_received(CHUNKED + b"1\r\na\r\n")
    connection.answer.pieces.clear()
    connection.more()
    connection.data_received(b"0\r\nx: " + b"a" * limits.MAX_HEAD_BYTES)
    with pytest.raises(UpstreamProtocol):
        connection.more()


@pytest.mark.parametrize("extra", [b"\x00", WHOLE])
@pytest.mark.parametrize("at_once", [True, False])
async def test_bytes_behind_an_answer_close_the_connection_and_leave_the_answer(
    extra: bytes, at_once: bool
):
    wire = Wire()
    connection = connected(wire)
    send(connection, whole=True)
    for piece in [WHOLE + extra] if at_once else [WHOLE, extra]:
        connection.data_received(piece)
    assert await connection.rest() == b"ok"
    assert not connection.finish()
    assert wire.aborted


async def test_bytes_that_nobody_asked_for_close_the_connection():
    wire = Wire()
    connection = connected(wire)
    send(connection)
    connection.data_received(WHOLE)
    assert connection.finish()
    connection.data_received(WHOLE)
    assert wire.aborted


async def test_a_body_that_only_the_connections_end_ends_needs_a_clean_end():
    for clean in (True, False):
        connection = connected(Wire())
        send(connection)
        connection.data_received(OK + b"\r\nhalf")
        if clean:
            connection.eof_received()
        connection.connection_lost(None)
        assert connection.answer.ended is clean
        assert not connection.finish()


@pytest.mark.parametrize("reset", [True, False])
async def test_only_a_used_connection_that_heard_nothing_is_stale(reset: bool):
    def lose(connection: Connection) -> Connection:
        if not reset:
            connection.eof_received()
        connection.connection_lost(ConnectionResetError() if reset else None)
        with pytest.raises(UpstreamProtocol):
            connection.more()
        return connection

    fresh = connected(Wire())
    send(fresh)
    assert not lose(fresh).stale

    used = connected(Wire())
    send(used)
    used.data_received(WHOLE)
    assert used.finish()
    send(used)
    assert lose(used).stale

    heard = connected(Wire())
    send(heard)
    heard.data_received(WHOLE)
    assert heard.finish()
    send(heard)
    heard.data_received(b"H")
    assert not lose(heard).stale


async def test_a_deadline_that_moves_on_costs_no_timer_and_still_holds():
    wire = Wire()
    connection = connected(wire, first_byte_s=0.05, idle_s=0.1)
    send(connection)
    connection.data_received(CHUNKED + b"1\r\na\r\n")
    timers = set()
    for _ in range(3):
        connection.answer.pieces.clear()
        waiting = connection.more()
        timers.add(connection._timer)
        connection.data_received(b"1\r\na\r\n")
        await waiting
    assert len(timers) == 1
    connection.answer.pieces.clear()
    with pytest.raises(UpstreamTimeout, match=r"idle_s allows \(0\.1 s\)"):
        while True:
            await connection.more()
    assert wire.aborted


async def test_a_slow_reader_is_no_idle_upstream():
    connection = connected(Wire(), first_byte_s=0.05, idle_s=0.05, total_s=600)
    send(connection)
    waiting = connection.more()
    connection.data_received(CHUNKED + b"1\r\na\r\n")
    await waiting
    rung = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.15, rung.set_result, None)
    await rung  # the timer has gone off meanwhile, and nobody was waiting
    assert not connection.closed
    connection.data_received(b"0\r\n\r\n")
    assert connection.finish()


async def test_a_reader_that_was_cancelled_is_not_woken():
    connection = connected(Wire())
    send(connection)
    connection.more().cancel()
    connection.data_received(WHOLE)
    assert connection.ready


async def test_a_request_that_nobody_takes_ends_with_the_total_limit():
    wire = Wire(room=0)
    connection = connected(wire, first_byte_s=0.01, total_s=0.05)
    total_at = asyncio.get_running_loop().time() + 0.05
    connection.send(b"", b"x" * 1_000_000, total_at=total_at, whole=True, bodiless=False)
    with pytest.raises(UpstreamTimeout, match="total_s"):
        while True:
            await connection.more()
