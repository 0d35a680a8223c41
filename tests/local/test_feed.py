"""Items from a thread: in order, bounded, and told when something goes wrong."""

import asyncio
import logging
import threading
from collections.abc import Awaitable

import pytest

from local.calls import no_threads_left, until
from relay.errors import BackendError, InvalidRequest
from relay.local.feed import HELD_ITEMS, Feed


def ignore() -> None:
    pass


async def test_everything_arrives_in_order_and_then_it_ends():
    def produce(feed: Feed[int]) -> None:
        for number in range(10 * HELD_ITEMS):
            assert feed.put(number)

    ended = asyncio.Event()
    feed = Feed(produce, on_end=ended.set)
    assert [number async for number in feed] == list(range(10 * HELD_ITEMS))
    assert ended.is_set()
    await feed.aclose()


async def test_what_is_poured_arrives_in_order_too_and_the_sink_is_waited_for():
    def produce(feed: Feed[int]) -> None:
        for number in range(10 * HELD_ITEMS):
            assert feed.put(number)

    poured: list[int] = []

    async def later(number: int) -> None:
        await asyncio.sleep(0)
        poured.append(number)

    def sink(number: int) -> Awaitable[None] | None:
        if number % 3 == 0:
            return later(number)
        poured.append(number)
        return None

    feed = Feed(produce, on_end=ignore)
    assert await anext(feed) == 0
    await feed.pour(sink)
    assert poured == list(range(1, 10 * HELD_ITEMS))
    await feed.aclose()


async def test_a_failure_comes_out_behind_what_was_put_before_it():
    def produce(feed: Feed[int]) -> None:
        feed.put(1)
        raise InvalidRequest("no", param="n")

    poured: list[int] = []
    feed = Feed(produce, on_end=ignore)
    with pytest.raises(InvalidRequest, match="no"):
        await feed.pour(poured.append)
    assert poured == [1]


async def test_pouring_can_be_cancelled():
    held = threading.Event()

    def produce(feed: Feed[int]) -> None:
        feed.put(1)
        held.wait(timeout=30)
        feed.put(2)

    poured: list[int] = []
    feed = Feed(produce, on_end=ignore)
    pouring = asyncio.create_task(feed.pour(poured.append))
    await until(lambda: poured == [1])
    pouring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pouring
    held.set()
    await feed.aclose()
    assert poured == [1]
    assert no_threads_left()


async def test_a_reader_that_does_not_read_holds_the_thread_back():
    put: list[int] = []
    full = threading.Event()

    def produce(feed: Feed[int]) -> None:
        for number in range(10 * HELD_ITEMS):
            if number == HELD_ITEMS:
                full.set()
            if not feed.put(number):
                return
            put.append(number)

    feed = Feed(produce, on_end=ignore)
    assert await asyncio.to_thread(full.wait, 30)
    await feed.aclose()
    assert len(put) == HELD_ITEMS
    assert no_threads_left()


async def test_after_closing_nothing_can_be_put():
    left: list[bool] = []
    closed = threading.Event()

    def produce(feed: Feed[int]) -> None:
        closed.wait(timeout=30)
        left.extend(feed.put(number) for number in range(3 * HELD_ITEMS))

    feed = Feed(produce, on_end=ignore)
    closing = asyncio.create_task(feed.aclose())
    await asyncio.sleep(0)
    closed.set()
    await closing
    assert left == [False] * 3 * HELD_ITEMS


async def test_our_own_errors_come_out_as_they_are():
    def produce(feed: Feed[int]) -> None:
        feed.put(1)
        raise InvalidRequest("no", param="n")

    feed = Feed(produce, on_end=ignore)
    assert await anext(feed) == 1
    with pytest.raises(InvalidRequest, match="no"):
        await anext(feed)


@pytest.mark.parametrize("error", [ValueError, KeyError, SystemExit, StopIteration])
async def test_a_failure_is_told_without_a_word_of_the_prompt(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def produce(feed: Feed[int]) -> None:
        raise error("the secret prompt")

    feed = Feed(produce, on_end=ignore)
    with caplog.at_level(logging.ERROR), pytest.raises(BackendError) as failed:
        await anext(feed)
    assert failed.value.code == "local_model_failed"
    assert failed.value.status == 502
    assert error.__name__ in caplog.text
    assert "in=produce" in caplog.text
    assert "secret" not in caplog.text + failed.value.message


def test_a_thread_whose_event_loop_is_gone_ends():
    gone = threading.Event()
    left: list[bool] = []

    def produce(feed: Feed[int]) -> None:
        gone.wait(timeout=30)
        left.extend((feed.put(1), feed.put(2)))

    async def abandon() -> None:
        Feed(produce, on_end=ignore)

    asyncio.run(abandon())
    gone.set()
    assert no_threads_left()
    assert left == [False, False]
