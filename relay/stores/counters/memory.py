"""Counters in the memory of one process: exact, and without waiting."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from relay.stores.counters.account import Account, Part
from relay.stores.counters.journal import Journal
from relay.stores.counters.values import (
    WINDOW_S,
    Ask,
    Granted,
    Limit,
    Recorded,
    Refused,
    Span,
    Unseeded,
    Used,
)
from relay.types import Holder

SWEEP_FROM = 1024
"""Idle holders are looked for when there are so many, then when there are twice those left."""

_used: Callable[[tuple[int, int, float]], Used] = partial(tuple.__new__, Used)
"""`Used`, without a function in Python."""


class Held(Granted):
    """A call that is running, by the accounts at which it counts."""

    __slots__ = ("parts", "settled")

    def __init__(self, parts: list[Part]) -> None:
        self.parts = parts
        self.settled = False

    @property
    def used(self) -> Sequence[Used]:
        if len(self.parts) == 1:  # as most have
            account, entry, _, _, _ = self.parts[0]
            return (_used((account.requests, account.tokens, WINDOW_S if entry else 0.0)),)
        return [
            _used((account.requests, account.tokens, WINDOW_S if entry else 0.0))
            for account, entry, *_ in self.parts
        ]


class MemoryCounters:
    """`clock` is for minutes and never goes back, `wall` for the windows of budgets.

    With a journal, budgets outlive the process also when it is killed.
    """

    def __init__(
        self,
        *,
        journal: Journal | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._wall = wall
        self._accounts: dict[str, Account] = {}
        self._sweep_at = SWEEP_FROM

    def __len__(self) -> int:
        return len(self._accounts)

    def reserve(self, ask: Ask) -> Held | Refused | Unseeded:
        """See `Counters`; the answer is there at once."""
        now, wall, known = self._clock(), self._wall(), self._accounts
        _, holders, _, _, _, _, unseeded = ask
        if len(holders) == 1:  # as most calls have: no lists of one thing
            [holder] = holders
            account = known.get(holder.id)
            if account is not None and account.holder is holder and wall < account.turns_at:
                part = account.take(ask, now, wall)
                return Held([part]) if part is not None else self._refusal(ask, [account], now)
        places = []
        seeded = True
        for holder in holders:
            account = known.get(holder.id)
            if account is None or account.holder is not holder:
                account = self._meet(holder, account)
            places.append(account)
            if wall >= account.turns_at:
                seeded = self._turn(account, wall) and seeded
        if not (seeded or unseeded):
            return _unseeded(places)
        if len(places) > 1 and not all(account.admits(ask, now) for account in places):
            return self._refusal(ask, places, now)
        parts = []
        for account in places:
            part = account.take(ask, now, wall)
            if part is None:
                return self._refusal(ask, places, now)
            parts.append(part)
        return Held(parts)

    def settle(self, granted: Granted, *, tokens: int, cost_nano: int) -> None:
        """See `Counters`."""
        assert isinstance(granted, Held)  # noqa: S101  # what we gave
        if granted.settled:
            return
        granted.settled = True
        for account, entry, reserved_tokens, spending, reserved_nano in granted.parts:
            account.parallel -= 1
            if entry is not None and tokens != reserved_tokens:
                if tokens > reserved_tokens:
                    account.add(self._clock(), 0, tokens - reserved_tokens)
                elif not entry.gone:
                    account.tokens -= reserved_tokens - tokens
                    entry.tokens -= reserved_tokens - tokens
            if spending is not None:
                spending.reserved -= reserved_nano
                spending.spent += cost_nano
                if spending.line is not None:
                    if cost_nano < reserved_nano:
                        spending.line.less(reserved_nano - cost_nano)
                    elif cost_nano > reserved_nano:
                        spending.line.more(cost_nano - reserved_nano)

    def seed(self, span: Span, spent_nano: int) -> None:
        """See `Counters`."""
        account = self._accounts.get(span.holder_id)
        spending = None if account is None else account.spending
        if spending is None or spending.seeded or spending.begins_at != span.begins_at:
            return
        spending.seeded = True
        spending.spent += spent_nano - span.known_nano
        spending.recorded += spent_nano - span.known_nano

    def recorded(self, rows: Sequence[Recorded]) -> None:
        """See `Counters`."""
        for row in rows:
            account = self._accounts.get(row.holder_id)
            spending = None if account is None else account.spending
            if spending is not None and spending.begins_at <= row.at:
                spending.recorded += row.cost_nano
                if spending.line is not None:
                    spending.line.less(row.cost_nano)
        if self._journal is not None:
            self._journal.write()

    def unrecorded(self) -> Mapping[str, int]:
        """See `Counters`."""
        return {
            account.id: account.spending.spent - account.spending.recorded
            for account in self._accounts.values()
            if account.spending is not None and account.spending.spent > account.spending.recorded
        }

    def resume(self, holder: Holder, at: float, used: Used) -> None:
        """Go on where others stopped counting, who said at that time what was used.

        Nothing happens to a holder who is counted here already.
        """
        if holder.id not in self._accounts:
            self._meet(holder, None).resume(at, used.requests, used.tokens)

    def forget(self, holder_ids: Iterable[str]) -> None:
        """These are counted elsewhere from now on; who still runs here settles in vain."""
        for holder_id in holder_ids:
            self._accounts.pop(holder_id, None)

    async def aclose(self) -> None:
        """See `Counters`."""
        if self._journal is not None:
            self._journal.close()

    def _meet(self, holder: Holder, account: Account | None) -> Account:
        """The account of a holder who is new here, or has other limits than before."""
        if account is not None:
            account.adopt(holder)
            return account
        if len(self._accounts) >= self._sweep_at:
            self._sweep()
        account = self._accounts[holder.id] = Account(holder)
        return account

    def _sweep(self) -> None:
        now, wall = self._clock(), self._wall()
        self._accounts = {
            name: account
            for name, account in self._accounts.items()
            if not account.is_idle(now, wall)
        }
        self._sweep_at = max(SWEEP_FROM, 2 * len(self._accounts))

    def _turn(self, account: Account, wall: float) -> bool:
        """Whether it is known what was spent in the window of now."""
        before = account.spending
        spending = account.turn_to(wall)
        if spending is not before and self._journal is not None:
            line = spending.line = self._journal.line(spending.place)
            spending.spent = max(0, line.sum)
        return spending.seeded

    def _refusal(self, ask: Ask, places: Sequence[Account], now: float) -> Refused:
        wall = self._wall()
        found: list[tuple[float, Limit, int]] = []
        for place, account in enumerate(places):
            refusals = account.refusals(ask, now=now, wall=wall)
            found += [(wait_s, limit, place) for limit, wait_s in refusals]
        wait_s, limit, place = max(found)
        used = [account.used(now) for account in places]
        return Refused(limit, place, wait_s, used)


def _unseeded(places: Sequence[Account]) -> Unseeded:
    spans = [
        Span(account.id, spending.begins_at, spending.recorded)
        for account in places
        if account.budget_nano is not None
        and (spending := account.spending) is not None
        and not spending.seeded
    ]
    return Unseeded(tuple(spans))
