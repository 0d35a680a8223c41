"""From a blocking thread to the event loop: what one produces, the other reads.

thread: produce(feed) -> feed.put(item) --at most HELD_ITEMS--> async for item in feed :loop
"""

import asyncio
import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable
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
        self._room = threading.Semaphore(HELD_ITEMS)
        self._changed = asyncio.Event()
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
        self._room.acquire()
        if self.closed:
            self._room.release()
            return False
        self._items.append(item)
        self._tell(self._changed.set)
        return not self.closed

    def __aiter__(self) -> "Feed[Item]":
        return self

    async def __anext__(self) -> Item:
        while not self._items:
            if self._ended.is_set():
                if self._failure is not None:
                    raise self._failure
                if self.closed:
                    raise NoUpstream(CLOSED)  # half an answer must not look like a whole one
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        self._room.release()
        return self._items.popleft()

    async def aclose(self) -> None:
        """Stop listening, and wait until the thread has ended."""
        self.left.set()
        self._room.release()
        await self._ended.wait()

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
        self._changed.set()
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
