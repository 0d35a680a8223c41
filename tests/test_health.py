"""When a target is left alone, when it may try again, and how its speed is remembered."""

import pytest

from relay.health import LATENCY_MEMORY_S, Health
from relay.settings import BreakerSettings


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def health(clock: Clock, **settings: float) -> Health:
    wanted = {"failures": 3, "error_rate": 0.5, "calls": 4, "window_s": 10, "open_s": 5}
    return Health(BreakerSettings(**(wanted | settings)), now=clock)  # type: ignore[arg-type]


def fail(target: Health, times: int = 1) -> None:
    for _ in range(times):
        trial = target.begin()
        target.failed("no")
        target.end(trial)


def succeed(target: Health, clock: Clock, times: int = 1, latency_s: float = 0.1) -> None:
    for _ in range(times):
        trial = target.begin()
        target.answered(latency_s, clock())
        target.end(trial)


def test_failures_in_a_row_open_it_and_its_time_half_opens_it(clock: Clock) -> None:
    target = health(clock, calls=100)
    fail(target, 2)
    assert (target.state, target.admits) == ("closed", True)
    fail(target)
    assert (target.state, target.admits, target.opens_in_s) == ("open", False, 5)
    clock.now += 5
    assert (target.state, target.admits) == ("half-open", True)
    assert (target.failures, target.opened, target.last_error) == (3, 1, "no")


def test_half_open_lets_one_call_try_and_its_end_decides(clock: Clock) -> None:
    target = health(clock, calls=100)
    fail(target, 3)
    clock.now += 5
    trial = target.begin()
    assert not target.admits
    target.failed("again")
    target.end(trial)
    assert target.state == "open"
    clock.now += 5
    succeed(target, clock)
    assert (target.state, target.admits) == ("closed", True)


def test_an_open_one_may_be_tried_before_its_time_by_one_call(clock: Clock) -> None:
    target = health(clock, calls=100)
    target.try_again()
    assert target.state == "closed"
    fail(target, 3)
    target.try_again()
    assert (target.state, target.admits) == ("half-open", True)
    target.begin()
    assert not target.admits


def test_a_trying_call_that_is_given_up_lets_another_one_try(clock: Clock) -> None:
    target = health(clock, calls=100)
    fail(target, 3)
    clock.now += 5
    target.end(target.begin())
    assert target.admits


def test_the_end_of_an_older_call_does_not_let_a_second_one_try(clock: Clock) -> None:
    target = health(clock, calls=100)
    older = target.begin()
    fail(target, 3)
    clock.now += 5
    trial = target.begin()
    target.end(older)
    assert not target.admits
    target.end(trial)
    assert target.admits


def test_the_late_end_of_a_failed_trial_does_not_give_back_the_next_one(clock: Clock) -> None:
    target = health(clock, calls=100)
    fail(target, 3)
    clock.now += 5
    first = target.begin()
    target.failed("again")
    clock.now += 5
    second = target.begin()
    target.end(first)
    assert not target.admits
    target.end(second)
    assert target.admits


def test_a_call_that_is_made_all_the_same_while_it_is_open_is_no_trial(clock: Clock) -> None:
    target = health(clock, calls=100)
    fail(target, 3)
    forced = target.begin()
    clock.now += 5
    trial = target.begin()
    target.end(forced)
    assert not target.admits
    target.end(trial)
    assert target.admits


def test_a_success_between_failures_starts_their_row_anew(clock: Clock) -> None:
    target = health(clock, calls=100)
    for _ in range(10):
        fail(target, 2)
        succeed(target, clock)
    assert target.state == "closed"


def test_the_share_of_failures_opens_it_once_there_are_enough_calls(clock: Clock) -> None:
    target = health(clock, failures=100)
    fail(target)
    succeed(target, clock)
    fail(target)
    assert target.state == "closed"  # two of three, but three are too few
    fail(target)
    assert target.state == "open"


def test_old_failures_are_forgotten(clock: Clock) -> None:
    target = health(clock, failures=100)
    fail(target, 3)
    clock.now += 25
    succeed(target, clock, 3)
    fail(target)
    assert target.state == "closed"


def test_a_target_that_says_when_to_come_back_is_left_alone_until_then(clock: Clock) -> None:
    target = health(clock)
    target.rest(30)
    target.rest(2)  # a shorter time does not shorten it
    assert (target.state, target.opens_in_s) == ("open", 30)
    clock.now += 30
    trial = target.begin()
    target.succeeded()
    target.end(trial)
    assert target.state == "closed"


def test_a_peak_is_known_at_once_and_forgotten_slowly(clock: Clock) -> None:
    target = health(clock)
    succeed(target, clock, 50, latency_s=0.1)
    succeed(target, clock, latency_s=2.0)
    assert target.latency_s == 2.0
    succeed(target, clock, latency_s=0.1)
    assert 1.5 < target.latency_s < 2.0
    clock.now += 10 * LATENCY_MEMORY_S
    assert target.latency_s < 0.01


def test_calls_in_flight_are_counted(clock: Clock) -> None:
    target = health(clock)
    first, _ = target.begin(), target.begin()
    target.end(first)
    assert (target.in_flight, target.calls) == (1, 2)
