"""A mode that was set by hand, at all replicas: the file of each machine and one word in Redis.

    the word is another than before    it goes into the file, which the workers follow
    the file is another than before    it becomes the word
    there is no word                   the first file with a mode becomes it

So whoever sets the mode needs no Redis, and while that is away each machine goes by its own file.
"""

import asyncio
from contextlib import suppress
from typing import Protocol, get_args

from relay.settings import Mode
from relay.stores import StoreUnavailable
from relay.switch.kept import KeptMode

EVERY_S = 0.5
AGAIN_S = 0.1
NONE = "as configured"
"""The word for no mode set by hand."""

_MODES: tuple[Mode, ...] = get_args(Mode)


class Word(Protocol):
    """What all replicas can read and change; raises only StoreUnavailable."""

    async def get(self) -> str | None: ...
    async def set(self, word: str, /) -> None: ...
    async def begin(self, word: str, /) -> bool: ...
    async def aclose(self) -> None: ...


class Spread:
    """Keeps the file and the word the same, from `start` to `aclose`."""

    def __init__(self, kept: KeptMode, word: Word) -> None:
        self._kept = kept
        self._word = word
        self._here = NONE
        self._agreed: str | None = None
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; to be called in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """End."""
        self._ending = True
        while self._task is not None and not self._task.done():
            self._task.cancel()  # again, should the network client have taken it for its own
            await asyncio.wait([self._task], timeout=AGAIN_S)
        await self._word.aclose()

    async def agree(self) -> None:
        """Look once at both. Raises: StoreUnavailable: the word cannot be read or changed."""
        if self._kept.changed():
            self._here = self._kept.read() or NONE
        there = await self._word.get()
        if there is not None and there != self._agreed:
            if there != self._here:
                mode = next((mode for mode in _MODES if mode == there), None)
                if not await asyncio.to_thread(self._kept.write, mode):
                    return
                self._here = NONE if mode is None else mode
            self._agreed = there
        elif there is None and self._agreed in (None, self._here):
            # Several may find no word at once: one that has no mode leaves it to those that have.
            if self._here == NONE or await self._word.begin(self._here):
                self._agreed = self._here
        elif self._here != self._agreed:
            await self._word.set(self._here)
            self._agreed = self._here

    async def _run(self) -> None:
        while not self._ending:
            with suppress(StoreUnavailable):  # those who count by it say so
                await self.agree()
            await asyncio.sleep(EVERY_S)
