"""Lets calls in as long as their holders have something left."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from typing import Protocol

from relay.errors import InsufficientQuota, ModelNotAllowed, RateLimited, RelayError
from relay.header_lines import pairs_of
from relay.limits.estimate import estimate
from relay.limits.headers import NO_RETRY, rate_limit_lines, retry_after
from relay.limits.reservation import Reservation
from relay.stores import LedgerRow, by_group
from relay.stores.counters import (
    Ask,
    Counters,
    Granted,
    Outcome,
    Recorded,
    Refused,
    Span,
    Unseeded,
)
from relay.types import Call, Holder, Identity

SEED_WAIT_S = 2.0
"""How long a first call waits for the ledger to tell what was spent before."""

SEED_AGAIN_S = 3.0
"""How long the ledger is not asked any more when it did not answer."""

PRICES_WAIT_S = 5.0
"""How long the first call of a model that has no price waits for those that are being loaded."""

SOON_S = 60.0
"""OpenAI's clients wait for no longer `retry-after`, and ask again at once instead."""

_AT, _COST = (itemgetter(LedgerRow._fields.index(name)) for name in ("at", "cost_nano"))

SpentSince = Callable[[Mapping[str, float]], Awaitable[Mapping[str, int] | None]]
"""Nano-dollars that holders have spent since a time; None when the ledger cannot be read."""


class Prices(Protocol):
    """What calls cost."""

    def bounds(
        self, model: str, upstream: str, prompt_tokens: int, completion_tokens: int
    ) -> tuple[int, int] | None:
        """Nano-dollars for so many tokens of that model there, and for the prompt alone.

        None when nobody knows.
        """
        ...

    async def ready(self) -> None:
        """Wait until all prices are known that will be."""
        ...


