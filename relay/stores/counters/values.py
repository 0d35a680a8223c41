"""The values between those who limit calls and those who count them."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from relay.types import Holder

WINDOW_S = 60.0
"""Requests and tokens count for a minute, each from its own moment on."""

Limit = Literal["requests", "tokens", "parallel", "budget", "uses"]
"""What may run out: rpm, tpm, slots, money, or the requests that a token has in all."""


class Ask(NamedTuple):
    """What a call may use. Estimates are in part a guess; only the `least` is sure.

    A guess is no reason to refuse while something is left: then the call reserves that.
    Holders with the same `group` are counted in one place, and only such come together.
    """

    group: str
    holders: tuple[Holder, ...]
    tokens: int = 0
    least_tokens: int = 0
    cost_nano: int = 0
    least_cost_nano: int = 0
    unseeded: bool = False
    """Go on although it is not known what was spent before: the ledger cannot be read."""


class Used(NamedTuple):
    """What a holder has used in the last minute, and after how many seconds none of it counts."""

    requests: int
    tokens: int
    reset_s: float


class Granted:
    """A reservation: `used` has the counts of each holder, this call included."""

    __slots__ = ()

    @property
    def used(self) -> Sequence[Used]:
        raise NotImplementedError  # pragma: no cover - each kind of counters has its own


class Refused(NamedTuple):
    """The limit of one holder (by its position) that is in the way for longest.

    `wait_s`: the call would pass then, if nobody else came; 0 when that is up to calls that are
    running, infinite when it never will.
    """

    limit: Limit
    holder: int
    wait_s: float
    used: Sequence[Used] = ()

    @property
    def never(self) -> bool:
        """Whether waiting is of no use."""
        return self.wait_s == math.inf


class Span(NamedTuple):
    """Since when it is asked what a holder has spent; of that, `known_nano` is counted already."""

    holder_id: str
    begins_at: float
    known_nano: int = 0


class Unseeded(NamedTuple):
    """What the ledger has to be asked for before the call can be counted."""

    spans: tuple[Span, ...]


class Recorded(NamedTuple):
    """What a call has cost a holder, now in the ledger; `at` is the row's time."""

    holder_id: str
    at: float
    cost_nano: int


Outcome = Granted | Refused | Unseeded
