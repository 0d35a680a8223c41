"""Who may generate now, and who waits: a fixed number of places, first come first served."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from relay.errors import NoUpstream, Overloaded
from relay.local.feed import CLOSED, Feed

WAITING_LIMIT = 100
"""Requests that may wait for their turn; the next is told to come back later."""

RETRY_AFTER_S = 5
"""When those who found no room should come back."""

CLOSING_LIMIT_S = 5.0
"""How long closing waits for a model that does not come to its next piece."""

logger = logging.getLogger(__name__)
Item = TypeVar("Item")


class Turns:
    """The places of one local model, and the line before them."""

    def __init__(self, places: int, *, waiting_limit: int = WAITING_LIMIT) -> None:
        self._free = places
        self._waiting_limit = waiting_limit
        self._line: deque[tuple[asyncio.Future[None], int]] = deque()
        self._feeds: set[Feed[Any]] = set()
        self._closed = False

    @asynccontextmanager
    async def run(
        self,
        produce: Callable[[Feed[Item]], None],
        *,
        places: int = 1,
        ready: Callable[[], Awaitable[None]] | None = None,
        done: Callable[[], None] | None = None,
    ) -> AsyncIterator[Feed[Item]]:
        """Wait for a turn and for `ready`, then run `produce` in a thread.

        Entering means that it runs; leaving stops it and waits for its end. The places come back,
        and `done` is called, when the thread has ended.

        Raises:
            Overloaded: the line is full.
            NoUpstream: the model was closed.
        """
        await self._take(places)
        try:
            if ready is not None:
                await ready()
            feed = self._begin(produce, places, done)
        except BaseException:
            self._give_back(places)
            raise
        try:
            yield feed
        finally:
            await feed.aclose()

    async def aclose(self) -> bool:
        """Send away who waits, stop who generates; whether all of them have ended."""
        self._closed = True
        for turn, _ in self._line:
            if not turn.done():
                turn.set_exception(NoUpstream(CLOSED))
        try:
            async with asyncio.timeout(CLOSING_LIMIT_S):
                for feed in list(self._feeds):
                    await feed.aclose()
        except TimeoutError:
            logger.warning("local_model_stuck threads=%d", len(self._feeds))
            return False
        return True

    def _begin(
        self,
        produce: Callable[[Feed[Item]], None],
        places: int,
        done: Callable[[], None] | None,
    ) -> Feed[Item]:
        def end() -> None:
            self._feeds.discard(feed)
            self._give_back(places)
            if done is not None:
                done()

        feed = Feed(produce, on_end=end)
        self._feeds.add(feed)
        return feed

    async def _take(self, places: int) -> None:
        if self._closed:
            raise NoUpstream(CLOSED)
        if not self._line and self._free >= places:
            self._free -= places
            return
        if len(self._line) >= self._waiting_limit:
            raise Overloaded(
                "The local model is busy and its waiting line is full; try again later.",
                headers=[(b"retry-after", b"%d" % RETRY_AFTER_S)],
            )
        turn = asyncio.get_running_loop().create_future()
        entry = (turn, places)
        self._line.append(entry)
        try:
            await turn
        except BaseException:
            # Cancelled while waiting, or just after the turn was given; or the model was closed.
            if entry in self._line:
                self._line.remove(entry)
                self._advance()
            elif not turn.cancelled() and turn.exception() is None:
                self._give_back(places)
            raise

    def _give_back(self, places: int) -> None:
        self._free += places
        self._advance()

    def _advance(self) -> None:

        while self._line:
            turn, places = self._line[0]
            if not turn.done():  # else it was cancelled or sent away, and knows it
                if places > self._free:
                    return
                self._free -= places
                turn.set_result(None)
            self._line.popleft()
