"""What Redis last told of the minutes of holders, for whoever has to count on without it."""

from collections.abc import Callable, Sequence

from relay.stores.counters.memory import MemoryCounters
from relay.stores.counters.values import Used
from relay.types import Holder

MOST = 100_000
"""Of how many holders it is known; then all is forgotten, and comes back with their next calls."""


class Minutes:
    """Kept only if they are wanted. `clock` is that of the counters which go on with them."""

    def __init__(self, clock: Callable[[], float], *, wanted: bool) -> None:
        self._clock = clock
        self._wanted = wanted
        self._told: dict[str, tuple[float, Used]] = {}

    def hear(self, holders: Sequence[Holder], used: Sequence[Used]) -> None:
        """So much was used of the minutes of these holders just now."""
        if not self._wanted:
            return
        if len(self._told) >= MOST:
            self._told.clear()
        now = self._clock()
        for holder, one in zip(holders, used, strict=True):
            if one.requests:  # else it has no limit of a minute
                self._told[holder.id] = (now, one)

    def hand_over(self, holders: Sequence[Holder], counters: MemoryCounters) -> None:
        """Have these holders counted from there on, unless they are counted already."""
        for holder in holders:
            if (told := self._told.pop(holder.id, None)) is not None:
                counters.resume(holder, *told)
