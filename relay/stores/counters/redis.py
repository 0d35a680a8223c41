"""Counters in Redis, for any number of replicas: one script a call and one when it is over.

What a call reserves is a lease: its replica prolongs it while the call runs, so that nothing stays
taken when the replica is killed. A key and its team are counted by the same script, so they are in
one slot of a cluster; the slot is the team's (or the key's, if it has none).

Without Redis, `local` says who counts meanwhile: this process by itself, or nobody.
"""

import asyncio
import itertools
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from relay.errors import Overloaded
from relay.stores.counters import calendar, scripts
from relay.stores.counters.cluster import ClusterLink
from relay.stores.counters.link import Command, LinkDown, Script
from relay.stores.counters.memory import Held, MemoryCounters
from relay.stores.counters.minutes import Minutes
from relay.stores.counters.values import (
    WINDOW_S,
    Ask,
    Granted,
    Outcome,
    Recorded,
    Refused,
    Span,
    Unseeded,
    Used,
)
from relay.types import Holder

LEASE_S = 12.0
"""How long a call of a replica that was killed still counts."""

DAY_S = 86_400
LONGEST_IDS = 500
"""How many leases one command prolongs."""

MAX_WORDS = 100_000
"""For how many holders it is remembered who asked the ledger."""

MAX_LAID_OUT = 10_000
"""For how many keys it is remembered what the script is told of their limits."""
LAID_OUT_S = 60.0
"""For how long, at most."""

RESERVE = Script(scripts.RESERVE)
SETTLE = Script(scripts.SETTLE)
SEED = Script(scripts.SEED)
ADD = Script(scripts.ADD)
PROLONG = Script(scripts.PROLONG)


class Lease(Granted):
    """What Redis has granted; `begins` are those of the budgets' windows."""

    __slots__ = ("_used", "begins", "holders", "id", "keys", "since")

    def __init__(
        self, name: str, ask: Ask, keys: Sequence[str], begins: Sequence[str], since: float
    ) -> None:
        self.id = name
        self.holders = ask.holders
        self.keys = keys
        self.begins = begins
        self.since = since
        self._used: Sequence[Used] = ()

    @property
    def used(self) -> Sequence[Used]:
        return self._used

    @used.setter
    def used(self, used: Sequence[Used]) -> None:
        self._used = used


class Alone(Granted):
    """What this process has granted while Redis was away."""

    __slots__ = ("counters", "group", "held")

    def __init__(self, group: str, held: Held, counters: MemoryCounters) -> None:
        self.group = group
        self.held = held
        self.counters = counters

    @property
    def used(self) -> Sequence[Used]:
        return self.held.used


class Layout(NamedTuple):
    """What the script is told of some holders in every call, from `since` until `until`."""

    holders: tuple[Holder, ...]
    since: float
    until: float
    keys: Sequence[str]
    begins: Sequence[str]
    arguments: Sequence[Any]

    @classmethod
    def of(cls, ask: Ask, now: float) -> "Layout":
        """As it is now, and stays until a budget's window ends."""
        windows = [calendar.window(holder, now) for holder in ask.holders]
        begins = [
            "-" if holder.limits.budget_nano is None else _milliseconds(begin)
            for holder, (begin, _) in zip(ask.holders, windows, strict=True)
        ]
        return cls(
            holders=ask.holders,
            since=now,
            until=min(now + LAID_OUT_S, *(end for _, end in windows)),
            keys=[key for holder in ask.holders for key in _keys(ask.group, holder.id)],
            begins=begins,
            arguments=[
                argument
                for holder, begin, (_, end) in zip(ask.holders, begins, windows, strict=True)
                for argument in _of_holder(holder, begin, end, now)
            ],
        )


