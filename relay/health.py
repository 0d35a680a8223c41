"""How a target is doing: its circuit breaker, how busy it is, how fast it answers.

    closed      asked as usual
    open        left alone: it failed too often, or said when to come back
    half-open   the time is over: one call may try; its answer closes or opens the breaker again

What is a failure: no connection, a time limit, a broken answer, a status of 500 and above, a
refused key. Any other answer is a success, also an error that is the client's own. Whoever asks
calls `begin`, then `answered` when the first bytes are there or `failed`, then `end` with what
`begin` gave.

The latency is a moving average that follows a peak at once and forgets it slowly ("peak EWMA", as
in Finagle): a target that has just become slow is known by its first slow answer.
"""

import math
from collections.abc import Callable
from time import perf_counter

from relay.settings import BreakerSettings

NEWEST = 0.1
"""The share of a new, shorter latency in the average."""

LATENCY_MEMORY_S = 10.0
"""After this long without an answer, a third of the average is left."""


class Health:
    """The state of one target. Times in seconds; `now` is the clock."""

    def __init__(
        self, settings: BreakerSettings, *, now: Callable[[], float] = perf_counter
    ) -> None:
        self.in_flight = 0
        self.calls = 0
        self.failures = 0
        self.opened = 0
        self.last_error = ""
        self.now = now
        self._settings = settings
        self._in_a_row = 0
        self._open_until: float | None = None
        self._trials = 0
        self._trial = 0  # the number of the one that is under way, or 0
        self._latency_s = self._measured_at = 0.0
        self._window = _Window(settings.window_s)

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`."""
        if self._open_until is None:
            return "closed"
        return "open" if self.now() < self._open_until else "half-open"

    @property
    def latency_s(self) -> float:
        """How long an answer takes to begin; old answers are forgotten, so that it gets a try."""
        silence_s = self.now() - self._measured_at
        return self._latency_s * math.exp(-silence_s / LATENCY_MEMORY_S)

    @property
    def opens_in_s(self) -> float:
        """How long it will still be left alone."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - self.now())

    @property
    def admits(self) -> bool:
        """Whether it may be asked now."""
        if self._open_until is None:
            return True
        return not self._trial and self.now() >= self._open_until

    def begin(self) -> int:
        """A call is on its way; gives the number of its trial if it is one, else 0."""
        self.in_flight += 1
        self.calls += 1
        if self._open_until is None or not self.admits:
            return 0
        self._trials += 1
        self._trial = self._trials
        return self._trial

    def answered(self, latency_s: float, at: float) -> None:
        """Its answer has begun at that time, so long after it was asked."""
        self.succeeded()
        if latency_s > self._latency_s:
            self._latency_s = latency_s
        else:
            self._latency_s += (latency_s - self._latency_s) * NEWEST
        self._measured_at = at

    def succeeded(self) -> None:
        """It answered as it should; how fast says nothing."""
        self._in_a_row = 0
        if self._open_until is not None:
            self._close()
        self._window.add(self.now, failed=False)

    def failed(self, error: str) -> None:
        """It did not answer, or not as it should."""
        self.failures += 1
        self.last_error = error
        self._in_a_row += 1
        self._window.add(self.now, failed=True)
        settings = self._settings
        if (
            self._open_until is not None
            or self._in_a_row >= settings.failures
            or self._window.rate(self.now(), settings.calls) >= settings.error_rate
        ):
            self._open(settings.open_s)

    def rest(self, seconds: float) -> None:
        """Leave it alone for so long: it asked for that."""
        self._open(max(seconds, self.opens_in_s))

    def try_again(self) -> None:
        """What it was left alone for may be over: one call may try at once."""
        if self._open_until is not None:
            self._open_until = min(self._open_until, self.now())

    def end(self, trial: int) -> None:
        """The call is over, however it went; when it was the trial, another may follow."""
        self.in_flight -= 1
        if trial and trial == self._trial:
            self._trial = 0

    def _open(self, seconds: float) -> None:
        if self.state == "closed":
            self.opened += 1
        self._open_until = self.now() + seconds
        self._trial = 0

    def _close(self) -> None:
        self._open_until = None
        self._trial = 0
        self._window = _Window(self._settings.window_s)


class _Window:
    """How many of the last calls failed: this span of time and the one before it."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._until = 0.0
        self._calls = self._failures = 0
        self._calls_before = self._failures_before = 0

    def add(self, clock: Callable[[], float], *, failed: bool) -> None:
        if failed or self._failures or self._failures_before:
            self._move_on(clock())  # while nothing fails nobody needs to know the time
        self._calls += 1
        self._failures += failed

    def rate(self, now: float, fewest: int) -> float:
        self._move_on(now)
        calls = self._calls + self._calls_before
        return (self._failures + self._failures_before) / calls if calls >= fewest else 0.0

    def _move_on(self, now: float) -> None:
        if now < self._until:
            return
        old = now >= self._until + self._span_s
        self._calls_before, self._failures_before = (0, 0) if old else (self._calls, self._failures)
        self._calls = self._failures = 0
        self._until = now + self._span_s
