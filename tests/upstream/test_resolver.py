"""A name server that is silent holds up only those who need it."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from fake_script import PATIENCE_S, Bell

from relay.upstream.resolver import MAX_LOOKUPS, Resolver

ADDRESSES = ["192.0.2.1"]


class Names(Bell):
    """A name server that holds back each answer until its gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[threading.Event] = []
        self.knows = True

    def look(self, host: str, port: int) -> Sequence[str]:
        gate = threading.Event()
        self.gates.append(gate)
        self.ring()
        gate.wait(PATIENCE_S)
        if not self.knows:
            raise socket.gaierror("unknown")
        return ADDRESSES

    async def asked(self, times: int) -> None:
        await self.until(lambda: len(self.gates) == times)


@asynccontextmanager
async def silent(*, stale_s: float = 60) -> AsyncIterator[tuple[Names, Resolver]]:
    names = Names()
    yield names, Resolver(names.look, stale_s=stale_s)
    for gate in names.gates:
        gate.set()


def asking(resolve: Resolver) -> asyncio.Task[Sequence[str]]:
    return asyncio.create_task(resolve("host", 80))


async def test_one_silent_name_server_keeps_no_other_host_from_being_found() -> None:
    async with silent() as (names, resolve):
        waiting = [asking(resolve) for _ in range(50)]
        await names.asked(1)
        assert "127.0.0.1" in await Resolver()("localhost", 80)
        assert not any(task.done() for task in waiting)
        names.gates[0].set()
        assert await asyncio.gather(*waiting) == [ADDRESSES] * 50
        assert len(names.gates) == 1


async def test_whoever_gives_up_ends_nothing_for_the_others() -> None:
    async with silent() as (names, resolve):
        first, second = asking(resolve), asking(resolve)
        await names.asked(1)
        first.cancel()
        await asyncio.wait([first])
        names.gates[0].set()
        assert await second == ADDRESSES


async def test_a_lookup_that_has_been_silent_for_long_is_not_joined() -> None:
    async with silent(stale_s=0) as (names, resolve):
        first = asking(resolve)
        await names.asked(1)
        second = asking(resolve)
        await names.asked(2)
        names.gates[1].set()  # the question of the first was lost
        assert await second == await first == ADDRESSES


async def test_only_so_many_lookups_run_at_once() -> None:
    async with silent(stale_s=0) as (names, resolve):
        waiting = [asking(resolve) for _ in range(MAX_LOOKUPS + 5)]
        await names.asked(MAX_LOOKUPS)
        names.gates[-1].set()
        assert await asyncio.gather(*waiting) == [ADDRESSES] * len(waiting)
        assert len(names.gates) == MAX_LOOKUPS


async def test_a_host_that_is_not_known_is_asked_for_again() -> None:
    async with silent() as (names, resolve):
        names.knows = False
        first = asking(resolve)
        await names.asked(1)
        names.gates[0].set()
        with pytest.raises(socket.gaierror):
            await first
        names.knows = True
        second = asking(resolve)
        await names.asked(2)
        names.gates[1].set()
        assert await second == ADDRESSES


def test_a_lookup_outlives_the_loop_that_began_it() -> None:
    names = Names()

    async def give_up() -> None:
        task = asking(Resolver(names.look))
        await names.asked(1)
        task.cancel()

    asyncio.run(give_up())
    names.gates[0].set()
    for thread in threading.enumerate():
        if thread.name == "relay-resolver":
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
