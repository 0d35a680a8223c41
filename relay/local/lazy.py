"""A backend that takes long to make: made in a thread when the relay starts, or when it is asked.

start() --thread--> load()         state(): loading -> ready, or why not
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from relay.errors import NoUpstream
from relay.local.feed import CLOSED
from relay.local.model import LocalBackend
from relay.schema import ModelCard
from relay.types import Answer, Call, Completion

logger = logging.getLogger(__name__)


class CannotLoad(Exception):
    """A model cannot be loaded; the text is one sentence for who asks for it."""


class LazyBackend:
    """What `load` gives, once it does; calls wait for that."""

    def __init__(self, name: str, load: Callable[[], LocalBackend]) -> None:
        self.name = name
        self._load = load
        self._created = int(time.time())
        self._settled = asyncio.Event()
        self._started = False
        self._backend: LocalBackend | None = None
        self._failure: str | None = None

    def cards(self) -> Sequence[ModelCard]:
        """One model, under the name."""
        return [ModelCard(id=self.name, object="model", created=self._created, owned_by="relay")]

    def start(self) -> None:
        """Begin to load, in a thread."""
        if not self._started:
            self._started = True
            loop = asyncio.get_running_loop()
            # No daemon: an exiting interpreter would end it inside the engine, which may abort.
            threading.Thread(target=self._make, args=(loop,), name="relay-load").start()

    def state(self) -> str:
        """`loading`, then the state of what was loaded, or what is wrong with it."""
        if self._failure is not None:
            return self._failure
        return "loading" if self._backend is None else self._backend.state()

    async def complete(self, call: Call) -> Completion:
        """The whole answer. Raises: NoUpstream: it cannot be loaded; else as what was loaded."""
        return await (await self._loaded()).complete(call)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        """The answer once it has begun. Raises: as `complete`."""
        async with (await self._loaded()).stream(call) as answer:
            yield answer

    async def aclose(self) -> None:
        """Wait for the thread, and close what it has made."""
        if self._started:
            await self._settled.wait()
        self._failure = CLOSED
        backend, self._backend = self._backend, None
        if backend is not None:
            await backend.aclose()

    async def _loaded(self) -> LocalBackend:
        self.start()
        await self._settled.wait()
        if self._backend is None:
            raise NoUpstream(self._failure or CLOSED)
        return self._backend

    def _make(self, loop: asyncio.AbstractEventLoop) -> None:
        made: LocalBackend | None = None
        failure: str | None = None
        try:
            made = self._load()
        except CannotLoad as exc:
            failure = str(exc)
        except Exception as exc:  # the engine's, or of code that came with the model
            logger.exception("local_model_unloadable")
            failure = (
                f"The model {self.name} could not be loaded ({type(exc).__name__}); "
                "the relay's log says why."
            )
        try:
            loop.call_soon_threadsafe(self._settle, made, failure)
        except RuntimeError:  # the loop is closed: nobody is left to ask
            logger.debug("local_model_unwanted")

    def _settle(self, made: LocalBackend | None, failure: str | None) -> None:
        self._backend, self._failure = made, failure
        self._settled.set()
