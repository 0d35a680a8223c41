"""Counters of a worker: its parent counts for all of them, at the other end of a socket."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from relay.errors import Overloaded
from relay.stores.counters import frames
from relay.stores.counters.values import (
    Ask,
    Granted,
    Outcome,
    Recorded,
    Refused,
    Span,
    Unseeded,
    Used,
)

WAIT_S = 5.0
"""How long a call waits for an answer of the parent, which does nothing else."""


class Lent(Granted):
    """What the parent has granted, by its number."""

    __slots__ = ("_used", "connection", "number")

    def __init__(self, number: int, used: Sequence[Used], connection: "_Connection") -> None:
        self.number = number
        self.connection: _Connection | None = connection
        self._used = used

    @property
    def used(self) -> Sequence[Used]:
        return self._used


class WorkerCounters:
    """`path` is the socket of the parent; it is connected to when there is something to count."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connecting = asyncio.Lock()
        self._connection: _Connection | None = None

    async def reserve(self, ask: Ask) -> Outcome:
        """See `Counters`."""
        connection = self._connection or await self._connect()
        waiting = connection.reserve(ask)
        try:
            async with asyncio.timeout(WAIT_S):
                return await asyncio.shield(waiting)
        except (TimeoutError, ConnectionError):
            waiting.add_done_callback(_give_back)
            raise _unreachable() from None
        except asyncio.CancelledError:
            waiting.add_done_callback(_give_back)
            raise

    def settle(self, granted: Granted, *, tokens: int, cost_nano: int) -> None:
        """See `Counters`."""
        assert isinstance(granted, Lent)  # noqa: S101  # what we gave
        connection, granted.connection = granted.connection, None
        if connection is not None:
            connection.send("settle", granted.number, tokens, cost_nano)

    def seed(self, span: Span, spent_nano: int) -> None:
        """See `Counters`."""
        if self._connection is not None:
            self._connection.send("seed", *span, spent_nano)

    def recorded(self, rows: Sequence[Recorded]) -> None:
        """See `Counters`."""
        if self._connection is not None:
            self._connection.send("recorded", rows)

    def unrecorded(self) -> Mapping[str, int]:
        """Nothing: the parent remembers it."""
        return {}

    async def aclose(self) -> None:
        """See `Counters`."""
        if self._connection is not None:
            self._connection.close()

    async def _connect(self) -> "_Connection":
        async with self._connecting:
            if self._connection is None:
                loop = asyncio.get_running_loop()
                try:
                    _, self._connection = await loop.create_unix_connection(
                        lambda: _Connection(self._lost), self._path
                    )
                except OSError:
                    raise _unreachable() from None
            return self._connection

    def _lost(self) -> None:
        self._connection = None


class _Connection(asyncio.Protocol):
    """One connection: answers come in the order of the questions."""

    def __init__(self, lost: Any) -> None:
        self._on_lost = lost
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self._open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._frames = frames.Frames(self._transport)

    def data_received(self, data: bytes) -> None:
        for number, kind, *rest in self._frames.read(data):
            outcome: Lent | Refused | Unseeded
            if kind == "granted":
                outcome = Lent(number, frames.to_used(rest[0]), self)
            else:
                outcome = frames.to_answer(kind, *rest)
            self._waiting.pop(number).set_result(outcome)

    def connection_lost(self, _: Exception | None) -> None:
        self._open = False
        self._on_lost()
        for future in self._waiting.values():
            future.set_exception(ConnectionResetError())
        self._waiting.clear()

    def reserve(self, ask: Ask) -> "asyncio.Future[Outcome]":
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self.send("reserve", number, *frames.of_ask(ask))
        return future

    def send(self, *frame: Any) -> None:
        if self._open:
            self._frames.write(*frame)

    def close(self) -> None:
        self._transport.close()


def _give_back(waiting: "asyncio.Future[Outcome]") -> None:
    """Nobody waits for that answer any more: what it grants is released."""
    with suppress(ConnectionError):
        outcome = waiting.result()
        if isinstance(outcome, Lent) and outcome.connection is not None:
            outcome.connection.send("settle", outcome.number, 0, 0)


def _unreachable() -> Overloaded:
    return Overloaded(
        "Those who count for limits cannot be reached; try again.", headers=[(b"retry-after", b"1")]
    )
