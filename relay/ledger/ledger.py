"""The queue of what has ended, and the one task that writes it down.

    add --> queue, at most MAX_ROWS --each flush_s--> rows --> Store.append, BATCH_ROWS at once

What has ended leaves the queue when it is in the store, so whatever fails is written again; the
store keeps each once. While it cannot be reached they wait, and it is tried again with pauses.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Protocol

from relay.events import RequestEnded
from relay.ledger.off import Ended
from relay.ledger.redaction import Redact, redact_keys
from relay.ledger.rows import as_rows
from relay.stores import Bodies, LedgerRow, Store, StoreUnavailable
from relay.types import Usage

MAX_ROWS = 100_000
"""About 80 MB, and minutes of a busy relay."""

MAX_BODIES_BYTES = 64 * 1024 * 1024
BATCH_ROWS = 4_000
ROWS_AT_ONCE = 500
"""Half a millisecond of the event loop."""

BATCH_BODIES = 100

ROOM_S = 1.0
"""How long a request waits while the queue is full."""

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
CLOSE_S = 2.0
"""How long a relay that ends tries to write what is left."""

PRICES_S = 5.0
"""How long rows wait for the prices, which takes a second, once; without, they are unpriced."""

EXPIRE_EVERY_S = 3600.0
DAY_S = 86400.0


class Pricing(Protocol):
    """Knows what an answer has cost, once it is ready."""

    def cost(self, model: str, upstream: str, usage: Usage) -> int | None: ...
    async def ready(self) -> None: ...


_log = logging.getLogger("relay.ledger")

_COST = itemgetter(RequestEnded._fields.index("cost_nano"))


class Ledger:
    """One row for each request, in a store that may be away for a while."""

    def __init__(
        self,
        store: Store,
        *,
        pricing: Callable[[], Pricing],
        recorded: Callable[[Sequence[LedgerRow]], None] | None = None,
        prepare: Callable[[], Awaitable[object]] | None = None,
        flush_s: float = 1.0,
        keep_days: int = 400,
        bodies_keep_days: int = 30,
        redact: Redact = redact_keys,
        max_rows: int = MAX_ROWS,
    ) -> None:
        """`pricing` gives the prices of today, for what ended before there were any.

        `recorded` is told which rows are in the store. `prepare` is done to the store first; it
        raises `StoreUnavailable` as the store does.
        """
        self._store = store
        self.full = False
        self.lost = 0
        """Rows for which there was no room."""
        self._pricing = pricing
        self._recorded = recorded
        self._prepare = prepare
        self._flush_s = flush_s
        self._keep_s, self._bodies_keep_s = keep_days * DAY_S, bodies_keep_days * DAY_S
        self._redact = redact
        self._max_rows = max_rows
        self._queue: deque[Ended] = deque()
        self._bodies: deque[Bodies] = deque()
        self._bodies_bytes = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._gone = False
        self._lost_told = 0
        self._bodies_lost = 0
        self._expire_at = 0.0

    def __len__(self) -> int:
        return len(self._queue)

    def start(self) -> None:
        """Begin to write; to be called in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def add(self, ended: Ended, bodies: Bodies | None = None) -> None:
        """Take what has ended."""
        queue = self._queue
        if self.full:
            self._lose()
            return
        if not queue:
            self._filled.set()
        queue.append(ended)
        if bodies is not None:
            self._take(bodies)
        if len(queue) >= self._max_rows:
            self.full = True
            self._room.clear()

    async def room(self) -> None:
        """Wait for room in the queue, `ROOM_S` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROOM_S):
                await self._room.wait()

    async def aclose(self) -> None:
        """Write what is left, within `CLOSE_S`; what cannot be written is lost, and logged."""
        self._closing.set()
        self._filled.set()
        if self._task is not None:
            _, late = await asyncio.wait([self._task], timeout=CLOSE_S)
            for task in late:
                task.cancel()
                await asyncio.wait([task])
        if self._queue:
            self.lost += len(self._queue)
            self._queue.clear()
        self._tell_losses()

    async def _run(self) -> None:
        if self._prepare is not None:
            await self._insist(self._prepare)
        while not self._closing.is_set():
            await self._filled.wait()
            if not self._closing.is_set():
                await self._rest(self._flush_s)
            self._filled.clear()
            await self._flush()
            await self._expire()
        await self._flush()

    async def _flush(self) -> None:
        while self._queue or self._bodies:
            rows = await self._rows()
            bodies = list(islice(self._bodies, BATCH_BODIES))
            kept = await asyncio.to_thread(self._redacted, bodies) if bodies else []
            try:
                await self._insist(partial(self._append, rows, kept))
            except Exception:  # one batch that nobody can keep must not hold up all that follow
                self.lost += len(rows)
                _log.exception("ledger_failed")
            if len(rows) == len(self._queue):
                self._queue.clear()
            else:
                for _ in rows:
                    self._queue.popleft()
            for one in bodies:
                self._bodies.popleft()
                self._bodies_bytes -= len(one.request) + len(one.response)
            self.full = False
            self._room.set()

    async def _append(self, rows: Sequence[LedgerRow], bodies: Sequence[Bodies]) -> None:
        await self._store.append(rows, bodies)
        if self._recorded is not None:
            self._recorded(rows)

    async def _rows(self) -> list[LedgerRow]:
        """The next of the queue, a few at a time, since requests want the event loop, too."""
        batch = list(islice(self._queue, BATCH_ROWS))
        rows: list[LedgerRow] = []
        for start in range(0, len(batch), ROWS_AT_ONCE):
            some = batch[start : start + ROWS_AT_ONCE]
            if None in map(_COST, some) and any(map(_unpriced, some)):
                pricing = self._pricing()
                await self._ready(pricing)
                some = [_priced(one, pricing) for one in some]
            rows += as_rows(some)
            await asyncio.sleep(0)
        return rows

    async def _ready(self, pricing: Pricing) -> None:
        """Wait for prices: not for long, and no longer when the relay ends."""
        ready = asyncio.ensure_future(pricing.ready())
        closing = asyncio.ensure_future(self._closing.wait())
        await asyncio.wait((ready, closing), timeout=PRICES_S, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        closing.cancel()
        await asyncio.wait((ready, closing))

    async def _insist(self, action: Callable[[], Awaitable[object]]) -> None:
        """Have something done to the store, however long that takes."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await action()
            except StoreUnavailable as exc:
                if not self._gone:
                    self._gone = True
                    fields = {"error": str(exc), "waiting": len(self._queue)}
                    _log.error("ledger_unavailable", extra={"fields": fields})
            else:
                if self._gone:
                    self._gone = False
                    fields = {"waiting": len(self._queue)}
                    _log.warning("ledger_available", extra={"fields": fields})
                self._tell_losses()
                return
            self._tell_losses()
            if self._closing.is_set():
                if not self._queue:
                    return
                pause_s = FIRST_PAUSE_S
            await self._rest(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until the relay ends."""
        if self._closing.is_set():
            await asyncio.sleep(seconds)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _expire(self) -> None:
        now = time.time()
        if now < self._expire_at or self._closing.is_set():
            return
        self._expire_at = now + EXPIRE_EVERY_S
        with contextlib.suppress(StoreUnavailable):  # the next row to be written tells of it
            await self._store.expire(
                rows_before=now - self._keep_s, bodies_before=now - self._bodies_keep_s
            )

    def _take(self, bodies: Bodies) -> None:
        size = len(bodies.request) + len(bodies.response)
        if self._bodies_bytes + size > MAX_BODIES_BYTES:
            self._bodies_lost += 1
            return
        self._bodies.append(bodies)
        self._bodies_bytes += size

    def _redacted(self, bodies: list[Bodies]) -> list[Bodies]:
        """What may be kept of them; of one that cannot be redacted, nothing."""
        kept = []
        for one in bodies:
            try:
                request = self._redact(one.request, "request")
                response = self._redact(one.response, "response")
            except Exception as exc:  # the user's own code may fail in any way, and must not leak
                fields = {"request_id": one.request_id, "error": type(exc).__name__}
                _log.error("redaction_failed", extra={"fields": fields})
                continue
            if request is not None or response is not None:
                kept.append(one._replace(request=request or b"", response=response or b""))
        return kept

    def _lose(self) -> None:
        self.lost += 1
        if not self._lost_told:
            self._tell_losses()

    def _tell_losses(self) -> None:
        """Each time more were lost since it was last told."""
        if self.lost > self._lost_told or self._bodies_lost:
            fields = {"rows": self.lost, "bodies": self._bodies_lost}
            _log.error("ledger_rows_lost", extra={"fields": fields})
            self._lost_told, self._bodies_lost = self.lost, 0


def _priced(ended: Ended, pricing: Pricing) -> Ended:
    """With its price, if it has none and there is one now."""
    if not isinstance(ended, RequestEnded) or (usage := _unpriced(ended)) is None:
        return ended
    return ended._replace(cost_nano=pricing.cost(ended.served, ended.target, usage))


def _unpriced(ended: Ended) -> Usage | None:
    """What its price can be known by."""
    if isinstance(ended, RequestEnded) and ended.cost_nano is None:
        return ended.usage
    return None
