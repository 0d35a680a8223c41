"""Which answers are open, and what ends them early: a client that left, a server that must close.

    async with presence.watch(visit, receive):    # the request's body has been read
        ...                                       # cancelled when either happens, then raised as
                                                  # ClientLeft or ShuttingDown

The watching task belongs to the block and ends with it.
"""

import asyncio
from types import TracebackType
from typing import cast

from starlette.types import Receive

from relay.errors import RelayError
from relay.web.replies import Visit


class ClientLeft(Exception):
    """Nobody is there to receive the answer any more."""


class ShuttingDown(RelayError):
    """The relay is stopping, and the time its open answers had is over."""

    status = 503
    type = "server_error"
    code = "overloaded"

    def __init__(self) -> None:
        super().__init__("The relay is shutting down; ask again.", headers=[(b"retry-after", b"1")])


class Presence:
    """The open answers of this process."""

    def __init__(self) -> None:
        self._open: set[Watch] = set()

    def __len__(self) -> int:
        return len(self._open)

    def watch(self, visit: Visit, receive: Receive) -> "Watch":
        """A block that ends early when the client leaves or the server closes."""
        return Watch(visit, receive, self._open)

    def end_all(self) -> None:
        """End every open answer now, each with an error of its own."""
        for watch in list(self._open):
            watch.end(ShuttingDown())


class Watch:
    """One open answer. Raises ClientLeft or ShuttingDown in place of the cancellation it caused."""

    def __init__(self, visit: Visit, receive: Receive, open_answers: "set[Watch]") -> None:
        self._visit = visit
        self._receive = receive
        self._open = open_answers
        self._reason: Exception | None = None

    async def __aenter__(self) -> None:
        self._task = task = cast("asyncio.Task[object]", asyncio.current_task())
        self._cancelling = task.cancelling()
        self._watcher = asyncio.create_task(self._wait())
        self._open.add(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.discard(self)
        self._watcher.cancel()
        if self._reason is not None:
            # As in asyncio.timeout: only a cancellation that is ours alone becomes our exception.
            ours = self._task.uncancel() <= self._cancelling
            if ours and kind is not None and issubclass(kind, asyncio.CancelledError):
                raise self._reason from error

    def end(self, reason: Exception) -> None:
        """Cancel the block, once, for that reason."""
        if self._reason is None:
            self._reason = reason
            self._task.cancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._visit.ended:  # after the last byte the server says that, too
            self.end(ClientLeft())
