"""A plain `Backend` as a local one: it has one model, its name, and is always ready."""

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from relay.local.model import paths_of
from relay.schema import ModelCard
from relay.types import Answer, Backend, Call, Completion


class ReadyBackend:
    """Adds to a backend what the relay asks of local ones."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name = str(getattr(backend, "name", type(backend).__name__.lower()))
        self.paths = paths_of(backend)
        self._created = int(time.time())

    def cards(self) -> Sequence[ModelCard]:
        """One, under the name of the backend."""
        return [ModelCard(id=self.name, object="model", created=self._created, owned_by="relay")]

    def start(self) -> None:
        """It is there as soon as it was made."""

    def state(self) -> str:
        """Always `ready`."""
        return "ready"

    async def complete(self, call: Call) -> Completion:
        """The backend's answer."""
        return await self._backend.complete(call)

    def stream(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """The backend's answer."""
        return self._backend.stream(call)

    async def aclose(self) -> None:
        """Close it."""
        await self._backend.aclose()
