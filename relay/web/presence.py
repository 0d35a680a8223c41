"""Which requests are open, and what ends them early: a late body, a client that left, a shutdown.

    with presence.watch(visit) as watch:
        body = ...               # a body that is late ends the block: RequestTimeout
        watch.listen()           # the body has been read; from here on nothing else is received
        ...                      # a client that leaves, or a closing server, ends the block:
                                 # ClientLeft, ShuttingDown

What ends the block cancels its task, and comes out of the block in place of the cancellation. Most
answers are done within a moment, so nobody listens before that.
"""

import asyncio
import math
from time import perf_counter
from types import TracebackType

from starlette.types import Message

from relay.errors import RelayError, RequestTimeout
from relay.web.replies import Visit

MOMENT_S = 0.05
"""How often open requests are looked at: far below the second that a leaving may go unnoticed."""


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
    """The open requests of this process. Bodies must have come within `body_timeout_s`.

    One timer looks after the young ones, while there are any: a request that is over in a moment
    costs an entry in two sets.
    """

    def __init__(self, body_timeout_s: float = 60.0) -> None:
        self.body_timeout_s = body_timeout_s
        self.open: set[Watch] = set()
        self.young: set[Watch] = set()
        self._round: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self.open)

    def watch(self, visit: Visit) -> "Watch":
        """A block that ends early for one of the reasons above."""
        if self._round is None:
            self._round = asyncio.get_running_loop().call_later(MOMENT_S, self._go_round)
        return Watch(self, visit)

    def end_all(self) -> None:
        """End every open request now, each with an error of its own."""
        for watch in list(self.open):
            watch.end(ShuttingDown())

    def _go_round(self) -> None:
        self._round = None
        if self.young:
            self._round = asyncio.get_running_loop().call_later(MOMENT_S, self._go_round)
            now = perf_counter()
            self.young = {watch for watch in self.young if not watch.look(now)}


class Watch:
    """One open request; the module's docstring shows its use."""

    __slots__ = (
        "_cancelling",
        "_client",
        "_listening",
        "_presence",
        "_reason",
        "_task",
        "_waiting_since",
        "_watcher",
    )

    def __init__(self, presence: Presence, visit: Visit) -> None:
        self._presence = presence
        self._client = visit.client
        self._listening = False
        self._waiting_since = visit.began
        self._reason: Exception | None = None
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> "Watch":
        self._task = task = self._client.task
        self._cancelling = task.cancelling()
        self._presence.open.add(self)
        self._presence.young.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._presence.open.discard(self)
        self._presence.young.discard(self)
        self._client.on_leave = None
        if self._watcher is not None:
            self._watcher.cancel()
        if self._reason is not None:
            # As in asyncio.timeout: only a cancellation that is ours alone becomes our exception.
            ours = self._task.uncancel() <= self._cancelling
            if ours and kind is not None and issubclass(kind, asyncio.CancelledError):
                raise self._reason from error

    def listen(self) -> None:
        """The body has been read; end the block, from a moment later on, when the client leaves."""
        self._listening = True
        self._client.on_leave = self._left
        if self._client.gone:
            self._left()

    def look(self, now: float) -> bool:
        """Still open at `now`: hear when the client leaves, or end it when its body is late.

        Returns whether it need not be looked at again.
        """
        if self._listening:
            self._watcher = self._client.attend()
            return True
        if now - self._waiting_since > self._presence.body_timeout_s:
            limit_s = self._presence.body_timeout_s
            self.end(
                RequestTimeout(
                    f"The body of the request did not arrive within {limit_s:g} s.",
                    headers=[(b"connection", b"close")],
                )
            )
        return self._reason is not None

    async def receive(self) -> Message:
        """The next piece of a body that is sent on as it comes: each may take `body_timeout_s`."""
        self._waiting_since = perf_counter()
        message = await self._client.receive()
        self._waiting_since = math.inf  # until the next is asked for, nobody waits for the client
        return message

    def end(self, reason: Exception) -> None:
        """Cancel the block, once, for that reason."""
        if self._reason is None:
            self._reason = reason
            self._task.cancel()

    def _left(self) -> None:
        self.end(ClientLeft())
