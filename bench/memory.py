"""What an open stream weighs: many idle ones at once, and all of them still alive at the end."""

import asyncio
from collections.abc import Callable

from bench.load import Load, LoadError
from bench.measure import Numbers, Way
from bench.processes import FakeUpstream
from bench.workloads import IDLE

SPARE_FILES = 60
"""Descriptors that a server needs besides two for each stream."""

OPENED_A_SECOND = 2000
LIMIT_S = 120
POLL_S = 0.05
WARM_UP_STREAMS = 20


def possible(wanted: int, files: int) -> int:
    """As many streams as one process may hold, two descriptors each."""
    return min(wanted, (files - SPARE_FILES) // 2)


async def weigh(way: Way, target: FakeUpstream, streams: int) -> Numbers:
    """Open idle streams, read the growth of resident memory, then let all of them end well.

    Raises:
        LoadError: a stream was lost, or ended otherwise than it must.
    """
    server = way.server
    assert server is not None
    try:
        await _hold(way, target, WARM_UP_STREAMS, server.resident_bytes)
        before = server.resident_bytes()
        held = await _hold(way, target, streams, server.resident_bytes)
    except OSError as exc:
        raise LoadError(f"no connection to {way.name}: {exc}") from exc
    return {
        "streams": streams,
        "bytes_each": (held - before) / streams,
        "resident_before": before,
        "resident_held": held,
    }


async def _hold(way: Way, target: FakeUpstream, streams: int, look: Callable[[], int]) -> int:
    """What `look` sees while every stream has its first chunk and waits for the next."""
    load = Load(way.port, IDLE.request(f"127.0.0.1:{way.port}"), IDLE.chunks)
    try:
        await load.open(streams)
        async with asyncio.timeout(LIMIT_S + 1), asyncio.TaskGroup() as group:
            answers = group.create_task(load.run(streams, rate=OPENED_A_SECOND, limit_s=LIMIT_S))
            while len(load.sample.firsts) < streams and not answers.done():
                await asyncio.sleep(POLL_S)
            seen = look()
            await asyncio.to_thread(target.get, "/release")
    except ExceptionGroup as exc:
        raise LoadError(str(exc.exceptions[0])) from exc
    finally:
        load.close()
    return seen
