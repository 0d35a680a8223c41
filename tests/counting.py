"""What tests of counters use: a clock that they turn, holders, and the kinds of counters."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any

from servers import RedisServer

from relay.stores.counters import Ask, Counters, Granted, Outcome, Unseeded
from relay.stores.counters.memory import MemoryCounters
from relay.stores.counters.parent import Counting
from relay.stores.counters.redis import RedisCounters
from relay.stores.counters.worker import WorkerCounters
from relay.types import Holder, Limits

BEGIN = 1_790_000_040.0  # 2026-09-21, a Monday, 14:14 UTC


class Clock:
    """Shows the time that it was set to."""

    def __init__(self, now: float = BEGIN) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def holder(name: str = "key_a", *, begins_at: float = 0.0, **limits: Any) -> Holder:
    return Holder(name, Limits(**limits), begins_at)


def ask(*holders: Holder, sure: bool = True, **used: int) -> Ask:
    """A call of these holders; `sure`: that much at least, not only perhaps."""
    least = {f"least_{name}": value for name, value in used.items() if sure}
    return Ask("group", _same(holders), **used, **least)


@cache
def _same(holders: tuple[Holder, ...]) -> tuple[Holder, ...]:
    """Those of an identity are one object, by which counters may know them again."""
    return holders


async def reserve(counters: Counters, asked: Ask, *, spent: int = 0) -> Outcome:
    """What becomes of a call, when the ledger knows that much for each holder."""
    outcome = await settled(counters.reserve(asked))
    if isinstance(outcome, Unseeded):
        for span in outcome.spans:
            counters.seed(span, spent)
        outcome = await settled(counters.reserve(asked))
    return outcome


async def settled(outcome: Any) -> Outcome:
    return await outcome if inspect.isawaitable(outcome) else outcome


async def passes(counters: Counters, asked: Ask, times: int = 1) -> int:
    """How many of so many calls are granted; none of them ends."""
    outcomes = [await reserve(counters, asked) for _ in range(times)]
    return sum(isinstance(outcome, Granted) for outcome in outcomes)


async def granted(counters: Counters, asked: Ask, *, spent: int = 0) -> Granted:
    outcome = await reserve(counters, asked, spent=spent)
    assert isinstance(outcome, Granted), outcome
    return outcome


Open = Callable[[Clock], AbstractAsyncContextManager[Counters]]


@asynccontextmanager
async def in_memory(clock: Clock) -> AsyncIterator[Counters]:
    yield MemoryCounters(clock=clock, wall=clock)


@asynccontextmanager
async def of_workers(clock: Clock) -> AsyncIterator[Counters]:
    async with counting(clock) as parent:
        counters = WorkerCounters(parent.path)
        yield counters
        await counters.aclose()


@asynccontextmanager
async def counting(clock: Clock) -> AsyncIterator[Counting]:
    """The parent's side, in this event loop."""
    async with Counting(MemoryCounters(clock=clock, wall=clock)) as parent:
        yield parent
    await asyncio.sleep(0)


def in_redis(server: RedisServer, **options: Any) -> Open:
    @asynccontextmanager
    async def open_there(clock: Clock) -> AsyncIterator[Counters]:
        counters = RedisCounters(server.url, timeout_s=5, local=False, clock=clock, **options)
        yield counters
        await counters.aclose()

    return open_there
