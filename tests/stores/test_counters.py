"""One contract for all counters: in memory, shared by workers, in Redis. The clock is given."""

import asyncio
import math
from collections.abc import AsyncIterator

import pytest
from counting import Clock, ask, granted, holder, in_memory, in_redis, of_workers, passes, reserve
from servers import RedisServer

from relay.stores.counters import Ask, Counters, Granted, Recorded, Refused, Unseeded, Used

DAY_S = 86_400


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "workers", "redis"])
async def counters(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Counters]:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        opened = in_redis(server)(clock)
    else:
        opened = {"memory": in_memory, "workers": of_workers}[request.param](clock)
    async with opened as found:
        yield found


async def test_a_minute_takes_so_many_requests_and_no_more(counters: Counters) -> None:
    assert await passes(counters, ask(holder(rpm=10)), times=25) == 10


async def test_a_minute_slides_and_does_not_begin_anew(counters: Counters, clock: Clock) -> None:
    call = ask(holder(rpm=10))
    clock.now += 55  # behind the middle of a minute of the clock
    assert await passes(counters, call, times=6) == 6
    clock.now += 10  # in the next one
    assert await passes(counters, call, times=9) == 4
    clock.now += 49.9
    assert await passes(counters, call) == 0
    clock.now += 0.1
    assert await passes(counters, call, times=9) == 6
    clock.now += 10
    assert await passes(counters, call, times=9) == 4


async def test_who_is_refused_is_told_when_it_would_pass(counters: Counters, clock: Clock) -> None:
    call = ask(holder(rpm=3))
    for pause_s in (0, 20, 5):
        clock.now += pause_s
        assert await passes(counters, call) == 1
    refused = await reserve(counters, call)
    assert isinstance(refused, Refused)
    assert (refused.limit, refused.holder) == ("requests", 0)
    assert refused.wait_s == pytest.approx(35)
    assert refused.used == [Used(3, 0, pytest.approx(60))]
    clock.now += refused.wait_s - 0.01
    assert await passes(counters, call) == 0
    clock.now += 0.01
    assert await passes(counters, call) == 1


async def test_one_call_alone_counts_for_a_minute(counters: Counters) -> None:
    taken = await granted(counters, ask(holder(rpm=4), holder("team", parallel=3)))
    assert list(taken.used) == [Used(1, 0, 60.0), Used(0, 0, 0.0)]


async def test_a_refused_call_costs_nothing(counters: Counters, clock: Clock) -> None:
    key, team = holder(rpm=100, parallel=100, budget_nano=1000), holder("team", rpm=1)
    call = ask(key, team, tokens=5, cost_nano=5)
    assert await passes(counters, call, times=50) == 1
    rest = ask(key, tokens=5, cost_nano=5)
    assert await passes(counters, rest, times=120) == 99


async def test_tokens_are_counted_by_the_minute(counters: Counters, clock: Clock) -> None:
    key = holder(tpm=100)
    assert await passes(counters, ask(key, tokens=60)) == 1
    clock.now += 30
    refused = await reserve(counters, ask(key, tokens=41))
    assert isinstance(refused, Refused)
    assert (refused.limit, refused.wait_s) == ("tokens", pytest.approx(30))
    assert await passes(counters, ask(key, tokens=40)) == 1
    assert await passes(counters, ask(key, tokens=1)) == 0
    assert await passes(counters, ask(key)) == 1, "a call without tokens does not need any"


async def test_tokens_that_were_not_needed_come_back(counters: Counters, clock: Clock) -> None:
    key = holder(tpm=100)
    first = await granted(counters, ask(key, tokens=100))
    assert await passes(counters, ask(key, tokens=1)) == 0
    clock.now += 5
    counters.settle(first, tokens=30, cost_nano=0)
    counters.settle(first, tokens=0, cost_nano=0)  # once is enough
    assert await passes(counters, ask(key, tokens=71)) == 0
    assert await passes(counters, ask(key, tokens=70)) == 1
    clock.now += 55
    assert await passes(counters, ask(key, tokens=31)) == 0
    assert await passes(counters, ask(key, tokens=30)) == 1


async def test_tokens_beyond_what_was_reserved_count_from_then_on(
    counters: Counters, clock: Clock
) -> None:
    key = holder(tpm=100)
    first = await granted(counters, ask(key, tokens=10))
    clock.now += 59
    counters.settle(first, tokens=90, cost_nano=0)
    clock.now += 1
    assert await passes(counters, ask(key, tokens=21)) == 0
    assert await passes(counters, ask(key, tokens=20)) == 1


