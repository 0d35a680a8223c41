"""What every upstream client must raise, and for what."""

import asyncio
import socket

import pytest
from fake_upstream import FakeUpstream, Gate, Script
from transcripts import error_body
from upstream.calls import CHAT, KEY, STREAM, Connect, ask, fails_with

from relay.errors import (
    ConnectTimeout,
    NothingSent,
    UpstreamAuth,
    UpstreamProtocol,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from relay.settings import Timeouts
from relay.types import Backend, Call

OK = b"HTTP/1.1 200 OK\r\n"
MALFORMED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "status not a number": b"HTTP/1.1 abc OK\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "header without a colon": OK + b"no colon here\r\n\r\n",
    "header name with a space": OK + b"a name: x\r\n\r\n",
    "null byte in a header": OK + b"x: a\x00b\r\n\r\n",
    "negative length": OK + b"content-length: -1\r\n\r\n",
    "two lengths": OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "chunk size not hexadecimal": OK + b"transfer-encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
    "head without end": OK + b"x: " + b"a" * 2_000_000,
    "half a head": OK + b"x: ",
}
TRUNCATED = {
    "length, close": Script(body=b"good bad", close_at=5),
    "length, reset": Script(body=b"good bad", piece_gates={1: Gate()}, cuts=[5], reset_at=6),
    "chunked, close": Script(pieces=[b"good ", b"bad"], close_at=6),
    "chunked, close between chunks": Script(pieces=[b"good "], close_at=100),
    "chunked, reset": Script(pieces=[b"good ", b"bad"], piece_gates={1: Gate()}, reset_at=6),
}
both_ways = pytest.mark.parametrize("call", [CHAT, STREAM], ids=["complete", "stream"])


