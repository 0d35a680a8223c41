"""What a caller may use, and what is told of it."""

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from counting import BEGIN, Clock, holder

from relay.errors import InsufficientQuota, ModelNotAllowed, RateLimited, RelayError
from relay.header_lines import pairs_of
from relay.limits import Limiter, Reservation, tell_recorded
from relay.limits.limiter import refusal
from relay.stores import LedgerRow
from relay.stores.counters import Refused, Used
from relay.stores.counters.memory import MemoryCounters
from relay.types import Call, Holder, Identity, Usage

BODY = {"model": "m", "messages": [{"role": "user", "content": "x" * 100}]}


class Known:
    """1 a token of the prompt, 10 one of the completion; nothing is known before it is ready."""

    def __init__(self, *, there: bool = True) -> None:
        self.there = there
        self.asked: list[tuple[str, str]] = []

    def bounds(
        self, model: str, upstream: str, prompt_tokens: int, completion_tokens: int
    ) -> tuple[int, int] | None:
        self.asked.append((model, upstream))
        most = prompt_tokens + 10 * completion_tokens
        return (most, prompt_tokens) if self.there else None

    async def ready(self) -> None:
        self.there = True


class Unknown(Known):
    """No price ever comes."""

    async def ready(self) -> None:
        self.there = False


class Ledger:
    """Says what was spent; knows who asked."""

    def __init__(self, **spent: int) -> None:
        self.spent: dict[str, int] | None = spent
        self.asked: list[Mapping[str, float]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, since: Mapping[str, float]) -> Mapping[str, int] | None:
        self.asked.append(since)
        await self.open.wait()
        return self.spent


def limiter(clock: Clock | None = None, **options: Any) -> Limiter:
    clock = clock or Clock()
    counters = MemoryCounters(clock=clock, wall=clock)
    return Limiter(counters, **{"prices": Known(), "clock": clock, **options})


def identity(*holders: Holder) -> Identity:
    return Identity("me", key_id="key_a", team_id="team", holders=holders)


def call(*holders: Holder, **fields: Any) -> Call:
    payload = {**BODY, **fields}
    body = json.dumps(payload).encode()
    return Call("chat/completions", body, payload, "m", identity=identity(*holders))


async def reserve(limiter: Limiter, asked: Call) -> Reservation:
    taken = limiter.reserve(asked, "m-1", "up")
    return taken if isinstance(taken, Reservation) else await taken


def headers(error: RelayError | Reservation) -> dict[str, str]:
    pairs = pairs_of(error.lines()) if isinstance(error, Reservation) else error.headers
    return {name.decode(): value.decode() for name, value in pairs}


async def refused(limiter: Limiter, asked: Call) -> RelayError:
    with pytest.raises((RateLimited, InsufficientQuota)) as raised:
        await reserve(limiter, asked)
    return raised.value


async def test_requests_are_told_in_openais_form() -> None:
    clock = Clock()
    limits = limiter(clock)
    asked = call(holder(rpm=2))
    first = limits.reserve(asked, "m-1", "up")
    assert isinstance(first, Reservation), "what is counted here need not be awaited"
    assert headers(first) == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "1m0s",
    }
    clock.now += 20.5
    await reserve(limits, asked)
    error = await refused(limits, asked)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert headers(error) == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
        "retry-after": "40",
    }
    assert error.message == (
        "The limit of this API key is reached: 2 requests per minute. Try again in 40 s."
    )


async def test_of_key_and_team_the_one_with_least_left_is_told() -> None:
    limits = limiter()
    key, team = holder(rpm=10, tpm=10_000), holder("team", rpm=5, tpm=20_000)
    taken = await reserve(limits, call(key, team, max_tokens=50))
    told = headers(taken)
    assert told["x-ratelimit-limit-requests"] == "5"
    assert told["x-ratelimit-limit-tokens"] == "10000"
    left = int(told["x-ratelimit-remaining-tokens"])
    assert left == 10_000 - taken.ask.tokens
    taken.end(Usage(20, 30), 320)
    told = headers(await reserve(limits, call(key, team, max_tokens=50)))
    assert int(told["x-ratelimit-remaining-tokens"]) == left - 50


async def test_without_limits_a_minute_nothing_is_told() -> None:
    taken = await reserve(limiter(), call(holder(parallel=1, budget_nano=10**9)))
    assert taken.lines() == b""


