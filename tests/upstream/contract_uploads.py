"""What every upstream client must do with a body that is streamed to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from fake_upstream import FakeUpstream, Gate, Script
from upstream.calls import CHAT, STREAM, Connect, ask, fails_with

from relay.errors import UpstreamProtocol, UpstreamStatus, UpstreamTimeout, UpstreamUnreachable
from relay.settings import Timeouts
from relay.types import Backend, Call

PIECE = b"x" * 65536

both_ways = pytest.mark.parametrize("call", [CHAT, STREAM], ids=["complete", "stream"])


class GaveUp(Exception):
    """What the source of a body may raise."""


class Source:
    """A body in pieces: those given, then perhaps a wait that only a gate ends, or an error."""

    def __init__(
        self, *pieces: bytes, gate: Gate | None = None, error: Exception | None = None
    ) -> None:
        self.taken = 0
        self.times = 0
        self._pieces = pieces
        self._gate = gate
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.times += 1
        for piece in self._pieces:
            self.taken += 1
            yield piece
        if self._gate:
            await self._gate.passed()
        if self._error:
            raise self._error


def upload(call: Call, source: Source, length: int | None = None) -> Call:
    return replace(call, body=b"", content=source, content_length=length)


class UploadContract:
    """A body that comes while it is sent."""

    @both_ways
    async def test_a_streamed_body_of_known_length_goes_out_with_that_length(
        self, fake: FakeUpstream, upstream: Backend, call: Call
    ) -> None:
        fake.answer(Script(body=b"fine"))
        assert await ask(upstream, upload(call, Source(b"one", b"", b"two"), 6)) == b"fine"
        [received] = fake.requests
        assert received.body == b"onetwo"
        assert received.header("content-length") == "6"
        assert received.header("transfer-encoding") is None

    @both_ways
    async def test_a_streamed_body_of_unknown_length_goes_out_in_chunks(
        self, fake: FakeUpstream, upstream: Backend, call: Call
    ) -> None:
        fake.answer(Script(body=b"fine"))
        pieces = [PIECE, b"", b"two"] * 30
        assert await ask(upstream, upload(call, Source(*pieces))) == b"fine"
        [received] = fake.requests
        assert received.body == b"".join(pieces)
        assert received.header("transfer-encoding") == "chunked"
        assert received.header("content-length") is None

    async def test_an_empty_streamed_body_is_a_body(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script(body=b"fine"))
        assert await ask(upstream, upload(CHAT, Source())) == b"fine"
        assert fake.requests[0].body == b""

    async def test_the_connection_serves_the_next_call(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script(body=b"fine"))
        await ask(upstream, upload(CHAT, Source(b"x")))
        await ask(upstream, CHAT)
        assert [received.connection_id for received in fake.requests] == [0, 0]

    @both_ways
    @pytest.mark.parametrize("length", [None, 1000])
    async def test_what_the_source_raises_comes_out_and_the_connection_is_closed(
        self, fake: FakeUpstream, upstream: Backend, call: Call, length: int | None
    ) -> None:
        with pytest.raises(GaveUp):
            await ask(upstream, upload(call, Source(b"half", error=GaveUp()), length))
        await fake.until(lambda: fake.connections and not fake.open_connections)
        assert fake.requests == []

    @pytest.mark.parametrize("length", [3, 5])
    async def test_a_body_of_another_length_than_announced_never_passes_for_a_request(
        self, fake: FakeUpstream, upstream: Backend, length: int
    ) -> None:
        with fails_with(UpstreamProtocol):
            await ask(upstream, upload(CHAT, Source(b"four"), length))
        await fake.until(lambda: not fake.open_connections)
        assert fake.requests == []

    @both_ways
    async def test_cancelling_in_mid_body_closes_the_connection_and_the_source(
        self, fake: FakeUpstream, upstream: Backend, call: Call
    ) -> None:
        source = Source(b"half", gate=Gate())
        calling = asyncio.create_task(ask(upstream, upload(call, source, 1000)))
        await fake.until(lambda: any(one.heard_at for one in fake.connections))
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await fake.until(lambda: not fake.open_connections)

    async def test_an_upstream_that_cannot_be_reached_leaves_the_source_untouched(
        self, connect: Connect
    ) -> None:
        source = Source(b"x")
        with fails_with(UpstreamUnreachable):
            await connect("http://127.0.0.1:1/v1").complete(upload(CHAT, source))
        assert source.times == 0

    async def test_a_streamed_body_is_never_sent_twice(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script(body=b"fine"), times=1)
        await ask(upstream, CHAT)
        fake.drop_connections()
        fake.answer(Script(body=b"fine"))
        source = Source(b"x" * 10)
        with contextlib.suppress(UpstreamProtocol):  # a client may notice too late
            await ask(upstream, upload(CHAT, source))
        assert source.times == 1

    async def test_an_upstream_that_does_not_read_makes_the_source_wait(
        self, connect: Connect
    ) -> None:
        async def deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's has it
            await told.wait()
            writer.transport.abort()

        told = asyncio.Event()
        source = Source(*[PIECE] * 1000)
        async with await asyncio.start_server(deaf, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            upstream = connect(url, timeouts=Timeouts(total_s=0.5))
            with fails_with(UpstreamTimeout) as caught:
                await upstream.complete(upload(CHAT, source))
            await upstream.aclose()
            told.set()
        assert "total_s" in caught.value.message
        assert source.taken * len(PIECE) < 16_000_000  # what the system holds, and a little of ours

    async def test_query_strings_travel_as_they_are(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script())
        path = "files?purpose=a%2Fb&q=%E9+x&empty=&list[]=1&odd=!$'()*,;:@/?~"
        await upstream.complete(Call(path, method="GET"))
        assert fake.requests[0].target == f"/v1/{path}"


class StrictUploadContract:
    """What only a client of our own does."""

    async def test_a_streamed_body_goes_out_on_a_new_connection_which_cannot_have_died(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script(body=b"fine"))
        await ask(upstream, CHAT)
        fake.drop_connections()
        assert await ask(upstream, upload(CHAT, Source(b"x"))) == b"fine"
        assert await ask(upstream, upload(CHAT, Source(b"y"))) == b"fine"
        assert [received.connection_id for received in fake.requests] == [0, 1, 2]

    async def test_an_answer_may_begin_and_end_while_the_body_comes(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhasty")
            await reader.read()
            left.set()
            writer.close()

        left = asyncio.Event()
        async with await asyncio.start_server(hasty, "127.0.0.1", 0) as server:
            upstream = connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            call = upload(STREAM, Source(b"half", gate=Gate()), 1000)
            assert await ask(upstream, call) == b"hasty"
            await left.wait()

    async def test_a_refusal_is_read_before_the_body_has_come(self, connect: Connect) -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge")
            await reader.read()
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            upstream = connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            with fails_with(UpstreamStatus) as caught:
                await upstream.complete(upload(CHAT, Source(b"half", gate=Gate()), 1000))
            await upstream.aclose()
        assert (caught.value.status, caught.value.body) == (413, b"large")
