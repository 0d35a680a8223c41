"""What a failure says of a target's health."""

import pytest

from relay.errors import Overloaded, PromptTooLong, UpstreamAuth, UpstreamStatus, WentOffline
from relay.health import Health
from relay.settings import BreakerSettings
from relay.verdict import LONGEST_REST_S, REST_S, judge


def target() -> Health:
    return Health(BreakerSettings(failures=1), now=lambda: 100.0)


@pytest.mark.parametrize(
    ("headers", "rest_s"),
    [
        ([(b"retry-after", b"7")], 7),
        ([(b"retry-after-ms", b"1500")], 1.5),
        ([(b"retry-after", b"86400")], LONGEST_REST_S),
        ([(b"retry-after-ms", b"inf")], REST_S),
        ([(b"retry-after-ms", b"nan")], REST_S),
        ([(b"retry-after", b"soon")], REST_S),
        ([], REST_S),
    ],
)
def test_a_busy_target_rests_as_long_as_it_says_and_never_for_ever(
    headers: list[tuple[bytes, bytes]], rest_s: float
) -> None:
    busy = target()
    judge(busy, UpstreamStatus(429, headers=headers, body=b""))
    assert busy.opens_in_s == pytest.approx(rest_s)
    assert busy.failures == 0


def test_one_keys_fault_is_not_the_targets() -> None:
    one = target()
    refused = UpstreamAuth("no")
    refused.another_key = True
    judge(one, refused)
    assert one.state == "closed"
    refused.another_key = False
    judge(one, refused)
    assert one.state == "open"


def test_no_room_on_our_side_says_nothing_of_it() -> None:
    one = target()
    judge(one, Overloaded("full"))
    judge(one, WentOffline("the network is away"))
    assert (one.state, one.failures) == ("closed", 0)


def test_a_prompt_that_is_too_long_says_that_it_works() -> None:
    one = target()
    judge(one, PromptTooLong("too long"))
    assert (one.state, one.failures) == ("closed", 0)


@pytest.mark.parametrize(("status", "state"), [(400, "closed"), (500, "open")])
def test_only_its_own_errors_count(status: int, state: str) -> None:
    one = target()
    judge(one, UpstreamStatus(status, headers=[], body=b""))
    assert one.state == state
