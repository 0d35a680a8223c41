"""The line: bounded, first come first served, and no place is ever lost."""

import asyncio
import random
import threading

import pytest

from local.calls import no_threads_left, until
from relay.errors import NoUpstream, Overloaded
from relay.local.feed import Feed
from relay.local.turns import Turns


def nothing(feed: Feed[int]) -> None:
    feed.put(1)


class Held:
    """Generates until it is let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def __call__(self, feed: Feed[int]) -> None:
        self.gate.wait(timeout=30)


async def wait_for_turn(turns: Turns, order: list[int], number: int, places: int = 1) -> None:
    async with turns.run(nothing, places=places):
        order.append(number)


async def test_turns_come_in_order_also_when_a_later_one_would_fit():
    turns, held, order = Turns(2), Held(), []
    async with turns.run(held):
        waiting = [
            asyncio.create_task(wait_for_turn(turns, order, number, places))
            for number, places in enumerate([2, 1, 1])
        ]
        await until(lambda: len(turns._line) == 3)
        assert order == []
        held.gate.set()
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2]


async def test_when_the_first_in_line_leaves_the_next_moves_up():
    turns, held, order = Turns(2), Held(), []
    async with turns.run(held):
        wide = asyncio.create_task(wait_for_turn(turns, order, 0, places=2))
        narrow = asyncio.create_task(wait_for_turn(turns, order, 1))
        await until(lambda: len(turns._line) == 2)
        wide.cancel()
        await narrow
        assert order == [1]
        held.gate.set()
    assert wide.cancelled()


async def test_beyond_the_waiting_line_it_is_overloaded_and_says_when_to_come_back():
    turns, held = Turns(1, waiting_limit=1), Held()
    async with turns.run(held):
        waiting = asyncio.create_task(wait_for_turn(turns, [], 0))
        await until(lambda: len(turns._line) == 1)
        with pytest.raises(Overloaded) as full:
            async with turns.run(nothing):
                pass
        assert dict(full.value.headers)[b"retry-after"].isdigit()
        held.gate.set()
    await waiting


async def test_a_thousand_random_cancellations_lose_no_place():
    turns, dice = Turns(3), random.Random(7)
    tasks = []
    for _ in range(1000):
        tasks = [task for task in tasks if not task.done()]
        tasks.append(asyncio.create_task(wait_for_turn(turns, [], 0, dice.randint(1, 3))))
        await asyncio.sleep(0)
        if len(tasks) > 20:
            for task in dice.sample(tasks, 10):
                task.cancel()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert no_threads_left()
    order: list[int] = []
    await wait_for_turn(turns, order, 1, places=3)
    assert order == [1]


async def test_a_turn_given_in_the_moment_of_cancellation_goes_to_the_next():
    turns, held, order = Turns(1), Held(), []
    async with turns.run(held):
        first = asyncio.create_task(wait_for_turn(turns, order, 0))
        second = asyncio.create_task(wait_for_turn(turns, order, 1))
        await until(lambda: len(turns._line) == 2)
        held.gate.set()
        # The thread's end is the next thing the loop hears; the cancellation comes with it.
        await until(lambda: len(turns._line) == 1)
        first.cancel()
    await second
    assert first.cancelled()
    assert order == [1]


async def test_places_come_back_when_what_must_be_ready_fails():
    turns, order = Turns(1), []

    async def broken() -> None:
        raise NoUpstream("no")

    for _ in range(3):
        with pytest.raises(NoUpstream):
            async with turns.run(nothing, ready=broken):
                pass
    await wait_for_turn(turns, order, 1)
    assert order == [1]


async def test_closing_sends_away_who_waits_and_stops_who_generates():
    turns = Turns(1)

    def endless(feed: Feed[int]) -> None:
        while feed.put(1):
            pass

    async def generate() -> None:
        async with turns.run(endless) as feed:
            async for _ in feed:
                pass

    generating = asyncio.create_task(generate())
    waiting = asyncio.create_task(generate())
    await until(lambda: len(turns._line) == 1)
    assert await turns.aclose()
    for answer in (generating, waiting, generate()):
        with pytest.raises(NoUpstream):
            await answer
    assert no_threads_left()


async def test_a_model_that_is_stuck_does_not_hold_up_the_closing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.local.turns.CLOSING_LIMIT_S", 0.01)
    turns, held = Turns(1), Held()
    async with turns.run(held):
        assert not await turns.aclose()
        held.gate.set()
