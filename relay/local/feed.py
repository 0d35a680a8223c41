"""From a blocking thread to the event loop: what one produces, the other reads.

thread: produce(feed) -> feed.put(item) --at most HELD_ITEMS--> feed.pour, or async for :loop

The loop is told once, and then takes whatever there is: an engine comes with an item every few
milliseconds, when both threads have left the caches, so that every line costs several times more.
"""

import asyncio
import logging
import threading
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from relay.errors import BackendError, NoUpstream, RelayError

HELD_ITEMS = 64
"""Items that may wait for a slow reader; then the thread waits too."""

CLOSED = "The local model was closed; the relay is shutting down."

logger = logging.getLogger(__name__)
Item = TypeVar("Item")


class Feed(Generic[Item]):
    """The items that `produce(feed)` puts, in order; it runs in a thread of its own, at once.

    `on_end` is called on the event loop when the thread is done, however it ended. What `produce`
    raises comes out of the iteration: a `RelayError` as it is, all else as a `BackendError`.
    """

    def __init__(
        self, produce: "Callable[[Feed[Item]], None]", *, on_end: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._produce = produce
        self._on_end = on_end
        self._items: deque[Item] = deque()
        self._told = False  # whether the loop will look
        self._room = threading.Event()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = asyncio.Event()
        self._failure: RelayError | None = None
        self.left = threading.Event()
        """Set when nobody listens any more; for a thread that has to wait for something."""
        # A daemon: a model that is stuck must not keep the process from exiting.
        threading.Thread(target=self._run, name="relay-local", daemon=True).start()

    @property
    def closed(self) -> bool:
        """Whether nobody listens any more."""
        return self.left.is_set()

    def put(self, item: Item) -> bool:
        """Hand an item over, from the thread; False when nobody listens any more."""
        if len(self._items) >= HELD_ITEMS:
            self._wait_for_room()
        if self.left.is_set():
            return False
        self._items.append(item)
        if not self._told:
            self._told = True
            self._tell(self._wake)
        return not self.left.is_set()

    def __aiter__(self) -> "Feed[Item]":
        return self

    async def __anext__(self) -> Item:
        if not (self._items or await self._more()):
            raise StopAsyncIteration
        return self._take()

    async def pour(self, sink: "Callable[[Item], Awaitable[None] | None]") -> None:
        """Give each item to `sink`, and await what it gives back, if anything."""
        while self._items or await self._more():
            if (wait := sink(self._take())) is not None:
                await wait

    async def aclose(self) -> None:
        """Stop listening, and wait until the thread has ended."""
        self.left.set()
        self._room.set()
        await self._ended.wait()

    def _wait_for_room(self) -> None:
        while len(self._items) >= HELD_ITEMS and not self.closed:
            self._room.clear()
            if len(self._items) >= HELD_ITEMS and not self.closed:  # still so
                self._room.wait()

    def _take(self) -> Item:
        item = self._items.popleft()
        if not self._room.is_set():
            self._room.set()
        return item

    async def _more(self) -> bool:
        """Wait until there is an item; False when none will come."""
        while not self._items:
            if self._ended.is_set():
                if self._failure is not None:
                    raise self._failure
                if self.closed:
                    raise NoUpstream(CLOSED)  # half an answer must not look like a whole one
                return False
            self._waiter = self._loop.create_future()
            await self._waiter
        return True

    def _wake(self) -> None:
        self._told = False  # before it is looked: what is put from now on is told again
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _run(self) -> None:
        failure: RelayError | None = None
        try:
            self._produce(self)
        except RelayError as exc:
            failure = exc
        except BaseException as exc:  # whatever ends the thread, its reader must be told
            failure = _failure(exc)
        self._tell(self._finish, failure)

    def _finish(self, failure: RelayError | None) -> None:
        self._failure = failure
        self._ended.set()
        self._wake()
        self._on_end()

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed, and with it whoever was reading
            self.left.set()


def _failure(exc: BaseException) -> BackendError:
    # An exception's own text may quote the prompt, so the log says what and where, not more.
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    logger.error(
        "local_model_failed error=%s at=%s:%s in=%s",
        type(exc).__name__,
        frame.filename,
        frame.lineno,
        frame.name,
    )
    return BackendError(
        "The local model failed while answering; the relay's log says where.",
        code="local_model_failed",
    )
