"""Counters in memory: holders that are idle are dropped, others are not."""

from counting import Clock, ask, holder

from relay.stores.counters import Granted, Recorded, Refused, Span
from relay.stores.counters import memory as memories
from relay.stores.counters.memory import Held, MemoryCounters

DAY_S = 86_400


def fill(counters: MemoryCounters, names: str, **limits: int) -> list[Held]:
    """Half a thousand holders that make a call each."""
    taken = []
    for number in range(memories.SWEEP_FROM // 2):
        call = ask(holder(f"{names}{number}", **limits), cost_nano=5)._replace(unseeded=True)
        outcome = counters.reserve(call)
        assert isinstance(outcome, Held)
        taken.append(outcome)
    return taken


def settle(counters: MemoryCounters, taken: list[Held], nano: int = 0) -> None:
    for held in taken:
        counters.settle(held, tokens=0, cost_nano=nano)


def test_twenty_thousand_that_came_once_leave_nothing() -> None:
    clock = Clock()
    counters = MemoryCounters(clock=clock, wall=clock)
    for number in range(40):
        settle(counters, fill(counters, f"{number}-", rpm=5, parallel=5))
        clock.now += 61
        assert len(counters) <= 2 * memories.SWEEP_FROM


def test_who_calls_or_has_uses_left_to_remember_stays() -> None:
    clock = Clock()
    counters = MemoryCounters(clock=clock, wall=clock)
    fill(counters, "running", parallel=1)
    settle(counters, fill(counters, "used", requests=1))
    clock.now += 61
    fill(counters, "other", rpm=1)
    assert isinstance(counters.reserve(ask(holder("used7", requests=1))), Refused)
    assert isinstance(counters.reserve(ask(holder("running7", parallel=1))), Refused)
    clock.now += DAY_S
    fill(counters, "more", rpm=1)
    fill(counters, "still", rpm=1)
    assert isinstance(counters.reserve(ask(holder("used7", requests=1))), Granted)
    assert isinstance(counters.reserve(ask(holder("running7", parallel=1))), Refused)


def test_uses_are_forgotten_when_the_token_has_ended() -> None:
    clock = Clock()
    counters = MemoryCounters(clock=clock, wall=clock)
    short = holder("short", requests=1)
    taken = counters.reserve(ask(type(short)(short.id, short.limits, ends_at=clock.now + 100)))
    assert isinstance(taken, Held)
    settle(counters, [taken])
    clock.now += 101
    assert counters._accounts["short"].is_idle(clock.now, clock.now)


def test_money_stays_until_the_ledger_has_it() -> None:
    clock = Clock()
    counters = MemoryCounters(clock=clock, wall=clock)
    settle(counters, fill(counters, "a", budget_nano=10), nano=10)
    for number in range(memories.SWEEP_FROM // 2):
        counters.seed(Span(f"a{number}", 0.0), 0)
    clock.now += 61
    settle(counters, fill(counters, "b", rpm=1))
    settle(counters, fill(counters, "c", rpm=1))
    assert "a7" in counters._accounts
    counters.recorded([Recorded(f"a{number}", clock.now, 10) for number in range(512)])
    clock.now += 61
    for number in range(6):
        settle(counters, fill(counters, f"d{number}", rpm=1))
    assert "a7" not in counters._accounts


def test_a_seed_for_somebody_else_or_another_time_does_nothing() -> None:
    counters = MemoryCounters()
    counters.seed(Span("nobody", 0.0), 5)
    key = holder(budget_nano=10)
    counters.reserve(ask(key, cost_nano=1))
    counters.seed(Span(key.id, 99.0), 10)
    counters.seed(Span(key.id, 0.0), 4)
    counters.seed(Span(key.id, 0.0), 10)
    assert isinstance(counters.reserve(ask(key, cost_nano=6)), Granted)


def test_rows_of_a_window_past_are_not_of_this_one() -> None:
    clock = Clock()
    counters = MemoryCounters(clock=clock, wall=clock)
    key = holder(budget_nano=10, budget_window="day")
    held = counters.reserve(ask(key, cost_nano=5)._replace(unseeded=True))
    assert isinstance(held, Held)
    settle(counters, [held], nano=5)
    counters.recorded([Recorded(key.id, clock.now - DAY_S, 5)])
    assert counters.unrecorded() == {key.id: 5}
