"""Rate-limit headers in both spellings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.dialects import rate_limits

NOW = 1_755_780_000.0  # 2025-08-21T12:40:00Z


def test_anthropics_limits_become_openais():
    headers = [
        (b"content-type", b"application/json"),
        (b"anthropic-ratelimit-requests-limit", b"1000"),
        (b"anthropic-ratelimit-requests-remaining", b"999"),
        (b"anthropic-ratelimit-requests-reset", b"2025-08-21T12:40:01Z"),
        (b"anthropic-ratelimit-tokens-limit", b"96000"),
        (b"anthropic-ratelimit-tokens-remaining", b"95000"),
        (b"anthropic-ratelimit-tokens-reset", b"2025-08-21T12:46:00Z"),
        (b"anthropic-ratelimit-input-tokens-limit", b"80000"),
        (b"anthropic-organization-id", b"whose account it is"),
        (b"request-id", b"req_1"),
        (b"retry-after", b"7"),
    ]
    assert rate_limits.to_openai(headers, now=NOW) == [
        (b"content-type", b"application/json"),
        (b"x-ratelimit-limit-requests", b"1000"),
        (b"x-ratelimit-remaining-requests", b"999"),
        (b"x-ratelimit-reset-requests", b"1s"),
        (b"x-ratelimit-limit-tokens", b"96000"),
        (b"x-ratelimit-remaining-tokens", b"95000"),
        (b"x-ratelimit-reset-tokens", b"6m0s"),
        (b"anthropic-ratelimit-input-tokens-limit", b"80000"),
        (b"x-upstream-request-id", b"req_1"),
        (b"retry-after", b"7"),
    ]


def test_openais_limits_become_anthropics():
    headers = [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1s"),
        (b"x-ratelimit-limit-tokens", b"150000"),
        (b"x-ratelimit-remaining-tokens", b"149984"),
        (b"x-ratelimit-reset-tokens", b"6m0s"),
        (b"x-upstream-request-id", b"req_1"),
        (b"retry-after-ms", b"20"),
    ]
    assert rate_limits.to_anthropic(headers, now=NOW) == [
        (b"anthropic-ratelimit-requests-limit", b"60"),
        (b"anthropic-ratelimit-requests-remaining", b"59"),
        (b"anthropic-ratelimit-requests-reset", b"2025-08-21T12:40:01Z"),
        (b"anthropic-ratelimit-tokens-limit", b"150000"),
        (b"anthropic-ratelimit-tokens-remaining", b"149984"),
        (b"anthropic-ratelimit-tokens-reset", b"2025-08-21T12:46:00Z"),
        (b"x-upstream-request-id", b"req_1"),
        (b"retry-after-ms", b"20"),
    ]


@pytest.mark.parametrize(
    ("moment", "duration"),
    [
        (b"2025-08-21T12:40:00Z", b"0s"),
        (b"2025-08-21T12:39:00Z", b"0s"),
        (b"2025-08-21T12:40:00.250Z", b"250ms"),
        (b"2025-08-21T12:40:01.500Z", b"1.5s"),
        (b"2025-08-21T12:41:00+00:00", b"1m0s"),
        (b"2025-08-21T14:40:00+02:00", b"0s"),
        (b"2025-08-21T14:42:03Z", b"2h2m3s"),
    ],
)
def test_a_moment_becomes_the_time_until_it(moment, duration):
    headers = [(b"anthropic-ratelimit-tokens-reset", moment)]
    assert rate_limits.to_openai(headers, now=NOW) == [(b"x-ratelimit-reset-tokens", duration)]


@pytest.mark.parametrize(
    ("duration", "moment"),
    [
        (b"0s", b"2025-08-21T12:40:00Z"),
        (b"20ms", b"2025-08-21T12:40:01Z"),
        (b"1.5s", b"2025-08-21T12:40:02Z"),
        (b"1h2m3s", b"2025-08-21T13:42:03Z"),
        (b"1d", b"2025-08-22T12:40:00Z"),
    ],
)
def test_a_duration_becomes_the_moment_after_it_and_never_an_earlier_one(duration, moment):
    headers = [(b"x-ratelimit-reset-requests", duration)]
    name = b"anthropic-ratelimit-requests-reset"
    assert rate_limits.to_anthropic(headers, now=NOW) == [(name, moment)]


@pytest.mark.parametrize(
    "value", [b"", b"soon", b"2025-08-21T12:40:00", b"\xff", b"12", b"1s ", b"9" * 39 + b"s"]
)
def test_a_reset_that_cannot_be_read_stays_as_it_is(value):
    for headers in (
        [(b"anthropic-ratelimit-requests-reset", value)],
        [(b"x-ratelimit-reset-requests", value)],
    ):
        assert rate_limits.to_openai(headers, now=NOW) == headers
        assert rate_limits.to_anthropic(headers, now=NOW) == headers


@pytest.mark.parametrize("value", [b"9" * 12 + b"s", b"1s" * 21, "１s".encode()])
def test_a_duration_without_an_end_in_the_calendar_stays_as_it_is(value):
    headers = [(b"x-ratelimit-reset-tokens", value)]
    assert rate_limits.to_anthropic(headers, now=NOW) == headers


@given(st.integers(0, 10**6))
def test_whole_seconds_survive_the_way_there_and_back(seconds):
    there = rate_limits.to_anthropic([(b"x-ratelimit-reset-tokens", b"%ds" % seconds)], now=NOW)
    back = rate_limits.to_openai(there, now=NOW)
    assert rate_limits.to_anthropic(back, now=NOW) == there


@given(st.binary(max_size=60))
def test_no_value_breaks_the_translation(value):
    for name in (b"anthropic-ratelimit-tokens-reset", b"x-ratelimit-reset-tokens"):
        assert len(rate_limits.to_openai([(name, value)], now=NOW)) == 1
        assert len(rate_limits.to_anthropic([(name, value)], now=NOW)) == 1


def test_for_a_client_of_anthropics_only_what_is_not_for_it_changes():
    headers = [
        (b"anthropic-ratelimit-requests-limit", b"1000"),
        (b"anthropic-organization-id", b"whose account it is"),
        (b"request-id", b"req_1"),
    ]
    assert rate_limits.from_anthropic(headers) == [headers[0], (b"x-upstream-request-id", b"req_1")]
