"""A model file that is in memory while it is needed.

    absent --start, or first use--> loading --> loaded --idle, or room is needed--> absent
                                       \\-> failed: why, for RETRY_S; then the next use tries again
                                       \\-> absent: no room while others answer; who waits hears it

Loading is a thread's business: first the file is read once (that is the progress one sees, and the
engine then finds it in the system's cache), then the engine takes it.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relay.errors import NoUpstream, Overloaded
from relay.local.feed import CLOSED
from relay.local.memory import MIB, Memory, free_bytes

RETRY_S = 10.0
"""How long a failure is told before loading is tried again."""

READ_BYTES = 4 * MIB
"""Read in one go while a file is brought into the system's cache."""

logger = logging.getLogger(__name__)


class Unloadable(Exception):
    """The file cannot be loaded; the text is one sentence that says why."""


class Resident:
    """One engine for one file. `weigh` tells its bytes in memory; both callbacks run in a thread.

    `acquire` and `release` say that it is in use; only an unused one is unloaded, after `idle_s`
    (0: never) or when another model needs the memory.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        *,
        weigh: Callable[[], int],
        open_engine: Callable[[], Any],
        memory: Memory,
        idle_s: float = 0.0,
    ) -> None:
        self.name = name
        self.need_bytes = 0
        self.idle_since: float | None = None
        self.progress = 0.0
        self._path = path
        self._weigh = weigh
        self._open = open_engine
        self._memory = memory
        self._idle_s = idle_s
        self._users = 0
        self._engine: Any = None
        self._loading: asyncio.Task[None] | None = None
        self._failure: str | None = None
        self._failed_at = 0.0
        self._crowded: Overloaded | None = None
        self._loaded_once = False
        self._leaving = False
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        memory.enter(self)

    @property
    def loaded(self) -> bool:
        """Whether it is in memory."""
        return self._engine is not None

    @property
    def engine(self) -> Any:
        """The engine, between `acquire` and `release`."""
        return self._engine

    def state(self) -> str:
        """`ready`, also when it has been unloaded since; `loading`; or why it cannot be loaded."""
        if self._failure is not None:
            return self._failure
        return "ready" if self._loaded_once else "loading"

    def status(self) -> dict[str, Any]:
        """What is told of it: `loaded`, `loading` with the share that is read, and so on."""
        if self._engine is not None:
            return {"value": "loaded"}
        if self._loading is not None and not self._leaving:
            return {"value": "loading", "progress": round(self.progress, 2)}
        if self._failure is not None:
            return {"value": "failed", "message": self._failure}
        return {"value": "unloaded"}

    def start(self) -> None:
        """Begin to load it, unless that goes on or is done."""
        if self._loading is None and self._engine is None and not self._closed:
            self._loading = asyncio.get_running_loop().create_task(self._load())

    async def acquire(self) -> None:
        """Use it; waits until it is loaded.

        Raises:
            NoUpstream: it cannot be loaded, or was closed.
            Overloaded: other models need the memory for their answers.
        """
        self._users += 1
        self.idle_since = None
        try:
            await self._come()
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Use it no longer; to be called in the event loop."""
        self._users -= 1
        if self._users == 0:
            self._rest()

    async def unload(self, reason: str) -> None:
        """Give back its memory; it is loaded again when somebody uses it."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        logger.info("local_model_unloaded model=%s reason=%s", self.name, reason)
        # Freeing the last reference joins the engine's threads: not on the event loop.
        holder = [engine]
        del engine
        await asyncio.to_thread(holder.clear)

    async def aclose(self, *, free: bool = True) -> None:
        """Load no more, and give it back; with `free` False it is left as it is (it is stuck)."""
        self._closed = True
        self._memory.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._loading is not None:
            await asyncio.wait([self._loading])
        self._failure = CLOSED
        self._failed_at = time.monotonic()
        if free:
            await self.unload("closed")

    async def _come(self) -> None:
        while self._engine is None:
            recent = time.monotonic() - self._failed_at < RETRY_S
            if self._closed or (self._failure is not None and recent):
                raise NoUpstream(self._failure or CLOSED)
            self._failure = None
            self.start()
            assert self._loading is not None  # noqa: S101  # start has seen to it
            await asyncio.wait([self._loading])  # cancelled with its caller, it lets it go on
            if self._engine is None and self._crowded is not None:
                raise Overloaded(self._crowded.message, headers=self._crowded.headers)

    def _rest(self) -> None:
        loop = asyncio.get_running_loop()
        self.idle_since = loop.time()
        self._memory.rested()
        if self._timer is not None:
            self._timer.cancel()
        if self._idle_s and self._engine is not None:
            self._timer = loop.call_later(self._idle_s, self._look)

    def _look(self) -> None:
        if self._users == 0 and self._engine is not None and self._loading is None:
            # The task that loads is also who unloads: whoever comes meanwhile waits for its end.
            self._loading = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        self._leaving = True
        try:
            await self.unload("idle")
        finally:
            self._leaving = False
            self._loading = None

    async def _load(self) -> None:
        began = time.monotonic()
        self.progress = 0.0
        self._crowded = None
        logger.info("local_model_loading model=%s file=%s", self.name, self._path.name)
        try:
            async with self._memory.turn:
                self.need_bytes = await _in_thread(self._weigh)
                await self._memory.make_room(self)
                self._engine = await _in_thread(self._bring)
        except Overloaded as exc:
            self._crowded = exc
            logger.warning("local_model_crowded_out model=%s", self.name)
        except (Unloadable, NoUpstream) as exc:
            self._failure, self._failed_at = str(exc), time.monotonic()
            logger.error("local_model_unloadable model=%s why=%s", self.name, exc)  # noqa: TRY400  # the sentence says it
        else:
            self._loaded_once = True
            self._failure = None
            if self._users == 0:
                self._rest()
            seconds = time.monotonic() - began
            logger.info(
                "local_model_loaded model=%s seconds=%.1f mb=%d",
                self.name,
                seconds,
                self.need_bytes // MIB,
            )
        finally:
            self._loading = None

    def _bring(self) -> Any:
        size = self._path.stat().st_size
        if size < free_bytes():
            with self._path.open("rb", buffering=0) as file:
                self._read_once(file, size)
        self.progress = 1.0
        return self._open()

    def _read_once(self, file: Any, size: int) -> None:
        buffer = bytearray(READ_BYTES)
        read = 0
        while not self._closed and (count := file.readinto(buffer)):
            read += count
            self.progress = read / size


async def _in_thread(work: Callable[[], Any]) -> Any:
    """What `work` gives, done in a thread that an exiting interpreter waits for.

    A daemon it would end inside the engine, which aborts then. Cancelling does not end it.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, failure: BaseException | None) -> None:
        if done.cancelled():
            return
        if failure is None:
            done.set_result(result)
        else:
            done.set_exception(failure)

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Unloadable as exc:
            failure = exc
        except Exception as exc:  # the engine's, the linker's or Python's: it cannot be loaded
            logger.error("local_model_unloadable error=%s", type(exc).__name__)  # noqa: TRY400  # the engine's trace says nothing
            failure = Unloadable(
                "The local model could not be loaded: its file is damaged, or of a kind that the "
                "engine does not know."
            )
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop is closed: nobody is left to use it
            logger.debug("local_model_unwanted")

    threading.Thread(target=run, name="relay-load").start()
    return await done
