"""A time limit for what others do: while this process is busy with something else, it stands still.

Under a burst, or where cores are scarce, a loop comes round late. By then the answer lies in its
socket, and a clock on the wall would say that nobody had answered.
"""

import asyncio
from types import TracebackType

PARTS = 5
"""Of the limit, each begun when the one before is over: a delay of ours costs one of them."""


class Patience:
    """As `asyncio.timeout(seconds)`: raises TimeoutError when it is left too late."""

    __slots__ = ("_left", "_limit", "_loop", "_part_s", "_timer")

    def __init__(self, seconds: float) -> None:
        self._part_s = seconds / PARTS
        self._left = PARTS
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._timer = self._loop.call_later(self._part_s, self._pass)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, trace)

    def _pass(self) -> None:
        self._left -= 1
        if self._left:
            self._timer = self._loop.call_later(self._part_s, self._pass)
        else:
            self._limit.reschedule(self._loop.time())
