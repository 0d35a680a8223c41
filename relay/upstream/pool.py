"""The connections of one upstream: at most so many at once, used again while they are fresh.

    take          an idle connection, the one used last; else a new one; else the next that is free
    give_back     to whoever has waited longest, else to the idle ones; a broken one is closed

A slot is taken with each connection and given back with it, so no more are open than there are
slots: a new connection is only made when none is idle.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from relay.errors import Overloaded, UpstreamUnreachable
from relay.upstream.http1 import Connection
from relay.upstream.limits import KEEP_ALIVE_S

Dial = Callable[[Callable[[Connection], None], float | None], Awaitable[Connection]]
"""Makes a connection, within so many seconds if it is told; see `Dialer.dial`."""


class Pool:
    """Whoever has taken a connection gives it back, whatever happens."""

    def __init__(
        self,
        upstream: str,
        dial: Dial,
        *,
        max_open: int,
        max_idle: int,
        max_queued: int,
        max_wait_s: float,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self._upstream = upstream
        self._dial = dial
        self._max_open = max_open
        self._max_idle = max_idle
        self._max_wait_s = max_wait_s
        self._keep_alive_s = keep_alive_s
        self._max_queued = max_queued
        self._taken = 0
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # in the order they came back
        self._queue: OrderedDict[asyncio.Future[Connection | None], None] = OrderedDict()
        self._sweep: asyncio.TimerHandle | None = None
        self._closing: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> int:
        """How many wait for a connection."""
        return len(self._queue)

    def take_idle(self) -> Connection | None:
        """The idle connection that was used last, or None: then `take` has to be awaited."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if not connection.closed:
                self._taken += 1
                return connection
        return None

    async def take(self, limit_s: float | None = None) -> Connection:
        """A connection, as soon as there is one; `limit_s` in place of the usual limits.

        Raises:
            Overloaded: all are in use, and too many wait already or this one waited too long.
            ConnectTimeout, UpstreamUnreachable: a new one could not be made.
        """
        if self._closing is not None:
            raise self._closed()
        if connection := self.take_idle():
            return connection
        if self._taken < self._max_open:
            self._taken += 1
        else:
            connection = await self._wait(limit_s or self._max_wait_s)
            if connection is not None and not connection.closed:
                return connection
        return await self._connect(limit_s)

    async def replace(self, connection: Connection, limit_s: float | None = None) -> Connection:
        """A new connection in the place of one that had been taken. Raises: as `take` does."""
        connection.close()
        return await self._connect(limit_s)

    def give_back(self, connection: Connection) -> None:
        """The exchange on that connection is over, or given up."""
        self._free(connection if connection.finish() else None)

    def drop_idle(self) -> None:
        """Close every idle connection: nobody knows any more whether it still leads anywhere."""
        for connection in list(self._idle):
            connection.close()
        self._idle.clear()

    async def aclose(self) -> None:
        """Close every connection, also those in use."""
        loop = asyncio.get_running_loop()
        self._closing = loop.create_future()
        if self._sweep is not None:
            self._sweep.cancel()
        while self._queue:
            waiter, _ = self._queue.popitem(last=False)
            if not waiter.done():
                waiter.set_exception(self._closed())
        self._idle.clear()
        for connection in self._open:
            connection.close()
        if self._open:
            await self._closing

    async def _connect(self, limit_s: float | None) -> Connection:
        try:
            connection = await self._dial(self._forget, limit_s)
        except BaseException:
            self._free(None)
            raise
        if self._closing is not None:
            connection.close()
        if not connection.closed:
            self._open.add(connection)
        return connection

    async def _wait(self, limit_s: float) -> Connection | None:
        """Wait in the queue for a slot, and perhaps the connection that was in it."""
        if len(self._queue) >= self._max_queued:
            raise self._overloaded()
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._queue[waiter] = None
        timer = loop.call_later(limit_s, self._give_up, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            self._queue.pop(waiter, None)
            if not waiter.cancelled() and waiter.exception() is None:
                self._free(waiter.result())  # the slot came just as we were cancelled
            raise
        finally:
            timer.cancel()

    def _give_up(self, waiter: asyncio.Future[Connection | None]) -> None:
        if not waiter.done():
            del self._queue[waiter]
            waiter.set_exception(self._overloaded())

    def _free(self, connection: Connection | None) -> None:
        """Hand a slot on, and the connection in it if that can be used again."""
        while self._queue:
            waiter, _ = self._queue.popitem(last=False)
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._taken -= 1
        if connection is not None:
            self._rest(connection)

    def _rest(self, connection: Connection) -> None:
        if connection.closed or len(self._idle) >= self._max_idle:
            connection.close()
            return
        self._idle[connection] = None
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._keep_alive_s, self._close_expired)

    def _close_expired(self) -> None:
        self._sweep = None
        loop = asyncio.get_running_loop()
        for connection in list(self._idle):
            expires_at = connection.idle_since + self._keep_alive_s
            if expires_at > loop.time():
                self._sweep = loop.call_at(expires_at, self._close_expired)
                return
            del self._idle[connection]
            connection.close()

    def _forget(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._open.discard(connection)
        if self._closing is not None and not self._open and not self._closing.done():
            self._closing.set_result(None)

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"The upstream '{self._upstream}' has as many calls open as it may; try again.",
            headers=[(b"retry-after", b"1")],
        )

    def _closed(self) -> UpstreamUnreachable:
        return UpstreamUnreachable(f"The upstream '{self._upstream}' is being closed.")
