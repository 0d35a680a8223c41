"""The places of an upstream for a client whose pool keeps none of its own: `max_parallel` calls."""

import asyncio

from relay.errors import Overloaded
from relay.settings import UpstreamSettings


class Slots:
    """So many calls at once, so many that wait (`queued`); who waits longest is next."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self._upstream = settings.name
        self._free = asyncio.Semaphore(settings.max_parallel)
        self._max_queued = settings.max_queued
        self.queued = 0

    async def take(self, limit_s: float) -> None:
        """Wait for a slot. Raises: Overloaded: too many wait already, or this one did too long."""
        if self._free.locked() and self.queued >= self._max_queued:
            raise self._overloaded()
        self.queued += 1
        try:
            async with asyncio.timeout(limit_s):
                await self._free.acquire()
        except TimeoutError:
            raise self._overloaded() from None
        finally:
            self.queued -= 1

    def give_back(self) -> None:
        """That call is over."""
        self._free.release()

    def _overloaded(self) -> Overloaded:
        return Overloaded(
            f"The upstream '{self._upstream}' has as many calls open as it may; try again.",
            headers=[(b"retry-after", b"1")],
        )