class RedisCounters:
    """`timeout_s` is what a call waits for Redis at most.

    `clock` is for tests: in place of Redis's own, in seconds since the epoch.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        local: bool,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] | None = None,
    ) -> None:
        every = (RESERVE, SETTLE, SEED, ADD, PROLONG)
        self._link = ClusterLink(url, every, timeout_s=timeout_s)
        self._local = local
        self._alone: MemoryCounters | None = None
        self._lease_s = lease_s
        self._lease_ms = math.ceil(lease_s * 1000)
        self._clock = clock
        self._wall = clock or time.time
        self._name = secrets.token_hex(6)
        self._numbers = itertools.count()
        self._open: dict[str, Lease] = {}
        self._prolonging: asyncio.Task[None] | None = None
        self._words: dict[str, str] = {}
        self._unrecorded: dict[str, int] = {}
        self._groups: dict[str, str] = {}
        self._layouts: dict[str, Layout] = {}
        self._minutes = Minutes(clock or time.monotonic, wanted=local)

    async def reserve(self, ask: Ask) -> Outcome:
        """See `Counters`."""
        if self._link.up:
            try:
                return await self._reserve(ask)
            except LinkDown:
                pass
        if not self._local:
            raise Overloaded(
                "The counters of limits cannot be reached; try again.",
                headers=[(b"retry-after", b"1")],
            )
        return self._reserve_alone(ask)

    def settle(self, granted: Granted, *, tokens: int, cost_nano: int) -> None:
        """See `Counters`."""
        if isinstance(granted, Alone):
            self._settle_alone(granted, tokens=tokens, cost_nano=cost_nano)
            return
        assert isinstance(granted, Lease)  # noqa: S101  # what we gave
        if self._open.pop(granted.id, None) is None:
            return
        self._link.send(self._settling(granted, tokens, cost_nano))
        if cost_nano:
            for holder in granted.holders:
                self._remember(holder, cost_nano)

    def seed(self, span: Span, spent_nano: int) -> None:
        """See `Counters`."""
        if self._alone is not None:
            self._alone.seed(span, spent_nano)
        asked = self._groups.pop(span.holder_id, "")
        if not (asked and self._link.up):
            return
        group, _, kind = asked.rpartition("\n")
        spent = spent_nano + self._unrecorded.get(span.holder_id, 0)
        word = self._words[span.holder_id] = secrets.token_hex(6)
        arguments = [kind, _milliseconds(span.begins_at), spent, word]
        self._link.send(Command(SEED, _keys(group, span.holder_id), arguments))

    def recorded(self, rows: Sequence[Recorded]) -> None:
        """See `Counters`."""
        for row in rows:
            left = self._unrecorded.get(row.holder_id, 0) - row.cost_nano
            if left > 0:
                self._unrecorded[row.holder_id] = left
            else:
                self._unrecorded.pop(row.holder_id, None)
        if self._alone is not None:
            self._alone.recorded(rows)

    def unrecorded(self) -> Mapping[str, int]:
        """See `Counters`."""
        return self._unrecorded

    async def aclose(self) -> None:
        """See `Counters`."""
        if self._prolonging is not None:
            self._prolonging.cancel()
        for lease in list(self._open.values()):
            self.settle(lease, tokens=0, cost_nano=0)
        await self._link.aclose()

    async def _reserve(self, ask: Ask) -> Outcome:
        now = self._wall()
        name = f"{self._name}{next(self._numbers):x}"
        layout = self._laid_out(ask, now)
        arguments = [
            "" if self._clock is None else _milliseconds(now),
            name,
            self._lease_ms,
            int(ask.unseeded),
            ask.tokens,
            ask.least_tokens,
            ask.cost_nano,
            ask.least_cost_nano,
            *layout.arguments,
        ]
        lease = Lease(name, ask, layout.keys, layout.begins, time.monotonic())
        undo = partial(self._settling, lease, 0, 0, first=False)
        answer = await self._link.call(RESERVE, layout.keys, arguments, undo=undo)
        if self._alone is not None:  # of a cluster only a part may have been away
            self._alone.forget(holder.id for holder in ask.holders)
        return self._outcome(answer, ask, lease)

    def _laid_out(self, ask: Ask, now: float) -> Layout:
        known = self._layouts.get(ask.holders[0].id)
        if (
            known is None
            or known.holders is not ask.holders
            or not known.since <= now < known.until
        ):
            if len(self._layouts) >= MAX_LAID_OUT:
                self._layouts.clear()
            known = self._layouts[ask.holders[0].id] = Layout.of(ask, now)
        return known

    def _outcome(self, answer: list[Any], ask: Ask, lease: Lease) -> Outcome:
        kind, *rest = answer
        if kind == 0:
            limit, holder, wait, *used = rest
            wait_s = math.inf if wait < 0 else wait / 1000
            counts = [Used(requests, tokens, reset / 1000) for requests, tokens, reset in used]
            self._minutes.hear(ask.holders, counts)
            return Refused(limit.decode(), holder - 1, wait_s, counts)
        if kind == 2:
            spans = []
            for place, begin in rest:
                holder = ask.holders[place - 1]
                self._groups[holder.id] = f"{ask.group}\n{holder.limits.budget_window}"
                spans.append(Span(holder.id, int(begin) / 1000))
            return Unseeded(tuple(spans))
        lease.used = [
            Used(requests, tokens, WINDOW_S) if _counts_by_minute(holder) else Used(0, 0, 0.0)
            for holder, (requests, tokens, _) in zip(lease.holders, rest, strict=True)
        ]
        self._minutes.hear(lease.holders, lease.used)
        self._open[lease.id] = lease
        if self._prolonging is None:
            self._prolonging = asyncio.get_running_loop().create_task(self._prolong())
        for place, (_, _, word) in enumerate(rest):
            if word:
                self._hear(lease, place, word.decode())
        return lease

    def _hear(self, lease: Lease, place: int, word: str) -> None:
        """Who asked the ledger for a holder; after a loss it was somebody else than before."""
        name = lease.holders[place].id
        before = self._words.get(name)
        if before == word:
            return
        if len(self._words) >= MAX_WORDS:
            self._words.clear()
        self._words[name] = word
        spent = self._unrecorded.get(name)
        if before is not None and spent:  # whoever asked could not know of it
            arguments = [lease.begins[place], spent, word]
            self._link.send(Command(ADD, lease.keys[2 * place : 2 * place + 2], arguments))

    def _settling(
        self, lease: Lease, tokens: int, cost_nano: int, *, first: bool = True
    ) -> Command:
        now = "" if self._clock is None else _milliseconds(self._clock())
        arguments = [now, lease.id, tokens, cost_nano, int(first), *lease.begins]
        again = partial(self._settling, lease, tokens, cost_nano, first=False) if first else None
        return Command(SETTLE, lease.keys, arguments, again=again)

    async def _prolong(self) -> None:
        """Keep the leases of calls that run for longer than a moment."""
        while True:
            await asyncio.sleep(self._lease_s / 4)
            if not self._link.up:
                continue
            old = time.monotonic() - self._lease_s / 4
            by_holder: dict[tuple[str, ...], list[str]] = {}
            for lease in self._open.values():
                if lease.since < old:
                    for place in range(0, len(lease.keys), 2):
                        keys = tuple(lease.keys[place : place + 2])
                        by_holder.setdefault(keys, []).append(lease.id)
            now = "" if self._clock is None else _milliseconds(self._clock())
            for keys, ids in by_holder.items():
                for at in range(0, len(ids), LONGEST_IDS):
                    arguments = [now, self._lease_ms, *ids[at : at + LONGEST_IDS]]
                    self._link.send(Command(PROLONG, keys, arguments))

    def _reserve_alone(self, ask: Ask) -> Outcome:
        if self._alone is None:
            wall = self._wall
            self._alone = MemoryCounters(clock=self._clock or time.monotonic, wall=wall)
        self._minutes.hand_over(ask.holders, self._alone)
        outcome = self._alone.reserve(ask)
        return Alone(ask.group, outcome, self._alone) if isinstance(outcome, Held) else outcome

    def _settle_alone(self, alone: Alone, *, tokens: int, cost_nano: int) -> None:
        if alone.held.settled:
            return
        alone.counters.settle(alone.held, tokens=tokens, cost_nano=cost_nano)
        if not cost_nano:
            return
        for account, _, _, spending, _ in alone.held.parts:
            if spending is not None:
                self._unrecorded[account.id] = self._unrecorded.get(account.id, 0) + cost_nano
                begin = _milliseconds(spending.begins_at)
                arguments = [begin, cost_nano, self._words.get(account.id, "")]
                self._link.send(Command(ADD, _keys(alone.group, account.id), arguments))

    def _remember(self, holder: Holder, cost_nano: int) -> None:
        if holder.limits.budget_nano is not None:
            self._unrecorded[holder.id] = self._unrecorded.get(holder.id, 0) + cost_nano


def _keys(group: str, holder_id: str) -> list[str]:
    stem = f"relay:{{{group}}}:{holder_id}"
    return [f"{stem}:counts", f"{stem}:leases"]


def _of_holder(holder: Holder, begin: str, end: float, now: float) -> list[Any]:
    """Its limits as the script takes them."""
    limits = holder.limits
    kept_ms = scripts.KEPT_MS + 60_000
    if limits.budget_nano is not None or limits.requests is not None:
        kept_ms = DAY_S * 1000
        if holder.ends_at is not None and limits.requests is not None:
            kept_ms = max(scripts.KEPT_MS, math.ceil((holder.ends_at - now) * 1000))
    return [
        _or_none(limits.rpm),
        _or_none(limits.tpm),
        _or_none(limits.parallel),
        _or_none(limits.budget_nano),
        limits.budget_window,
        begin,
        -1 if end == math.inf else _milliseconds(end),
        _or_none(limits.requests),
        kept_ms,
    ]


def _counts_by_minute(holder: Holder) -> bool:
    return holder.limits.rpm is not None or holder.limits.tpm is not None


def _or_none(limit: int | None) -> int:
    return -1 if limit is None else limit


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"
