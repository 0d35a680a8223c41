"""What was used in the last minute: exact at every moment, and no more than 61 entries.

Everything of one second is one entry, which counts until its latest request is a minute old. So in
no minute, wherever it begins, more is granted than the limit says; what came early in its second
counts up to a second too long. A token bucket (GCRA) needs less room, but lets through twice the
limit in some minutes; a list of all requests is exact for the early ones, too, and has no bound.
"""

import math
from collections import deque

from relay.stores.counters.values import WINDOW_S, Used

PARTS = 60
"""Of a minute of which only the sum is known."""


class Entry:
    """What began in one second; `gone` when it counts no more."""

    __slots__ = ("gone", "last", "requests", "second", "tokens")

    def __init__(self, second: int) -> None:
        self.second = second
        self.last = 0.0
        self.requests = 0
        self.tokens = 0
        self.gone = False


class Window:
    """One holder's minute. Times are of one clock that does not go back."""

    __slots__ = ("entries", "requests", "tokens")

    def __init__(self) -> None:
        self.requests = 0
        self.tokens = 0
        self.entries: deque[Entry] = deque()

    def expire(self, now: float) -> None:
        """Forget what is a minute old."""
        entries = self.entries
        while entries and entries[0].last + WINDOW_S <= now:
            entry = entries.popleft()
            entry.gone = True
            self.requests -= entry.requests
            self.tokens -= entry.tokens

    def add(self, now: float, requests: int, tokens: int) -> Entry:
        """Count these from now on."""
        second = int(now)
        entries = self.entries
        if not entries or (entry := entries[-1]).second != second:
            entry = Entry(second)
            entries.append(entry)
        entry.last = now
        entry.requests += requests
        entry.tokens += tokens
        self.requests += requests
        self.tokens += tokens
        return entry

    def resume(self, at: float, requests: int, tokens: int) -> None:
        """Begin with what was used in the minute before `at`, as if it had come evenly."""
        for part in range(PARTS):
            here = requests * (part + 1) // PARTS - requests * part // PARTS
            there = tokens * (part + 1) // PARTS - tokens * part // PARTS
            if here or there:
                self.add(at - WINDOW_S * (PARTS - 1 - part) / PARTS, here, there)

    def wait_s(self, now: float, *, requests: int = 0, tokens: int = 0) -> float:
        """Seconds until so many of each have expired; infinite when there are not so many."""
        for entry in self.entries:
            requests -= entry.requests
            tokens -= entry.tokens
            if requests <= 0 and tokens <= 0:
                return entry.last + WINDOW_S - now
        return math.inf

    def used(self, now: float) -> Used:
        """The counts, and when they will be 0."""
        reset_s = self.entries[-1].last + WINDOW_S - now if self.entries else 0.0
        return Used(self.requests, self.tokens, reset_s)
