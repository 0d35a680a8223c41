"""The workers of one machine: one count for all of them, and nothing left of one that dies."""

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from counting import Clock, ask, counting, granted, holder, passes

from relay.errors import Overloaded
from relay.stores.counters import Granted, frames
from relay.stores.counters.worker import WorkerCounters

VICTIM = """
import asyncio, sys
from relay.stores.counters import Ask
from relay.stores.counters.worker import WorkerCounters
from relay.types import Holder, Limits

async def main():
    counters = WorkerCounters(sys.argv[1])
    call = Ask("g", (Holder("key_a", Limits(parallel=9)),))
    for _ in range(5):
        await counters.reserve(call)
    print("taken", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_three_workers_let_in_as_many_as_one(clock: Clock) -> None:
    call = ask(holder(rpm=100, parallel=70), holder("team", parallel=50))
    async with counting(clock) as parent:
        workers = [WorkerCounters(parent.path) for _ in range(3)]
        outcomes = await asyncio.gather(
            *(worker.reserve(call) for worker in workers for _ in range(60))
        )
        assert sum(isinstance(outcome, Granted) for outcome in outcomes) == 50
        for worker in workers:
            await worker.aclose()


async def test_what_a_killed_worker_held_is_free_at_once(clock: Clock) -> None:
    async with counting(clock) as parent:
        victim = subprocess.Popen(
            [sys.executable, "-c", VICTIM, parent.path], stdout=subprocess.PIPE
        )
        assert victim.stdout is not None
        assert await asyncio.to_thread(victim.stdout.readline) == b"taken\n"
        counters = WorkerCounters(parent.path)
        call = ask(holder(parallel=9))
        assert await passes(counters, call, times=9) == 4
        victim.kill()
        victim.wait()
        victim.stdout.close()
        taken = 0
        async with asyncio.timeout(10):
            while taken < 5:
                taken += await passes(counters, call)
        assert await passes(counters, call) == 0
        await counters.aclose()


async def test_only_this_user_can_reach_the_socket(clock: Clock) -> None:
    async with counting(clock) as parent:
        folder = Path(parent.path).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == os.getuid()
    assert not folder.exists()


async def test_a_parent_that_is_gone_is_said_so(clock: Clock) -> None:
    async with counting(clock) as parent:
        counters = WorkerCounters(parent.path)
        running = await granted(counters, ask(holder(parallel=9)))
    for _ in range(2):
        with pytest.raises(Overloaded, match="cannot be reached") as raised:
            await counters.reserve(ask(holder(parallel=9)))
        assert raised.value.headers == [(b"retry-after", b"1")]
    counters.settle(running, tokens=0, cost_nano=0)
    await counters.aclose()


async def test_who_waits_while_the_parent_goes_is_told(clock: Clock) -> None:
    async with counting(clock) as parent:
        counters = WorkerCounters(parent.path)
        await granted(counters, ask(holder(rpm=9)))
        for worker in parent._workers:
            worker._transport.pause_reading()
        waiting = asyncio.create_task(counters.reserve(ask(holder(rpm=9))))  # type: ignore[arg-type]
        await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await waiting


async def test_lines_may_come_in_any_pieces_but_not_without_end(clock: Clock) -> None:
    async with counting(clock) as parent:
        reader, writer = await asyncio.open_unix_connection(parent.path)
        line = b'["reserve",7,"g",[["k",1,null,null,null,"total",null,0.0,null]],0,0,0,0,false]\n'
        for at in range(len(line)):
            writer.write(line[at : at + 1])
            await writer.drain()
        assert await reader.readline() == b'[7,"granted",[[1,0,60.0]]]\n'
        writer.write(b"x" * (frames.MAX_FRAME_BYTES + 1))
        with pytest.raises(ConnectionError):
            while not reader.at_eof():
                await reader.read(1)
            raise ConnectionError
        writer.close()
