"""Which requests are open, and what ends them early: a late body, a client that left, a shutdown.

    async with presence.watch(visit, receive) as watch:
        body = ...               # a body that is late ends the block: RequestTimeout
        watch.listen()           # the body has been read; from here on nothing else is received
        ...                      # a client that leaves, or a closing server, ends the block:
                                 # ClientLeft, ShuttingDown

What ends the block cancels its task, and comes out of the block in place of the cancellation. Most
answers are done within a moment, so nobody listens before that: one timer is all that they cost.
"""

import asyncio
from types import TracebackType
from typing import cast

from starlette.types import Receive

from relay.errors import RelayError, RequestTimeout
from relay.web.replies import Visit

MOMENT_S = 0.05
"""How long a request is not listened to: less than a client's leaving may go unnoticed (1 s)."""


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
    """The open requests of this process. Bodies must have come within `body_timeout_s`."""

    def __init__(self, body_timeout_s: float = 60.0) -> None:
        self._open: set[Watch] = set()
        self._body_timeout_s = body_timeout_s

    def __len__(self) -> int:
        return len(self._open)

    def watch(self, visit: Visit, receive: Receive) -> "Watch":
        """A block that ends early for one of the reasons above."""
        return Watch(visit, receive, self._open, self._body_timeout_s)

    def end_all(self) -> None:
        """End every open answer now, each with an error of its own."""
        for watch in list(self._open):
            watch.end(ShuttingDown())


class Watch:
    """One open request; the module's docstring shows its use."""

    __slots__ = (
        "_body_timeout_s",
        "_cancelling",
        "_listening",
        "_loop",
        "_moment_over",
        "_open",
        "_reason",
        "_receive",
        "_task",
        "_timer",
        "_visit",
        "_watcher",
    )

    def __init__(
        self, visit: Visit, receive: Receive, open_requests: "set[Watch]", body_timeout_s: float
    ) -> None:
        self._visit = visit
        self._receive = receive
        self._open = open_requests
        self._body_timeout_s = body_timeout_s
        self._listening = self._moment_over = False
        self._reason: Exception | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Watch":
        self._task = task = cast("asyncio.Task[object]", asyncio.current_task())
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(MOMENT_S, self._look)
        self._open.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.discard(self)
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._reason is not None:
            # As in asyncio.timeout: only a cancellation that is ours alone becomes our exception.
            ours = self._task.uncancel() <= self._cancelling
            if ours and kind is not None and issubclass(kind, asyncio.CancelledError):
                raise self._reason from error

    def listen(self) -> None:
        """The body has been read; notice when the client leaves."""
        self._listening = True
        if self._moment_over:
            self._timer.cancel()
            self._watcher = self._loop.create_task(self._wait())

    def end(self, reason: Exception) -> None:
        """Cancel the block, once, for that reason."""
        if self._reason is None:
            self._reason = reason
            self._task.cancel()

    def _look(self) -> None:
        """The moment is over: listen for the client's leaving, or wait for the rest of its body."""
        self._moment_over = True
        if self._listening:
            self._watcher = self._loop.create_task(self._wait())
        else:
            rest_s = max(0.0, self._body_timeout_s - MOMENT_S)
            self._timer = self._loop.call_later(rest_s, self._late)

    def _late(self) -> None:
        self.end(
            RequestTimeout(
                f"The body of the request did not arrive within {self._body_timeout_s:g} s.",
                headers=[(b"connection", b"close")],
            )
        )

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._visit.ended:  # after the last byte the server says that, too
            self.end(ClientLeft())