async def test_too_many_tokens_wait_and_far_too_many_need_not() -> None:
    clock = Clock()
    limits = limiter(clock)
    asked = call(holder("team", tpm=200), max_tokens=100)
    await reserve(limits, asked)
    error = await refused(limits, asked)
    assert error.message == (
        "The limit of its team is reached: 200 tokens per minute. Try again in 60 s."
    )
    assert headers(error)["retry-after"] == "60"
    error = await refused(limits, call(holder("team", tpm=200), max_tokens=1000))
    assert isinstance(error, RateLimited)
    assert error.message == (
        "The limit of its team is 200 tokens per minute: this request needs more."
    )
    assert headers(error)["x-should-retry"] == "false"
    assert "retry-after" not in headers(error)


async def test_slots_are_told_to_be_free_soon() -> None:
    limits = limiter()
    asked = call(holder(parallel=1))
    first = await reserve(limits, asked)
    error = await refused(limits, asked)
    assert headers(error) == {"retry-after": "1"}
    assert error.message == "The limit of this API key is reached: 1 requests at once."
    first.end(None, 0)
    await reserve(limits, asked)


async def test_a_guess_is_no_reason_to_refuse() -> None:
    limits = limiter(completion_tokens=1000)
    asked = call(holder(tpm=100, budget_nano=100))
    first = await reserve(limits, asked)
    error = await refused(limits, asked)
    assert isinstance(error, InsufficientQuota | RateLimited)
    first.end(Usage(10, 5), 60)
    await reserve(limits, asked)


async def test_a_budget_covers_what_a_call_may_cost() -> None:
    limits = limiter()
    key = holder(budget_nano=10_000)
    running = [await reserve(limits, call(key, max_tokens=300)) for _ in range(3)]
    error = await refused(limits, call(key, max_tokens=300))
    assert (error.status, error.type, error.code) == (429, *["insufficient_quota"] * 2)
    assert headers(error) == {"retry-after": "1"}
    assert (
        error.message == "The budget of this API key is taken by requests that are still running."
    )
    for one in running:
        one.end(Usage(400, 290), 3300)  # 3300
    error = await refused(limits, call(key, max_tokens=300))
    assert error.message == (
        "The budget of this API key is used up, or does not cover this request."
    )
    assert headers(error) == {"x-should-retry": "false"}


