"""What a ledger is to those who write into it, and the one that keeps nothing."""

from typing import Protocol

from relay.events import RequestEnded
from relay.stores import Bodies


class Book(Protocol):
    """Takes what has ended; never blocks, never raises."""

    @property
    def full(self) -> bool:
        """Whether whoever is about to ask should wait for `room`."""
        ...

    def add(self, ended: RequestEnded, bodies: Bodies | None = None) -> None: ...
    async def room(self) -> None:
        """Wait for room, but not for long."""
        ...


class NoLedger:
    """Keeps nothing."""

    full = False

    def add(self, ended: RequestEnded, bodies: Bodies | None = None) -> None:
        """Nothing is kept."""

    async def room(self) -> None:
        """There always is."""

    def start(self) -> None:
        """Nothing has to run."""

    async def aclose(self) -> None:
        """Nothing is left."""


NO_LEDGER = NoLedger()