class NoPrices:
    """Nobody knows what anything costs."""

    def bounds(self, model: str, upstream: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Nobody knows."""

    async def ready(self) -> None:
        """Nor will anybody."""


async def nothing_spent(_: Mapping[str, float]) -> Mapping[str, int]:
    """There is no ledger."""
    return {}


_asked: Callable[[tuple[str, Sequence[Holder], int, int, int, int, bool]], Ask] = partial(
    tuple.__new__, Ask
)
"""`Ask`, without a function in Python."""


class Limiter:
    """Asks `counters` for each call that has holders.

    `completion_tokens` are reserved where a request does not say how many it wants.
    `refuse_unpriced`: who has a budget cannot call models without a price.
    """

    def __init__(
        self,
        counters: Counters,
        *,
        prices: Prices | None = None,
        spent: SpentSince = nothing_spent,
        completion_tokens: int = 1024,
        refuse_unpriced: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counters = counters
        self._prices = prices or NoPrices()
        self._priced = False  # whether all prices that nobody knows have been waited for
        self._spent = spent
        self._completion_tokens = completion_tokens
        self._refuse_unpriced = refuse_unpriced
        self._clock = clock
        self._seeding: dict[str, asyncio.Future[None]] = {}
        self._ask_ledger_at = 0.0

    def reserve(
        self, call: Call, model: str, upstream: str
    ) -> Reservation | Awaitable[Reservation]:
        """Take what a call may use from all that it counts at; it goes to that model there first.

        Raises:
            RateLimited: a limit a minute, or of calls at once.
            InsufficientQuota: a budget, or a token's number of requests.
            ModelNotAllowed: nobody knows its price, and that is not allowed.
            Overloaded: those who count cannot be reached.
        """
        identity = call.identity
        holders, group = identity.holders, identity.group
        if identity.counts_tokens:
            prompt, completion, sure, named = estimate(call, self._completion_tokens)
            tokens = prompt + completion
            most = least = 0
            if identity.counts_money:
                bounds = self._prices.bounds(model or named, upstream, prompt, completion)
                if bounds is not None:
                    most, least = bounds
                elif not self._priced:
                    return self._when_priced(call, model, upstream)
                elif self._refuse_unpriced:
                    raise _unpriced(model or named)
            if sure:
                ask = _asked((group, holders, tokens, tokens, most, most, False))
            else:
                ask = _asked((group, holders, tokens, prompt, most, least, False))
        else:
            ask = Ask(group, holders)
        outcome = self._counters.reserve(ask)
        if isinstance(outcome, Granted):
            return Reservation(self._counters, outcome, ask)
        if isinstance(outcome, Refused):
            raise refusal(outcome, identity)
        return self._later(identity, ask, outcome)

    async def _when_priced(self, call: Call, model: str, upstream: str) -> Reservation:
        with suppress(TimeoutError):
            async with asyncio.timeout(PRICES_WAIT_S):
                await self._prices.ready()
        self._priced = True
        taken = self.reserve(call, model, upstream)
        return taken if isinstance(taken, Reservation) else await taken

    async def _later(
        self, identity: Identity, ask: Ask, outcome: Unseeded | Awaitable[Outcome]
    ) -> Reservation:
        found = outcome if isinstance(outcome, Unseeded) else await outcome
        if isinstance(found, Unseeded):
            found = await self._seeded(ask, found)
        if isinstance(found, Granted):
            return Reservation(self._counters, found, ask)
        assert isinstance(found, Refused)  # noqa: S101  # whoever goes on unseeded is not asked
        raise refusal(found, identity)

    async def _seeded(self, ask: Ask, missing: Unseeded) -> Outcome:
        """What becomes of a call when the ledger was asked, or cannot be."""
        for span in missing.spans:
            await self._seed(span)
        found = await self._reserve(ask)
        if isinstance(found, Unseeded):
            found = await self._reserve(ask._replace(unseeded=True))
        return found

    async def _reserve(self, ask: Ask) -> Outcome:
        outcome = self._counters.reserve(ask)
        if isinstance(outcome, Granted | Refused | Unseeded):
            return outcome
        return await outcome

    async def _seed(self, span: Span) -> None:
        """Ask the ledger for one holder, once for all that wait for that."""
        asked = self._seeding.get(span.holder_id)
        if asked is not None:
            await asyncio.wait([asked])
            return
        if self._clock() < self._ask_ledger_at:
            return
        done = self._seeding[span.holder_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(SEED_WAIT_S):
                spent = await self._spent({span.holder_id: span.begins_at})
        except TimeoutError:
            spent = None
        finally:
            del self._seeding[span.holder_id]
            done.set_result(None)
        if spent is None:
            self._ask_ledger_at = self._clock() + SEED_AGAIN_S
        else:
            self._counters.seed(span, spent.get(span.holder_id, 0))


def _unpriced(model: str) -> ModelNotAllowed:
    return ModelNotAllowed(
        f"The model '{model}' has no price here, so no budget can cover it.", param="model"
    )


def tell_recorded(counters: Counters, rows: Sequence[LedgerRow]) -> None:
    """These rows are in the ledger: what they have cost need not be remembered beside it."""
    costs = []
    for (_, key_id, team_id, *_), some in by_group(rows).items():
        if cost_nano := sum(filter(None, map(_COST, some))):
            # The windows of budgets begin with whole hours, or with their holders.
            at = max(map(_AT, some))
            costs += [Recorded(id_, at, cost_nano) for id_ in (key_id, team_id) if id_]
    if costs:
        counters.recorded(costs)


def refusal(refused: Refused, identity: Identity) -> RelayError:
    """What the client is told."""
    holder = identity.holders[refused.holder]
    limits = holder.limits
    who = {identity.key_id: "this API key", identity.team_id: "its team"}.get(
        holder.id, "this token"
    )
    lines = rate_limit_lines(identity.holders, refused.used) if refused.used else b""
    headers = [*pairs_of(lines)]
    if not refused.never:
        headers.append(retry_after(refused.wait_s))
    if refused.wait_s > SOON_S:
        headers.append(NO_RETRY)
    if refused.limit == "uses":
        text = f"All {limits.requests} requests of {who} are used up."
        return InsufficientQuota(text, headers=headers)
    if refused.limit == "budget":
        text = f"The budget of {who} is used up, or does not cover this request."
        if refused.wait_s == 0:
            text = f"The budget of {who} is taken by requests that are still running."
        return InsufficientQuota(text, headers=headers)
    limit, what = {
        "requests": (limits.rpm, "requests per minute"),
        "tokens": (limits.tpm, "tokens per minute"),
        "parallel": (limits.parallel, "requests at once"),
    }[refused.limit]
    text = f"The limit of {who} is reached: {limit} {what}."
    if refused.never:
        text = f"The limit of {who} is {limit} {what}: this request needs more."
    elif refused.wait_s:
        text += f" Try again in {max(1, round(refused.wait_s + 0.499))} s."
    return RateLimited(text, headers=headers)