async def test_a_budget_of_a_day_tells_when_the_next_begins() -> None:
    limits = limiter(Clock(BEGIN // 86_400 * 86_400 + 86_000))
    key = holder(budget_nano=2000, budget_window="day")
    first = await reserve(limits, call(key, max_tokens=100))
    first.end(Usage(0, 200), 2000)
    error = await refused(limits, call(key, max_tokens=100))
    assert headers(error) == {"retry-after": "400", "x-should-retry": "false"}


async def test_a_token_that_is_used_up_is_told_so() -> None:
    limits = limiter()
    asked = call(holder("token", requests=1))
    await reserve(limits, asked)
    error = await refused(limits, asked)
    assert isinstance(error, InsufficientQuota)
    assert error.message == "All 1 requests of this token are used up."
    assert headers(error) == {"x-should-retry": "false"}


@pytest.mark.parametrize(
    ("usage", "cost_nano", "spent"),
    [
        (Usage(10, 10), 110, 110),
        (Usage(10, 10), None, 5045),  # a price that nobody knows any more
        (None, None, 5045),  # an answer that tells nothing
        (None, 0, 0),  # a call that failed
    ],
)
async def test_a_call_is_settled_with_what_it_used(
    usage: Usage | None, cost_nano: int | None, spent: int
) -> None:
    limits = limiter(Clock())
    key = holder(budget_nano=10_000, tpm=10_000)
    taken = await reserve(limits, call(key, max_tokens=500))
    assert taken.ask.cost_nano == 5045
    taken.end(usage, cost_nano)
    taken.end(Usage(0, 900), 9000)  # once is enough
    counters = limits._counters
    assert isinstance(counters, MemoryCounters)
    account = counters._accounts[key.id]
    assert account.spending is not None
    assert (account.spending.spent, account.spending.reserved) == (spent, 0)
    tokens = 20 if usage else 545 if cost_nano is None else 0
    assert account.tokens == tokens


async def test_a_price_is_that_of_who_answers_first() -> None:
    prices = Known()
    limits = limiter(prices=prices)
    await reserve(limits, call(holder(budget_nano=10_000), max_tokens=5))
    assert prices.asked == [("m-1", "up")]


async def test_a_call_waits_for_prices_that_are_being_loaded() -> None:
    prices = Known(there=False)
    limits = limiter(prices=prices)
    taken = await reserve(limits, call(holder(budget_nano=10_000), max_tokens=5))
    assert taken.ask.cost_nano > 0


async def test_models_without_a_price_are_allowed_or_not() -> None:
    key = holder(budget_nano=1)
    limits = limiter(prices=Unknown(there=False))
    for _ in range(2):
        allowed = await reserve(limits, call(key, max_tokens=900))
        allowed.end(Usage(5, 5), None)
    strict = limiter(prices=Unknown(there=False), refuse_unpriced=True)
    with pytest.raises(ModelNotAllowed, match="'m-1' has no price here") as raised:
        await reserve(strict, call(key))
    assert raised.value.param == "model"
    await reserve(strict, call(holder(rpm=5, tpm=5000)))
    nobody = Limiter(MemoryCounters())
    assert (await reserve(nobody, call(key))).ask.cost_nano == 0


async def test_the_ledger_is_asked_once_for_all_who_wait() -> None:
    ledger = Ledger(key_a=9000)
    ledger.open.clear()
    limits = limiter(spent=ledger)
    key = holder(budget_nano=10_000, begins_at=77.0)
    waiting = [asyncio.ensure_future(reserve(limits, call(key, max_tokens=40))) for _ in range(9)]
    while not ledger.asked:
        await asyncio.sleep(0)
    ledger.open.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(one, Reservation) for one in done) == 2
    assert ledger.asked == [{"key_a": 77.0}]


async def test_a_call_does_not_wait_for_a_ledger_that_is_away() -> None:
    clock, ledger = Clock(), Ledger(key_a=9000)
    ledger.spent = None
    limits = limiter(clock, spent=ledger)
    key = holder(budget_nano=10_000)
    first = await reserve(limits, call(key, max_tokens=40))
    first.end(Usage(), 500)
    await reserve(limits, call(key, max_tokens=40))
    assert len(ledger.asked) == 1, "it rests for a moment"
    ledger.spent = {"key_a": 9200}
    clock.now += 3
    await refused(limits, call(key, max_tokens=40))
    assert len(ledger.asked) == 2


async def test_who_gives_up_while_the_ledger_is_asked_does_not_stop_the_others() -> None:
    ledger = Ledger()
    ledger.open.clear()
    limits = limiter(spent=ledger)
    asked = call(holder(budget_nano=10_000), max_tokens=40)
    first, second = (asyncio.ensure_future(reserve(limits, asked)) for _ in range(2))
    while not ledger.asked:
        await asyncio.sleep(0)
    first.cancel()
    ledger.open.set()
    assert isinstance(await second, Reservation)
    assert first.cancelled()


async def test_rows_in_the_ledger_are_told_to_the_counters() -> None:
    limits = limiter()
    taken = await reserve(limits, call(holder(budget_nano=10_000), max_tokens=40))
    taken.end(Usage(), 500)
    row = LedgerRow(
        *(BEGIN, "req_1", "key_a", "team", "me", "/v1/chat/completions", "m", "m", "up", 1, 0),
        *(200, "", False, 1, 1, 0, 0, 0, False, 300, None, 0.1),
    )
    counters = limits._counters
    assert counters.unrecorded() == {"key_a": 500}
    strangers = row._replace(key_id="", team_id="")
    tell_recorded(counters, [row, row._replace(cost_nano=None), strangers])
    tell_recorded(counters, [strangers])
    assert counters.unrecorded() == {"key_a": 200}


async def test_rows_of_the_window_before_are_not_taken_for_those_of_this_one() -> None:
    clock = Clock()
    clock.now = 20_000 * 86_400.0  # a midnight
    limits = limiter(clock)
    taken = await reserve(limits, call(holder(budget_nano=10_000, budget_window="day")))
    taken.end(Usage(), 500)
    row = LedgerRow(
        *(clock.now, "req_1", "key_a", "", "me", "/v1/chat/completions", "m", "m", "up", 1, 0),
        *(200, "", False, 1, 1, 0, 0, 0, False, 200, None, 0.1),
    )
    counters = limits._counters
    tell_recorded(counters, [row._replace(at=clock.now - 1, cost_nano=100)])
    assert counters.unrecorded() == {"key_a": 500}
    tell_recorded(counters, [row._replace(at=clock.now - 1, cost_nano=100), row, row])
    assert counters.unrecorded() == {"key_a": 100}


def test_every_refusal_has_its_words() -> None:
    who = identity(holder(rpm=1, tpm=1, parallel=1, budget_nano=1, requests=1))
    for limit in ("requests", "tokens", "parallel", "budget", "uses"):
        for wait_s in (0.0, 0.2, 61.0, math.inf):
            error = refusal(Refused(limit, 0, wait_s, [Used(1, 1, 9.0)]), who)
            told = headers(error)
            assert ("retry-after" in told) == (wait_s != math.inf)
            assert ("x-should-retry" in told) == (wait_s > 60)
            assert "this API key" in error.message
