"""What every upstream client must do with the limits of one call, its queue, and a probe."""

import asyncio
import socket
from dataclasses import replace

import pytest
from fake_upstream import FakeUpstream, Gate, Script
from upstream.calls import CHAT, STREAM, Connect, ask, fails_with

from relay.errors import ConnectTimeout, Overloaded, UpstreamTimeout, UpstreamUnreachable
from relay.settings import Timeouts
from relay.types import Call, TimeLimits
from relay.upstream import Upstream

both_ways = pytest.mark.parametrize("call", [CHAT, STREAM], ids=["complete", "stream"])
GENEROUS = TimeLimits(connect_s=20, first_byte_s=20, idle_s=20, total_s=20)
TOO_LATE = {
    "first_byte_s": Script(gate=Gate()),
    "idle_s": Script(pieces=[b"x", b"y"], stall_after=1),
    "total_s": Script(pieces=[b"x"] * 100_000, delay_piece_s=0.005),
}


class LimitContract:
    """A call may bring limits of its own."""

    @both_ways
    @pytest.mark.parametrize("limit", TOO_LATE)
    async def test_a_calls_own_limit_ends_it(
        self, fake: FakeUpstream, upstream: Upstream, call: Call, limit: str
    ) -> None:
        fake.answer(TOO_LATE[limit])
        with fails_with(UpstreamTimeout) as caught:
            await ask(upstream, replace(call, limits=replace(GENEROUS, **{limit: 0.1})))
        assert f"{limit} allows (0.1 s)" in caught.value.message
        await fake.until(lambda: not fake.open_connections)

    async def test_a_calls_own_limit_ends_its_connecting(
        self, silent_listener: str, connect: Connect
    ) -> None:
        upstream = connect(f"https://{silent_listener}")
        with fails_with(ConnectTimeout) as caught:
            await ask(upstream, replace(CHAT, limits=replace(GENEROUS, connect_s=0.1)))
        assert "connect_s allows (0.1 s)" in caught.value.message

    @both_ways
    @pytest.mark.parametrize("limit", ["connect_s", "total_s"])
    async def test_a_calls_own_limit_ends_its_wait_for_a_slot(
        self, fake: FakeUpstream, connect: Connect, call: Call, limit: str
    ) -> None:
        upstream = connect(max_parallel=1)
        fake.answer(Script(pieces=[b"a", b"b"], stall_after=1), times=1)
        async with upstream.stream(STREAM):
            with fails_with(Overloaded):
                await ask(upstream, replace(call, limits=replace(GENEROUS, **{limit: 0.1})))

    @both_ways
    async def test_they_may_be_wider_than_the_upstreams_and_hold_for_that_call_alone(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        upstream = connect(timeouts=Timeouts(first_byte_s=0.1))
        fake.answer(Script(delay_head_s=0.3, body=b"late"), times=1)
        assert await ask(upstream, replace(call, limits=GENEROUS)) == b"late"
        fake.answer(Script(gate=Gate()))
        with fails_with(UpstreamTimeout) as caught:
            await ask(upstream, call)
        assert "first_byte_s allows (0.1 s)" in caught.value.message
        assert [received.connection_id for received in fake.requests] == [0, 0]


class QueueContract:
    """Who waits for a slot."""

    @both_ways
    async def test_calls_are_answered_in_the_order_in_which_they_came(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        upstream = connect(max_parallel=1)
        gate = Gate()
        fake.answer(Script(gate=gate, body=b"x"), times=1)
        fake.answer(Script(body=b"x"))
        bodies = [b"%d" % number for number in range(20)]
        calls = [asyncio.create_task(ask(upstream, replace(call, body=b))) for b in bodies]
        await fake.until(lambda: fake.requests)
        gate.open()
        await asyncio.gather(*calls)
        assert [received.body for received in fake.requests] == bodies
        assert len(fake.connections) == 1

    @both_ways
    @pytest.mark.parametrize("max_queued", [0, 2])
    async def test_a_call_that_finds_the_queue_full_is_refused_at_once(
        self, fake: FakeUpstream, connect: Connect, call: Call, max_queued: int
    ) -> None:
        upstream = connect(max_parallel=1, max_queued=max_queued)
        gate = Gate()
        fake.answer(Script(gate=gate, body=b"fine"))
        calls = [asyncio.create_task(ask(upstream, call)) for _ in range(1 + max_queued)]
        await fake.until(lambda: fake.requests)
        with fails_with(Overloaded) as caught:
            await ask(upstream, call)
        assert list(caught.value.headers) == [(b"retry-after", b"1")]
        gate.open()
        assert await asyncio.gather(*calls) == [b"fine"] * len(calls)
        assert await ask(upstream, call) == b"fine"  # there is room again


class ProbeContract:
    """Whether the network is there."""

    async def test_a_probe_makes_a_connection_of_its_own_and_asks_nothing(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        upstream = connect(max_parallel=1)
        fake.answer(Script(pieces=[b"a", b"b"], stall_after=1))
        async with upstream.stream(STREAM):  # which has the only slot
            await upstream.probe(20)
            await fake.until(lambda: len(fake.connections) == 2)
            await fake.until(lambda: fake.connections[1].closed_at)
        assert fake.connections[1].heard_at is None
        assert len(fake.requests) == 1

    async def test_a_probe_of_a_port_where_nobody_listens_fails(self, connect: Connect) -> None:
        with socket.socket() as unheard:  # bound, so that nobody else takes it; not listening
            unheard.bind(("127.0.0.1", 0))
            upstream = connect(f"http://127.0.0.1:{unheard.getsockname()[1]}/v1")
            with fails_with(UpstreamUnreachable):
                await upstream.probe(20)

    async def test_a_probe_of_an_unknown_host_fails(self, connect: Connect) -> None:
        with fails_with(UpstreamUnreachable):
            await connect("http://no-such-host.invalid/v1").probe(20)

    async def test_a_probe_waits_no_longer_than_it_may(
        self, silent_listener: str, connect: Connect
    ) -> None:
        upstream = connect(f"https://{silent_listener}")
        with fails_with(ConnectTimeout) as caught:
            await upstream.probe(0.1)
        assert "(0.1 s)" in caught.value.message

    async def test_a_probe_of_a_server_that_speaks_no_tls_fails(self, connect: Connect) -> None:
        def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 This is not TLS\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with fails_with(UpstreamUnreachable):
                await connect(f"https://127.0.0.1:{port}/v1").probe(20)
