"""What every upstream client must do with its connections: reuse, bound, close."""

import asyncio
import random
from dataclasses import replace

import pytest
from fake_upstream import FakeUpstream, Gate, Script
from transcripts import chat_stream
from upstream.calls import CHAT, STREAM, Connect, ask, fails_with, read

from relay.errors import Overloaded
from relay.settings import Timeouts
from relay.types import Backend, Call
from relay.upstream import Upstream

both_ways = pytest.mark.parametrize("call", [CHAT, STREAM], ids=["complete", "stream"])
HELD = {
    "before the head": Script(gate=Gate()),
    "before the first byte": Script(pieces=[b"x"], stall_after=0),
    "in the body": Script(pieces=[b"x", b"y"], stall_after=1),
    "before the end": Script(pieces=[b"x"], stall_after=1),
}


async def cancelled(task: asyncio.Task[bytes]) -> pytest.ExceptionInfo[asyncio.CancelledError]:
    """Cancel a call. Hold the result: its traceback keeps alive what nobody has closed."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught


class ConnectionContract:
    """Nothing leaks: no connection, no slot."""

    async def test_calls_in_turn_share_a_connection(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script(pieces=chat_stream(["a"])))
        for call in (CHAT, STREAM, STREAM, CHAT):
            await ask(upstream, call)
        assert [received.connection_id for received in fake.requests] == [0, 0, 0, 0]

    async def test_a_connection_that_the_upstream_wants_closed_is_not_used_again(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script(body=b"bye", keep_alive=False))
        assert [await ask(upstream, call) for call in (CHAT, STREAM)] == [b"bye", b"bye"]
        assert len(fake.connections) == 2

    async def test_dropped_connections_are_not_used_again_and_open_streams_go_on(
        self, fake: FakeUpstream, upstream: Upstream
    ) -> None:
        gate = Gate()
        fake.answer(Script(pieces=[b"x", b"y"], piece_gates={1: gate}), times=1)
        fake.answer(Script(body=b"fine"))
        async with upstream.stream(STREAM) as answer:
            await ask(upstream, CHAT)
            upstream.drop_idle()
            assert await ask(upstream, CHAT) == b"fine"
            gate.open()
            assert b"".join([piece async for piece in answer]) == b"xy"
        assert [received.connection_id for received in fake.requests] == [0, 1, 2]
        await fake.until(lambda: fake.connections[1].closed_at)

    @both_ways
    @pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
    async def test_a_connection_that_died_while_idle_is_replaced_unseen(
        self, fake: FakeUpstream, upstream: Backend, call: Call, reset: bool
    ) -> None:
        fake.answer(Script(body=b"fine"))
        await ask(upstream, CHAT)
        fake.drop_connections(reset=reset)
        await fake.until(lambda: not fake.open_connections)
        await _other_traffic(fake)  # so that the news has arrived
        assert await ask(upstream, call) == b"fine"

    async def test_leaving_a_stream_early_closes_it_and_the_next_call_is_clean(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        upstream = connect(max_parallel=1)
        fake.answer(Script(pieces=[b"old"] * 3, stall_after=2), times=1)
        fake.answer(Script(body=b"new"))
        async with upstream.stream(STREAM) as answer:
            assert (await anext(aiter(answer))).startswith(b"old")
        await fake.until(lambda: fake.requests[0].closed_at)
        assert await ask(upstream, STREAM) == b"new"

    async def test_an_error_in_the_reader_closes_the_stream(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        upstream = connect(max_parallel=1)
        fake.answer(HELD["in the body"], times=1)
        with pytest.raises(ZeroDivisionError):
            async with upstream.stream(STREAM):
                raise ZeroDivisionError
        await fake.until(lambda: fake.requests[0].closed_at)
        await ask(upstream, replace(CHAT, path="models", method="GET"))

    @both_ways
    async def test_cancelling_while_connecting_closes_the_connection(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        upstream = connect(fake.url.replace("http:", "https:"), max_parallel=1)
        for _ in range(2):  # the second needs the first one's slot
            calling = asyncio.create_task(ask(upstream, call))
            await fake.until(lambda: fake.open_connections and fake.open_connections[0].heard_at)
            _held = await cancelled(calling)
            await fake.until(lambda: not fake.open_connections)

    @both_ways
    @pytest.mark.parametrize("phase", HELD)
    async def test_cancelling_closes_the_connection_and_gives_the_slot_back(
        self, fake: FakeUpstream, connect: Connect, call: Call, phase: str
    ) -> None:
        upstream = connect(max_parallel=1)
        script = HELD[phase]
        fake.answer(script, times=1)
        fake.answer(Script(body=b"healthy"))
        calling = asyncio.create_task(ask(upstream, call))
        await fake.until(lambda: fake.requests)
        if script.stall_after is not None:
            await fake.until(lambda: fake.requests[0].head_sent)
            await fake.until(lambda: fake.requests[0].pieces_sent == script.stall_after)
        _held = await cancelled(calling)
        await fake.until(lambda: fake.requests[0].closed_at)
        assert await ask(upstream, call) == b"healthy"

    async def test_cancelling_a_call_that_waits_for_a_slot_takes_none(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        upstream = connect(max_parallel=1)
        fake.answer(HELD["in the body"], times=1)
        async with upstream.stream(STREAM):
            waiting = asyncio.create_task(ask(upstream, CHAT))
            await _other_traffic(fake)
            await cancelled(waiting)
        fake.answer(Script(body=b"healthy"))
        assert await ask(upstream, CHAT) == b"healthy"

    @pytest.mark.parametrize("seed", range(4))
    async def test_after_fifty_calls_cancelled_anywhere_healthy_ones_pass(
        self, fake: FakeUpstream, connect: Connect, seed: int
    ) -> None:
        chance = random.Random(seed)
        upstream = connect(max_parallel=2)
        fake.answer(lambda _: chance.choice([*HELD.values(), Script(pieces=[b"x", b"y"])]))
        calls = [
            asyncio.create_task(ask(upstream, chance.choice([CHAT, STREAM]))) for _ in range(50)
        ]
        for calling in chance.sample(calls, len(calls)):
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)  # one turn of the loop: somewhere, not some time
            calling.cancel()
        await asyncio.wait(calls)
        fake.answer(Script(pieces=[b"healthy"]))
        healthy = [ask(upstream, call) for call in (CHAT, STREAM) * 3]
        assert await asyncio.gather(*healthy) == [b"healthy"] * 6
        await upstream.aclose()
        await fake.until(lambda: not fake.open_connections)

    @both_ways
    async def test_a_call_beyond_the_limit_waits_for_its_turn(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        upstream = connect(max_parallel=2)
        gate = Gate()
        fake.answer(Script(gate=gate, body=b"done"))
        calls = [asyncio.create_task(ask(upstream, call)) for _ in range(3)]
        await fake.until(lambda: len(fake.requests) == 2)
        await _other_traffic(fake)
        assert len([r for r in fake.requests if r.path != "/other"]) == 2
        gate.open()
        assert await asyncio.gather(*calls) == [b"done"] * 3

    @both_ways
    async def test_a_call_that_waits_longer_than_connecting_may_is_told_to_come_back(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        upstream = connect(max_parallel=1, timeouts=Timeouts(connect_s=0.5))
        fake.answer(Script(pieces=[b"a", b"b"], stall_after=1), times=1)
        async with upstream.stream(STREAM):
            with fails_with(Overloaded) as caught:
                await ask(upstream, call)
        assert caught.value.status == 503
        assert b"retry-after" in dict(caught.value.headers)
        assert len(fake.requests) == 1

    async def test_closing_the_client_closes_its_connections(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script(pieces=[b"x"]))
        await asyncio.gather(*(ask(upstream, call) for call in (CHAT, STREAM) * 3))
        async with upstream.stream(STREAM) as answer:
            await read(answer)
        await upstream.aclose()
        await fake.until(lambda: not fake.open_connections)


async def _other_traffic(fake: FakeUpstream) -> None:
    """A round trip beside the client, in which everything that was ready to happen has happened."""
    fake.answer(Script(keep_alive=False), path="/other")
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
    writer.write(b"GET /other HTTP/1.1\r\n\r\n")
    await reader.read()
    writer.close()
