"""Comments in the silences of a stream of events, so that nobody on the way takes it for dead.

    with Pings(client.write, every_s=15, between=lambda: whole.between) as pings:
        pings.write(…)        # instead of client.write

One timer belongs to a stream. It is not touched when something is written; when it goes off and
the silence is too young, or an event is only half written, it is set anew. Pings go to the client
alone: no limit of the upstream's hears of them.
"""

import asyncio
from collections.abc import Awaitable, Callable

from relay.sse import comment
from relay.web.client import Wait

PING = comment("ping")


class Pings:
    """A client's `write` for one stream, which writes a ping after `every_s` of silence.

    Only while `between` says that no event is half written, and while there is room.
    """

    def __init__(
        self,
        write: Callable[[bytes], Wait],
        *,
        every_s: float,
        between: Callable[[], bool],
        ping: bytes = PING,
    ) -> None:
        self._write = write
        self._words = ping
        self._every_s = every_s
        self._between = between
        self._loop = asyncio.get_running_loop()
        self._writing = False
        self._written_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._ping: asyncio.Task[None] | None = None

    def __enter__(self) -> "Pings":
        self._set_timer(self._written_at)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._ping is not None:
            self._ping.cancel()

    def write(self, piece: bytes) -> Wait:
        """Write a piece of the stream; a ping that is just being written goes before it."""
        if self._ping is not None:
            return self._write_after(self._ping, piece)
        self._written_at = self._loop.time()
        wait = self._write(piece)
        return None if wait is None else self._until(wait)

    async def _write_after(self, ping: asyncio.Task[None], piece: bytes) -> None:
        await ping
        if (wait := self.write(piece)) is not None:
            await wait

    async def _until(self, wait: Awaitable[None]) -> None:
        self._writing = True
        await wait
        self._writing = False
        self._written_at = self._loop.time()

    def _set_timer(self, silent_since: float) -> None:
        self._timer = self._loop.call_at(silent_since + self._every_s, self._on_timer)

    def _on_timer(self) -> None:
        now = self._loop.time()
        if self._written_at + self._every_s > now:
            self._set_timer(self._written_at)
            return
        if not self._writing and self._ping is None and self._between():
            wait = self._write(self._words)
            if wait is not None:
                self._ping = self._loop.create_task(self._written(wait))
        self._set_timer(now)

    async def _written(self, wait: Awaitable[None]) -> None:
        try:
            await wait
        finally:
            self._ping = None
