"""What a ledger is to those who write into it, and the one that keeps nothing."""

from typing import Protocol

from relay.events import RequestEnded
from relay.stores import Bodies, LedgerRow

Ended = RequestEnded | LedgerRow
"""What is left of a request: its row, or that and what its price can be known by later."""


class Book(Protocol):
    """Takes what has ended; never blocks, never raises."""

    @property
    def full(self) -> bool:
        """Whether whoever is about to ask should wait for `room`."""
        ...

    def add(self, ended: Ended, bodies: Bodies | None = None) -> None:
        """Take what has ended; of a `RequestEnded` the price is still to come."""
        ...

    async def room(self) -> None:
        """Wait for room, but not for long."""
        ...


class NoLedger:
    """Keeps nothing."""

    full = False

    def add(self, ended: Ended, bodies: Bodies | None = None) -> None:
        """Nothing is kept."""

    async def room(self) -> None:
        """There always is."""

    def start(self) -> None:
        """Nothing has to run."""

    async def aclose(self) -> None:
        """Nothing is left."""


NO_LEDGER = NoLedger()
