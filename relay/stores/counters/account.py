"""The counts of one holder, in memory: its minute, its slots, its uses, its money."""

import math
from collections.abc import Iterator

from relay.stores.counters import calendar
from relay.stores.counters.values import Ask, Limit
from relay.stores.counters.window import Window
from relay.types import Holder

USES_KEPT_S = 86_400.0
"""How long the uses of a token are remembered after the last one, when it tells no end."""


class Spending:
    """What a holder has spent in the present window of its budget; all in nano-dollars.

    `place` is its name in the journal. `recorded` is the part of `spent` that is in the ledger.
    `seeded`: all that the ledger knew before is in both.
    """

    __slots__ = ("begins_at", "ends_at", "kind", "place", "recorded", "reserved", "seeded", "spent")

    def __init__(self, holder: Holder, wall: float, *, seeded: bool) -> None:
        begins_at, ends_at = calendar.window(holder, wall)
        self.kind: str = holder.limits.budget_window
        self.place = (holder.id, 0 if ends_at == math.inf else int(ends_at))
        self.begins_at = begins_at
        self.ends_at = ends_at
        self.spent = 0
        self.reserved = 0
        self.recorded = 0
        self.seeded = seeded


class Account:
    """One holder. `admits` and `refusals` look, `spending` and `window` are there to be changed."""

    __slots__ = ("id", "parallel", "spending", "uses", "uses_end_at", "window")

    def __init__(self, holder_id: str) -> None:
        self.id = holder_id
        self.window = Window()
        self.parallel = 0
        self.uses = 0
        self.uses_end_at = 0.0
        self.spending: Spending | None = None

    def turn_to(self, holder: Holder, wall: float) -> Spending:
        """What is spent in the window of now; a later one than the last begins empty."""
        spending = self.spending
        kind = holder.limits.budget_window
        seeded = False
        if spending is not None and spending.kind == kind:
            if kind == "total":
                if spending.begins_at == holder.begins_at:
                    return spending
            elif wall < spending.ends_at:
                return spending
            else:
                seeded = True  # nothing can have been spent in it but by way of us
        self.spending = Spending(holder, wall, seeded=seeded)
        return self.spending

    def admits(self, holder: Holder, ask: Ask) -> bool:
        """Whether a call has room here; what is over has expired, the budget's is turned to."""
        limits, window = holder.limits, self.window
        if limits.rpm is not None and window.requests >= limits.rpm:
            return False
        if limits.tpm is not None and ask.tokens:
            left = limits.tpm - window.tokens
            if left <= 0 or ask.least_tokens > left:
                return False
        if limits.parallel is not None and self.parallel >= limits.parallel:
            return False
        if limits.requests is not None and self.uses >= limits.requests:
            return False
        spending = self.spending
        if limits.budget_nano is not None and ask.cost_nano and spending is not None:
            left = limits.budget_nano - spending.spent - spending.reserved
            return left > 0 and ask.least_cost_nano <= left
        return True

    def refusals(
        self, holder: Holder, ask: Ask, *, now: float, wall: float
    ) -> Iterator[tuple[Limit, float]]:
        """Each limit that is in the way, and for how many seconds; see `Refused.wait_s`."""
        limits, window, spending = holder.limits, self.window, self.spending
        if limits.rpm is not None and window.requests >= limits.rpm:
            yield "requests", window.wait_s(now, requests=window.requests - limits.rpm + 1)
        if limits.tpm is not None and ask.tokens:
            need = max(ask.least_tokens, 1)
            if need > limits.tpm:
                yield "tokens", math.inf
            elif window.tokens + need > limits.tpm:
                yield "tokens", window.wait_s(now, tokens=window.tokens + need - limits.tpm)
        if limits.parallel is not None and self.parallel >= limits.parallel:
            yield "parallel", 0.0 if limits.parallel else math.inf
        if limits.requests is not None and self.uses >= limits.requests:
            yield "uses", math.inf
        if limits.budget_nano is not None and ask.cost_nano and spending is not None:
            need = max(ask.least_cost_nano, 1)
            if need > limits.budget_nano:
                yield "budget", math.inf
            elif spending.spent + need > limits.budget_nano:
                yield "budget", spending.ends_at - wall
            elif spending.spent + spending.reserved + need > limits.budget_nano:
                yield "budget", 0.0

    def is_idle(self, now: float, wall: float) -> bool:
        """Whether nothing is lost with it: what is left is in the ledger, or counts no more."""
        self.window.expire(now)
        spending = self.spending
        return (
            not self.parallel
            and not self.window.requests
            and not self.window.tokens
            and wall >= self.uses_end_at
            and (
                spending is None or wall >= spending.ends_at or spending.recorded >= spending.spent
            )
        )
