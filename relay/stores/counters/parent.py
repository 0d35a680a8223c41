"""Counting for the workers of one machine, in the process that is their parent.

The socket lies in a folder that only this user can enter. A worker that ends, however it does,
loses its connection: what it had reserved is given back at once.
"""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any, cast

from relay.stores.counters import frames
from relay.stores.counters.memory import Held, MemoryCounters
from relay.stores.counters.values import Recorded, Span

SOCKET = "counters"


class Counting:
    """Serves `counters` at `path` to processes of this user, while it is entered."""

    def __init__(self, counters: MemoryCounters) -> None:
        self._counters = counters
        self._folder = Path(tempfile.mkdtemp(prefix="relay-"))  # 0700
        self.path = str(self._folder / SOCKET)
        self._server: asyncio.AbstractServer | None = None
        self._workers: set[_Worker] = set()

    async def __aenter__(self) -> "Counting":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _Worker(self._counters, self._workers), self.path
        )
        return self

    async def serving(self) -> None:
        """It does as soon as it is entered."""

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for worker in list(self._workers):
            worker.close()
        await self._counters.aclose()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Worker(asyncio.Protocol):
    """The connection of one of them, and what it has reserved."""

    def __init__(self, counters: MemoryCounters, workers: set["_Worker"]) -> None:
        self._counters = counters
        self._workers = workers
        self._held: dict[int, Held] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._frames = frames.Frames(self._transport)
        self._workers.add(self)

    def data_received(self, data: bytes) -> None:
        for kind, *rest in self._frames.read(data):
            if kind == "reserve":
                self._reserve(*rest)
            elif kind == "settle":
                number, tokens, cost_nano = rest
                held = self._held.pop(number, None)
                if held is not None:
                    self._counters.settle(held, tokens=tokens, cost_nano=cost_nano)
            elif kind == "seed":
                *span, spent_nano = rest
                self._counters.seed(Span(*span), spent_nano)
            else:
                self._counters.recorded([Recorded(*row) for row in rest[0]])

    def connection_lost(self, _: Exception | None) -> None:
        self._workers.discard(self)
        for held in self._held.values():
            self._counters.settle(held, tokens=0, cost_nano=0)
        self._held.clear()

    def close(self) -> None:
        self._transport.abort()

    def _reserve(self, number: int, *ask: Any) -> None:
        outcome = self._counters.reserve(frames.to_ask(*ask))
        if isinstance(outcome, Held):
            self._held[number] = outcome
            self._frames.write(number, "granted", outcome.used)
        else:
            self._frames.write(number, *frames.of_answer(outcome))
