"""The upstream client of our own keeps the contract, and what else it promises."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from fake_upstream import FakeUpstream, Script
from upstream.calls import CHAT, STREAM, Connect, ask, fails_with, read
from upstream.contract import UpstreamContract
from upstream.contract_connections import HELD, both_ways
from upstream.contract_uploads import StrictUploadContract

from relay.errors import UpstreamProtocol, UpstreamStatus
from relay.events import Observer
from relay.settings import Timeouts, UpstreamSettings
from relay.types import Backend, Call
from relay.upstream import Upstream
from relay.upstream.direct import DirectUpstream
from relay.web.replies import pour

PIECE = b"x" * 65536
CLOSED_UNANSWERED = Script(raw=b"", close_at=0)
RESET_UNANSWERED = Script(raw=b"", reset_at=0)


class TestDirectUpstream(UpstreamContract, StrictUploadContract):
    @pytest.fixture
    def open_upstream(self) -> Callable[[UpstreamSettings, Observer], Upstream]:
        return DirectUpstream

    async def test_after_2000_random_cancels_on_a_pool_of_ten_healthy_requests_pass(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        chance = random.Random(1)
        upstream = connect(max_parallel=10, max_idle=5)
        answers = [*HELD.values(), Script(pieces=[b"x", b"y"]), Script(body=b"x")]
        fake.answer(lambda _: chance.choice(answers))
        for _ in range(20):
            calls = [
                asyncio.create_task(ask(upstream, chance.choice([CHAT, STREAM])))
                for _ in range(100)
            ]
            for calling in chance.sample(calls, len(calls)):
                for _ in range(chance.randrange(8)):
                    await asyncio.sleep(0)  # one turn of the loop: somewhere, not some time
                calling.cancel()
            await asyncio.wait(calls)
        fake.answer(Script(pieces=[b"healthy"]))
        healthy = [ask(upstream, call) for call in (CHAT, STREAM) * 20]
        assert await asyncio.gather(*healthy) == [b"healthy"] * 40
        await fake.until(lambda: len(fake.open_connections) <= 5)
        await upstream.aclose()
        await fake.until(lambda: not fake.open_connections)

    async def test_an_answer_that_was_left_gives_nothing_of_the_next_on_its_connection(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        upstream = connect(max_parallel=1)
        fake.answer(Script(pieces=[b"old"]), times=1)
        fake.answer(Script(pieces=[b"new"]))
        async with upstream.stream(STREAM) as left:
            assert [piece async for piece in left] == [b"old"]
        async with upstream.stream(STREAM) as answer:
            poured: list[bytes] = []
            assert await pour(left, poured.append) == b""
            assert not poured
            assert [piece async for piece in left] == []
            assert [piece async for piece in answer] == [b"new"]
        assert len(fake.connections) == 1

    @both_ways
    @pytest.mark.parametrize("script", [CLOSED_UNANSWERED, RESET_UNANSWERED], ids=["end", "reset"])
    async def test_a_call_that_a_used_connection_leaves_unanswered_is_sent_once_more_on_a_new_one(
        self, fake: FakeUpstream, upstream: Backend, call: Call, script: Script
    ) -> None:
        fake.answer(Script(body=b"fine"), times=2)
        await asyncio.gather(ask(upstream, CHAT), ask(upstream, CHAT))
        fake.answer(script, times=1)
        fake.answer(Script(body=b"fine"), times=1)
        assert await ask(upstream, call) == b"fine"
        assert [received.body for received in fake.requests[2:]] == [call.body] * 2
        assert fake.requests[3].connection_id == 2  # the other idle one may be as dead

    @both_ways
    async def test_it_is_sent_once_more_and_not_twice(
        self, fake: FakeUpstream, connect: Connect, call: Call
    ) -> None:
        upstream = connect(max_parallel=1)
        fake.answer(Script(body=b"fine"), times=1)
        await ask(upstream, CHAT)
        fake.answer(CLOSED_UNANSWERED, times=2)
        with fails_with(UpstreamProtocol):
            await ask(upstream, call)
        assert len(fake.requests) == 3
        fake.answer(Script(body=b"fine"))
        assert await ask(upstream, call) == b"fine"

    async def test_a_call_is_not_sent_again_once_a_byte_of_an_answer_came(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script(body=b"fine"), times=1)
        await ask(upstream, CHAT)
        fake.answer(Script(raw=b"H", close_at=1), times=1)
        with fails_with(UpstreamProtocol):
            await ask(upstream, CHAT)
        assert len(fake.requests) == 2

    async def test_a_second_answer_is_never_given_to_the_next_call(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        smuggled = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
        for call in (CHAT, STREAM):
            fake.answer(Script(raw=smuggled + b"good" + smuggled + b"evil"), times=1)
            fake.answer(Script(body=b"next"), times=1)
            assert [await ask(upstream, call) for _ in range(2)] == [b"good", b"next"]

    async def test_a_refusal_is_read_before_the_body_has_been_sent(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        told = asyncio.Event()

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge")
            await told.wait()
            writer.transport.abort()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            upstream = connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            with fails_with(UpstreamStatus) as caught:
                await upstream.complete(replace(CHAT, body=b"x" * 50_000_000))
            told.set()
        assert (caught.value.status, caught.value.body) == (413, b"large")

    @both_ways
    @pytest.mark.parametrize("status", [200, 204])
    async def test_an_answer_without_a_body_is_empty(
        self, fake: FakeUpstream, upstream: Backend, call: Call, status: int
    ) -> None:
        method = "HEAD" if status == 200 else "DELETE"
        head = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, 7 if status == 200 else 0)
        fake.answer(Script(raw=head))
        for _ in range(2):
            assert await ask(upstream, replace(call, method=method, body=b"")) == b""

    async def test_an_answer_that_was_left_gives_nothing_more(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script(pieces=[b"a", b"b"]))
        async with upstream.stream(STREAM) as answer:
            pass
        assert await read(answer) == b""
        await upstream.stream(STREAM).__aexit__(None, None, None)  # nothing was entered

    async def test_a_slow_reader_slows_the_upstream_and_gets_everything(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script(pieces=[PIECE] * 1000))
        async with upstream.stream(STREAM) as answer:
            first = await anext(aiter(answer))
            received = fake.requests[0]
            sent = -1
            while sent < received.pieces_sent:  # until a hundred turns bring nothing more
                sent = received.pieces_sent
                for _ in range(100):
                    await asyncio.sleep(0)
            assert sent * len(PIECE) < 16_000_000  # what the system holds, and a little of ours
            assert len(first) + len(await read(answer)) == 1000 * len(PIECE)

    async def test_calls_pass_while_another_waits_for_its_reader(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script(pieces=[PIECE] * 500), times=1)
        async with upstream.stream(STREAM):
            fake.answer(Script(body=b"other"))
            assert await ask(upstream, CHAT) == b"other"

    async def test_waiting_for_a_reader_is_not_waiting_for_the_upstream(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        upstream = connect(timeouts=Timeouts(first_byte_s=0.1, idle_s=0.1))
        fake.answer(Script(pieces=[b"a", b"b"]))
        async with upstream.stream(STREAM) as answer:
            rung = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.3, rung.set_result, None)
            await rung  # a client that takes its time
            assert await read(answer) == b"ab"
