"""One answer for all workers: each tells their parent what it has counted, which adds it up.

    worker    a snapshot, once in TELL_S             [0, snapshot]
    worker    a snapshot, when it is scraped         [number, snapshot]
    parent    the sum of the last ones, after that   [number, snapshot]

What a worker that has ended had counted stays in the sum, so that nothing ever counts down. The
others' numbers are as old as `TELL_S` at most, which is also what a kill loses.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import orjson

from relay.telemetry.counting import Snapshot, Sums

SOCKET = "metrics"
TELL_S = 1.0
ANSWER_S = 2.0
"""How long a scrape waits for the parent, which does nothing else."""

CLOSE_S = 1.0
MAX_LINE_BYTES = 64 * 1024 * 1024
"""Far more than families with all their label values are."""


class Gathering:
    """In the parent: listens in a folder that only this user can enter, while it is entered."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / SOCKET
        self._server: asyncio.AbstractServer | None = None
        self._living: dict[object, Snapshot] = {}
        self._ended = Sums()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Gathering":
        self._server = await asyncio.start_unix_server(
            self._serve, self._path, limit=MAX_LINE_BYTES
        )
        return self

    async def serving(self) -> None:
        """It does as soon as it is entered."""

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # the server has made one
        self._tasks.add(task)
        try:
            while line := await reader.readline():
                number, self._living[task] = orjson.loads(line)
                if number:
                    writer.write(_line([number, self._sum()]))
                    await writer.drain()
        except (OSError, ValueError):
            pass  # the worker is gone, or was killed while it wrote
        finally:
            self._tasks.discard(task)
            self._ended.add(self._living.pop(task, {}), ended=True)
            writer.close()

    def _sum(self) -> Snapshot:
        sums = Sums()
        sums.add(self._ended.snapshot())
        for snapshot in self._living.values():
            sums.add(snapshot)
        return sums.snapshot()


class ParentGone(Exception):
    """Who adds the numbers up does not answer."""


class Gathered:
    """In a worker: tells its parent, and asks it. `own` gives what this one has counted."""

    def __init__(self, folder: Path, own: Callable[[], Awaitable[Snapshot]]) -> None:
        self._path = folder / SOCKET
        self._own = own
        self._asking = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._task: asyncio.Task[None] | None = None
        self._asked = 0

    def start(self) -> None:
        """Begin to tell; to be called in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._tell_on())

    async def aclose(self) -> None:
        """Tell a last time."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with suppress(ParentGone):
            async with self._asking:
                await self._send(0, await self._own(), CLOSE_S)
        if self._streams is not None:
            self._streams[1].close()

    async def sum(self, own: Snapshot) -> Snapshot:
        """What all of them have counted, of which `own` is this one's part. Raises: ParentGone."""
        async with self._asking:
            self._asked += 1
            reader = await self._send(self._asked, own, ANSWER_S)
            try:
                async with asyncio.timeout(ANSWER_S):
                    while True:
                        number, summed = orjson.loads(await reader.readline())
                        if number == self._asked:  # else the late answer to an earlier scrape
                            found: Snapshot = summed
                            return found
            except (OSError, ValueError, TimeoutError) as exc:
                raise ParentGone from exc

    async def _tell_on(self) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            with suppress(ParentGone):
                async with self._asking:
                    await self._send(0, await self._own(), ANSWER_S)

    async def _send(self, number: int, own: Snapshot, limit_s: float) -> asyncio.StreamReader:
        try:
            async with asyncio.timeout(limit_s):
                if self._streams is None:
                    self._streams = await asyncio.open_unix_connection(
                        self._path, limit=MAX_LINE_BYTES
                    )
                reader, writer = self._streams
                writer.write(_line([number, own]))
                await writer.drain()
                return reader
        except (OSError, TimeoutError) as exc:
            raise ParentGone from exc


def _line(value: object) -> bytes:
    return orjson.dumps(value) + b"\n"