class FailureContract:
    """Each failure is one error, the same for `complete` and `stream`."""

    @both_ways
    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_refused_key_is_the_operators_fault_and_its_body_is_not_shown(
        self, fake: FakeUpstream, upstream: Backend, call: Call, status: int
    ) -> None:
        body = error_body(f"Incorrect API key provided: {KEY}", code="invalid_api_key")
        fake.answer(Script(status=status, body=body))
        with fails_with(UpstreamAuth) as caught:
            await ask(upstream, call)
        assert "Incorrect" not in caught.value.envelope().decode()
        assert caught.value.headers == ()

    @both_ways
    @pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 503, 529])
    async def test_any_other_error_status_comes_with_its_headers_and_exact_body(
        self, fake: FakeUpstream, upstream: Backend, call: Call, status: int
    ) -> None:
        headers = [(b"retry-after", b"7"), (b"content-type", b"application/problem+json")]
        fake.answer(Script(status=status, headers=headers, body=b'{"odd" :\xff1}'))
        with fails_with(UpstreamStatus) as caught:
            await ask(upstream, call)
        error = caught.value
        assert (error.status, error.body, list(error.headers)) == (
            status,
            b'{"odd" :\xff1}',
            headers,
        )

    @both_ways
    async def test_a_compressed_error_passes_with_its_encoding(
        self, fake: FakeUpstream, upstream: Backend, call: Call
    ) -> None:
        script = Script(status=429, body=error_body("slow down"), gzip=True)
        fake.answer(script)
        with fails_with(UpstreamStatus) as caught:
            await ask(upstream, call)
        assert caught.value.body == b"".join(script.writes())
        assert (b"content-encoding", b"gzip") in caught.value.headers

    @both_ways
    @pytest.mark.parametrize("status", [301, 302, 304, 307, 308])
    async def test_a_redirect_is_never_followed(
        self, fake: FakeUpstream, upstream: Backend, call: Call, status: int
    ) -> None:
        fake.answer(Script(status=status, headers=[(b"location", fake.url.encode())]), times=1)
        with fails_with(UpstreamProtocol):
            await ask(upstream, call)
        assert len(fake.requests) == 1

    @both_ways
    async def test_a_refused_connection_is_unreachable_and_nothing_was_sent(
        self, connect: Connect, call: Call
    ) -> None:
        with socket.socket() as unheard:  # bound, so that nobody else takes it; not listening
            unheard.bind(("127.0.0.1", 0))
            upstream = connect(f"http://127.0.0.1:{unheard.getsockname()[1]}/v1")
            with fails_with(UpstreamUnreachable) as caught:
                await ask(upstream, call)
        assert isinstance(caught.value, NothingSent)
        told = "The upstream 'fake' cannot be reached: nothing listens there."
        assert caught.value.message == told

    async def test_an_unknown_host_is_unreachable(self, connect: Connect) -> None:
        with fails_with(UpstreamUnreachable) as caught:
            await ask(connect("http://no-such-host.invalid/v1"), CHAT)
        told = caught.value.message  # where there is no network at all, no name server answers
        assert "its host name is not known" in told or "no name server answers" in told
        assert "no-such-host" not in told

    async def test_a_failed_tls_handshake_is_unreachable(self, connect: Connect) -> None:
        def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 This is not TLS\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with fails_with(UpstreamUnreachable) as caught:
                await ask(connect(f"https://127.0.0.1:{port}/v1"), CHAT)
        assert "cannot be reached: TLS fails (" in caught.value.message

    @both_ways
    async def test_a_silent_tls_handshake_ends_with_the_connect_limit(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        upstream = connect(fake.url.replace("http:", "https:"), timeouts=Timeouts(connect_s=0.2))
        with fails_with(ConnectTimeout) as caught:
            await ask(upstream, call)
        assert "connect_s" in caught.value.message
        await fake.until(lambda: not fake.open_connections)

    @both_ways
    async def test_no_first_byte_ends_with_that_limit(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        fake.answer(Script(gate=Gate()))
        await self._times_out(fake, connect, call, "first_byte_s")

    async def test_a_stream_without_a_first_byte_after_its_head_ends_with_that_limit(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        fake.answer(Script(pieces=[b"x"], stall_after=0))
        await self._times_out(fake, connect, STREAM, "first_byte_s")

    @both_ways
    async def test_a_pause_between_pieces_ends_with_the_idle_limit(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        fake.answer(Script(pieces=[b"x", b"y"], stall_after=1))
        await self._times_out(fake, connect, call, "idle_s")

    @both_ways
    async def test_an_error_that_never_ends_ends_with_the_idle_limit(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        fake.answer(Script(status=500, pieces=[b"x", b"y"], stall_after=1))
        await self._times_out(fake, connect, call, "idle_s")

    @both_ways
    async def test_an_answer_that_trickles_forever_ends_with_the_total_limit(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        fake.answer(Script(pieces=[b"x"] * 100_000, delay_piece_s=0.005))
        await self._times_out(fake, connect, call, "total_s")

    @both_ways
    async def test_waiting_for_the_first_byte_ends_with_the_total_limit_when_that_is_shorter(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        fake.answer(Script(gate=Gate()))
        await self._times_out(fake, connect, call, "total_s")

    async def _times_out(
        self, fake: FakeUpstream, connect: Connect, call: Call, limit: str
    ) -> None:
        upstream = connect(timeouts=Timeouts(**{limit: 0.1}))
        with fails_with(UpstreamTimeout) as caught:
            await ask(upstream, call)
        assert limit in caught.value.message
        await fake.until(lambda: not fake.open_connections)

    @both_ways
    @pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
    async def test_a_connection_that_ends_before_the_head_is_a_broken_protocol(
        self, fake: FakeUpstream, upstream: Backend, call: Call, reset: bool
    ) -> None:
        fake.answer(Script(raw=b"", reset_at=0) if reset else Script(raw=b"", close_at=0))
        with fails_with(UpstreamProtocol):
            await ask(upstream, call)
        assert len(fake.requests) == 1

    @both_ways
    @pytest.mark.parametrize("name", MALFORMED)
    async def test_malformed_http_is_a_broken_protocol(
        self, fake: FakeUpstream, upstream: Backend, call: Call, name: str
    ) -> None:
        fake.answer(Script(raw=MALFORMED[name], keep_alive=False))
        with fails_with(UpstreamProtocol):
            await ask(upstream, call)

    @both_ways
    @pytest.mark.parametrize("raw", [b"%b\r\n\r\n", OK + b"%b\r\n\r\n", OK + b"%b: \x00\r\n\r\n"])
    async def test_an_upstream_that_says_our_key_in_broken_http_does_not_get_it_into_a_log(
        self, fake: FakeUpstream, upstream: Backend, call: Call, raw: bytes
    ) -> None:
        fake.answer(Script(raw=raw % KEY.encode(), keep_alive=False))
        with fails_with(UpstreamProtocol):
            await ask(upstream, call)

    @pytest.mark.parametrize("name", TRUNCATED)
    async def test_a_truncated_body_is_never_taken_for_a_whole_one(
        self, fake: FakeUpstream, upstream: Backend, name: str
    ) -> None:
        script = TRUNCATED[name]
        for gate in script.piece_gates.values():
            gate.open()
        fake.answer(script)
        with fails_with(UpstreamProtocol):
            await ask(upstream, CHAT)

    @pytest.mark.parametrize("name", TRUNCATED)
    async def test_a_truncated_stream_gives_its_good_bytes_and_then_raises(
        self, fake: FakeUpstream, upstream: Backend, name: str
    ) -> None:
        fake.answer(TRUNCATED[name])
        got = b""
        async with upstream.stream(STREAM) as answer:
            with fails_with(UpstreamProtocol):
                async for piece in answer:
                    got += piece
                    if got == b"good ":  # a reset may overtake bytes that nobody has read yet
                        for gate in TRUNCATED[name].piece_gates.values():
                            gate.open()
        assert got.startswith(b"good ")
