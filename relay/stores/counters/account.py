"""The counts of one holder, in memory: its minute, its slots, its uses, its money."""

import math
from collections.abc import Iterator

from relay.stores.counters import calendar
from relay.stores.counters.journal import Line
from relay.stores.counters.values import WINDOW_S, Ask, Limit
from relay.stores.counters.window import Entry, Window
from relay.types import Holder

USES_KEPT_S = 86_400.0
"""How long the uses of a token are remembered after the last one, when it tells no end."""

PARTS_AHEAD = 1000
"""The journal may say that a thousandth of a budget more was spent than there was."""

MANY = 2**62
"""In place of a limit that there is not."""

Part = tuple["Account", Entry | None, int, "Spending | None", int]
"""What a call has at one holder: tokens in an entry of its minute, money in a window's spending."""


class Spending:
    """What a holder has spent in the present window of its budget; all in nano-dollars.

    `place` is its name in the journal, `line` what that remembers of it; None without one.
    `recorded` is the part of `spent` that is in the ledger.
    `seeded`: all that the ledger knew before is in both.
    """

    __slots__ = (
        *("begins_at", "ends_at", "kind", "line", "place"),
        *("recorded", "reserved", "seeded", "spent"),
    )

    def __init__(self, holder: Holder, wall: float, *, seeded: bool) -> None:
        begins_at, ends_at = calendar.window(holder, wall)
        self.kind: str = holder.limits.budget_window
        self.place = (holder.id, 0 if ends_at == math.inf else int(ends_at))
        self.line: Line | None = None
        self.begins_at = begins_at
        self.ends_at = ends_at
        self.spent = 0
        self.reserved = 0
        self.recorded = 0
        self.seeded = seeded


class Account(Window):
    """One holder, and its minute. `admits` and `refusals` look, `take` looks and counts.

    What its limits say is laid out here when they are first seen: a call finds plain numbers. Of
    `budget_nano` None is no budget. At `turns_at` the budget's window has to be looked at, by
    `turn_to`: that is at once while it is not known what was spent in it, and never without one.
    A call that nobody refuses runs through few and long functions here: each call of another one
    costs as much as ten lines.
    """

    __slots__ = (
        "ahead_nano",
        "budget_nano",
        "by_minute",
        "holder",
        "id",
        "parallel",
        "rpm",
        "slots",
        "spending",
        "tpm",
        "turns_at",
        "uses",
        "uses_end_at",
        "uses_most",
    )

    holder: Holder
    budget_nano: int | None
    ahead_nano: int
    by_minute: bool
    rpm: int
    tpm: int
    slots: int
    uses_most: int
    turns_at: float

    def __init__(self, holder: Holder) -> None:
        super().__init__()
        self.id = holder.id
        self.parallel = 0
        self.uses = 0
        self.uses_end_at = 0.0
        self.spending: Spending | None = None
        self.adopt(holder)

    def adopt(self, holder: Holder) -> None:
        """These limits hold from now on."""
        limits = holder.limits
        self.holder = holder
        self.by_minute = limits.rpm is not None or limits.tpm is not None
        self.rpm = MANY if limits.rpm is None else limits.rpm
        self.tpm = MANY if limits.tpm is None else limits.tpm
        self.slots = MANY if limits.parallel is None else limits.parallel
        self.uses_most = MANY if limits.requests is None else limits.requests
        self.budget_nano = limits.budget_nano
        self.ahead_nano = (limits.budget_nano or 0) // PARTS_AHEAD
        self.turns_at = math.inf if limits.budget_nano is None else -math.inf

    def turn_to(self, wall: float) -> Spending:
        """What is spent in the window of now; a later one than the last begins empty."""
        self.spending = spending = self._turned_to(wall)
        self.turns_at = spending.ends_at if spending.seeded else -math.inf
        return spending

    def _turned_to(self, wall: float) -> Spending:
        spending, holder = self.spending, self.holder
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
        return Spending(holder, wall, seeded=seeded)

    def admits(self, ask: Ask, now: float) -> bool:
        """Whether a call has room here; the budget's window has been turned to."""
        self.expire(now)
        if self.requests >= self.rpm or self.parallel >= self.slots or self.uses >= self.uses_most:
            return False
        if ask.tokens:
            left = self.tpm - self.tokens
            if left <= 0 or ask.least_tokens > left:
                return False
        spending = self.spending
        if ask.cost_nano and self.budget_nano is not None and spending is not None:
            left = self.budget_nano - spending.spent - spending.reserved
            return left > 0 and ask.least_cost_nano <= left
        return True

    def take(self, ask: Ask, now: float, wall: float) -> "Part | None":
        """Count a call: of a guess what is left, where that is less. None: it has no room.

        The budget's window has been turned to.
        """
        _, _, tokens, least_tokens, cost_nano, least_cost_nano, _ = ask
        entries = self.entries
        if entries and entries[0].last + WINDOW_S <= now:
            self.expire(now)
        if self.requests >= self.rpm or self.parallel >= self.slots or self.uses >= self.uses_most:
            return None
        if tokens and tokens > (left := self.tpm - self.tokens):
            if left <= 0 or least_tokens > left:
                return None
            tokens = left
        spending = None
        if self.budget_nano is None:
            cost_nano = 0
        elif (spending := self.spending) is not None and cost_nano:
            left = self.budget_nano - spending.spent - spending.reserved
            if cost_nano > left:
                if left <= 0 or least_cost_nano > left:
                    return None
                cost_nano = left
            if cost_nano:
                spending.reserved += cost_nano
                if spending.line is not None:
                    spending.line.more(cost_nano, self.ahead_nano)
        self.parallel += 1
        if self.uses_most != MANY:
            self.use(wall)
        if not self.by_minute:
            return self, None, 0, spending, cost_nano
        return self, self.add(now, 1, tokens), tokens, spending, cost_nano

    def use(self, wall: float) -> None:
        """Count a request of those that there are in all."""
        ends_at = self.holder.ends_at
        self.uses += 1
        self.uses_end_at = wall + USES_KEPT_S if ends_at is None else ends_at

    def refusals(self, ask: Ask, *, now: float, wall: float) -> Iterator[tuple[Limit, float]]:
        """Each limit that is in the way, and for how many seconds; see `Refused.wait_s`."""
        limits, spending = self.holder.limits, self.spending
        if limits.rpm is not None and self.requests >= limits.rpm:
            yield "requests", self.wait_s(now, requests=self.requests - limits.rpm + 1)
        if limits.tpm is not None and ask.tokens:
            need = max(ask.least_tokens, 1)
            if need > limits.tpm:
                yield "tokens", math.inf
            elif self.tokens + need > limits.tpm:
                yield "tokens", self.wait_s(now, tokens=self.tokens + need - limits.tpm)
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
        self.expire(now)
        spending = self.spending
        return (
            not self.parallel
            and not self.requests
            and not self.tokens
            and wall >= self.uses_end_at
            and (
                spending is None or wall >= spending.ends_at or spending.recorded >= spending.spent
            )
        )
