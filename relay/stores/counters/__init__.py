"""What each holder of limits has used, counted where all who serve it can see it.

    one process              memory.MemoryCounters
    the workers of one       worker.WorkerCounters --unix socket--> parent.Counting, which keeps a
    machine                  MemoryCounters for all of them
    many replicas            redis.RedisCounters --one script a call--> Redis

One contract suite runs over all three. A call is reserved at all of its holders or at none; what
was granted is settled once, and settling never waits.

    values.py    what is asked and answered      calendar.py   when a budget's window begins
    account.py   the counts of one holder        window.py     what was used in the last minute
    journal.py   money that is in no ledger yet, on the disk
    link.py      one connection to Redis         patience.py   how long an answer may take
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from relay.stores.counters.opening import count_for_workers, open_counters
from relay.stores.counters.values import (
    Ask,
    Granted,
    Limit,
    Outcome,
    Recorded,
    Refused,
    Span,
    Unseeded,
    Used,
)

__all__ = [
    "Ask",
    "Counters",
    "Granted",
    "Limit",
    "Outcome",
    "Recorded",
    "Refused",
    "Span",
    "Unseeded",
    "Used",
    "count_for_workers",
    "open_counters",
]


class Counters(Protocol):
    """The counts of one relay, or of several together."""

    def reserve(self, ask: Ask) -> Outcome | Awaitable[Outcome]:
        """Take what a call may use from all of its holders, or from none.

        `Unseeded`: the ledger has to be asked first what was spent; then `seed`, and ask again.
        Cancelling what is awaited gives back what was granted meanwhile.

        Raises:
            Overloaded: those who count cannot be reached, and nobody may go on without them.
        """
        ...

    def settle(self, granted: Granted, *, tokens: int, cost_nano: int) -> None:
        """End a call that used that much; nothing at all is a release. Once: again does nothing."""
        ...

    def seed(self, span: Span, spent_nano: int) -> None:
        """What the ledger says of that span. The first word counts: other ones do nothing."""
        ...

    def recorded(self, rows: Sequence[Recorded]) -> None:
        """These settled costs are in the ledger now, so they need not be remembered beside it."""
        ...

    def unrecorded(self) -> Mapping[str, int]:
        """Nano-dollars that this process knows to be spent and not in the ledger, by holder."""
        ...

    async def aclose(self) -> None:
        """Give back connections and files."""
        ...