async def test_a_call_without_tokens_passes_when_more_were_used_than_there_are(
    counters: Counters,
) -> None:
    key = holder(tpm=100)
    counters.settle(await granted(counters, ask(key, tokens=10)), tokens=150, cost_nano=0)
    assert isinstance(await reserve(counters, ask(key, tokens=1)), Refused)
    assert isinstance(await reserve(counters, ask(key)), Granted)
    team = holder("team", rpm=100)
    assert isinstance(await reserve(counters, ask(key, team)), Granted)


async def test_a_call_that_ends_after_its_minute_gives_nothing_back(
    counters: Counters, clock: Clock
) -> None:
    key = holder(tpm=100)
    first = await granted(counters, ask(key, tokens=100))
    clock.now += 60
    assert await passes(counters, ask(key, tokens=100)) == 1
    counters.settle(first, tokens=0, cost_nano=0)
    assert await passes(counters, ask(key, tokens=1)) == 0


async def test_a_call_that_never_fits_is_told_so(counters: Counters) -> None:
    for limits, call in (
        ({"tpm": 10}, {"tokens": 11}),
        ({"rpm": 0}, {}),
        ({"parallel": 0}, {}),
        ({"budget_nano": 10}, {"cost_nano": 11}),
    ):
        key = holder(f"key_{limits}", **limits)
        refused = await reserve(counters, ask(key, **call))
        assert isinstance(refused, Refused)
        assert refused.never
        assert refused.wait_s == math.inf


async def test_a_guess_takes_what_is_left(counters: Counters) -> None:
    key = holder(tpm=100, budget_nano=100)
    guess = ask(key, tokens=500, cost_nano=500, sure=False)
    first = await granted(counters, guess)
    refused = await reserve(counters, guess)
    assert isinstance(refused, Refused)
    counters.settle(first, tokens=10, cost_nano=40)
    second = await granted(counters, guess)
    counters.settle(second, tokens=10, cost_nano=59)
    await granted(counters, guess)
    assert await passes(counters, guess) == 0


async def test_slots_are_taken_and_given_back(counters: Counters) -> None:
    call = ask(holder(parallel=3))
    running = [await granted(counters, call) for _ in range(3)]
    refused = await reserve(counters, call)
    assert isinstance(refused, Refused)
    assert (refused.limit, refused.wait_s) == ("parallel", 0)
    for one in running:
        counters.settle(one, tokens=0, cost_nano=0)
        counters.settle(one, tokens=0, cost_nano=0)
    assert await passes(counters, call, times=9) == 3


async def test_a_token_is_good_for_so_many_requests(counters: Counters, clock: Clock) -> None:
    call = ask(holder("token", requests=3))
    assert await passes(counters, call, times=5) == 3
    clock.now += 3600
    refused = await reserve(counters, call)
    assert isinstance(refused, Refused)
    assert (refused.limit, refused.never) == ("uses", True)


async def test_a_budget_is_reserved_and_settled(counters: Counters) -> None:
    key = holder(budget_nano=1000)
    running = [await granted(counters, ask(key, cost_nano=100)) for _ in range(10)]
    refused = await reserve(counters, ask(key, cost_nano=100))
    assert isinstance(refused, Refused)
    assert (refused.limit, refused.wait_s) == ("budget", 0), "a running call may cost less"
    counters.settle(running.pop(), tokens=0, cost_nano=0)
    running.append(await granted(counters, ask(key, cost_nano=100)))
    for one in running:
        counters.settle(one, tokens=0, cost_nano=90)
    assert await passes(counters, ask(key, cost_nano=101)) == 0
    last = await granted(counters, ask(key, cost_nano=100))
    counters.settle(last, tokens=0, cost_nano=300)  # more than anyone could know
    refused = await reserve(counters, ask(key, cost_nano=1))
    assert isinstance(refused, Refused)
    assert refused.never
    assert await passes(counters, ask(key)) == 1, "what costs nothing needs no budget"


@pytest.mark.parametrize(
    ("window", "begins", "days"), [("day", 0, 1), ("week", 0, 7), ("month", -20, 10)]
)
async def test_a_budget_begins_anew_with_its_window(
    counters: Counters, clock: Clock, window: str, begins: int, days: int
) -> None:
    key = holder(budget_nano=100, budget_window=window)
    midnight = clock.now // DAY_S * DAY_S
    unseeded = counters.reserve(ask(key, cost_nano=100))
    if not isinstance(unseeded, Unseeded):
        unseeded = await unseeded  # type: ignore[misc]
    assert isinstance(unseeded, Unseeded)
    assert unseeded.spans[0].begins_at == midnight + begins * DAY_S
    running = await granted(counters, ask(key, cost_nano=100))
    refused = await reserve(counters, ask(key, cost_nano=1))
    assert isinstance(refused, Refused)
    clock.now = midnight + days * DAY_S - 1
    settled = await granted(counters, ask(key))
    counters.settle(settled, tokens=0, cost_nano=100)
    refused = await reserve(counters, ask(key, cost_nano=1))
    assert isinstance(refused, Refused)
    assert refused.wait_s == pytest.approx(1)
    clock.now += 1
    assert await passes(counters, ask(key, cost_nano=100)) == 1
    counters.settle(running, tokens=0, cost_nano=100)  # is of the day on which it began
    assert await passes(counters, ask(key, cost_nano=1)) == 0


async def test_a_total_counts_from_its_begin(counters: Counters, clock: Clock) -> None:
    key = holder(budget_nano=100, begins_at=clock.now - 5)
    assert isinstance(await reserve(counters, ask(key, cost_nano=1), spent=100), Refused)
    clock.now += 400 * DAY_S
    assert isinstance(await reserve(counters, ask(key, cost_nano=1), spent=100), Refused)
    renewed = holder(budget_nano=100, begins_at=clock.now)
    assert await passes(counters, ask(renewed, cost_nano=100), times=2) == 1


async def test_what_the_ledger_knows_is_asked_for_once(counters: Counters, clock: Clock) -> None:
    key = holder(budget_nano=100, budget_window="day")
    await granted(counters, ask(key, cost_nano=40), spent=60)
    assert isinstance(await reserve(counters, ask(key, cost_nano=1)), Refused)
    clock.now += DAY_S  # an empty day that began before our eyes
    await granted(counters, ask(key, cost_nano=100), spent=100)


async def test_who_cannot_ask_the_ledger_may_do_so_later(counters: Counters, clock: Clock) -> None:
    key = holder(budget_nano=100)
    blind = ask(key, cost_nano=30)._replace(unseeded=True)
    first = await granted(counters, blind)
    counters.settle(first, tokens=0, cost_nano=30)
    counters.recorded([Recorded(key.id, clock.now, 30)])
    # The ledger has 20 of before, and these 30.
    await granted(counters, ask(key, cost_nano=50), spent=50)
    assert isinstance(await reserve(counters, ask(key, cost_nano=1)), Refused)


async def test_another_window_of_a_budget_asks_again(counters: Counters) -> None:
    assert await passes(counters, ask(holder(budget_nano=10), cost_nano=10)) == 1
    key = holder(budget_nano=10, budget_window="day")
    assert isinstance(await reserve(counters, ask(key, cost_nano=1), spent=10), Refused)


async def test_several_at_once_are_as_exact_as_one_after_another(counters: Counters) -> None:
    key, team = holder(parallel=30, budget_nano=1000), holder("team", parallel=25)
    call = ask(key, team, cost_nano=10)
    await granted(counters, call)
    outcomes = await asyncio.gather(*(reserve(counters, call) for _ in range(200)))
    assert sum(isinstance(outcome, Granted) for outcome in outcomes) == 24


async def test_the_longest_wait_is_told(counters: Counters, clock: Clock) -> None:
    key, team = holder(rpm=1, parallel=1), holder("team", rpm=1)
    await granted(counters, ask(team))
    clock.now += 10
    await granted(counters, ask(key))
    refused = await reserve(counters, ask(key, team))
    assert isinstance(refused, Refused)
    assert (refused.limit, refused.holder, refused.wait_s) == ("requests", 0, pytest.approx(60))
    assert [used.requests for used in refused.used] == [1, 1]


async def test_what_is_granted_tells_the_counts(counters: Counters) -> None:
    key, team, other = holder(rpm=9), holder("team", tpm=90), holder("other", parallel=9)
    for number in (1, 2):
        taken = await granted(counters, ask(key, team, other, tokens=7))
        assert [used[:2] for used in taken.used][:2] == [(number, 7 * number), (number, 7 * number)]
        assert taken.used[0].reset_s == 60


async def test_who_gives_up_waiting_holds_nothing(counters: Counters) -> None:
    call = ask(holder(parallel=1))

    async def wait_for(call: Ask) -> object:
        outcome = counters.reserve(call)
        return outcome if isinstance(outcome, Granted) else await outcome  # type: ignore[misc]

    tasks = [asyncio.create_task(wait_for(call)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in done:
        if isinstance(outcome, Granted):
            counters.settle(outcome, tokens=0, cost_nano=0)
    assert await passes(counters, call, times=3) == 1
