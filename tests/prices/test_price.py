"""What answers cost: whole nano-dollars, nothing lost and nothing made up."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.prices import FREE, Price, cost
from relay.prices.price import bounds
from relay.types import Usage

USD = 1_000_000_000
PRICE = Price(
    prompt=3 * USD,
    completion=15 * USD,
    cached=USD * 3 // 10,
    cache_write=4 * USD,
    reasoning=20 * USD,
    audio_prompt=40 * USD,
    audio_completion=80 * USD,
    request=5,
)


def test_sound_that_is_counted_by_time_costs_by_the_minute() -> None:
    assert cost(Price(minute=USD * 6 // 1000), Usage(heard_ms=90_000)) == 9_000_000
    assert cost(Price(minute=1), Usage(heard_ms=1)) == 1  # rounded up, as all is


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(), 5),
        (Usage(1_000_000, 0), 3 * USD + 5),
        (Usage(10, 10), 10 * 3000 + 10 * 15_000 + 5),
        (Usage(10, 0, cached_tokens=4), 6 * 3000 + 4 * 300 + 5),
        (Usage(10, 0, cache_write_tokens=4), 6 * 3000 + 4 * 4000 + 5),
        (Usage(0, 10, reasoning_tokens=4), 6 * 15_000 + 4 * 20_000 + 5),
        (
            Usage(10, 10, audio_tokens=7, audio_completion_tokens=4),
            7 * 3000 + 3 * 40_000 + 6 * 15_000 + 4 * 80_000 + 5,
        ),
    ],
)
def test_each_kind_of_token_has_its_price(usage: Usage, expected: int) -> None:
    assert cost(PRICE, usage) == expected


def test_a_kind_without_a_price_costs_what_the_others_on_its_side_cost() -> None:
    plain = Price(prompt=3 * USD, completion=15 * USD)
    usage = Usage(10, 10, 4, 4, 7, cache_write_tokens=2, audio_completion_tokens=4)
    assert cost(plain, usage) == cost(plain, Usage(10, 10))


def test_a_part_of_a_nano_dollar_counts_as_one() -> None:
    assert cost(Price(prompt=37_500_000), Usage(1)) == 38
    assert cost(Price(prompt=37_500_000), Usage(2)) == 75
    assert cost(Price(prompt=1), Usage(1)) == 1
    assert cost(FREE, Usage(1000, 1000)) == 0


def test_a_long_prompt_has_all_its_tokens_at_the_higher_price() -> None:
    price = Price(prompt=USD, tiers=((100, Price(prompt=2 * USD)), (200, Price(prompt=4 * USD))))
    assert [cost(price, Usage(tokens)) for tokens in (100, 101, 200, 201)] == [
        *(100_000, 202_000),
        *(400_000, 804_000),
    ]


COUNTS = st.integers(0, 1_000_000)


@given(
    st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
)
def test_nobody_is_ever_paid_for_asking(usage: Usage) -> None:
    assert cost(PRICE, usage) >= 5


@given(COUNTS, COUNTS)
def test_the_bounds_of_a_call_are_what_such_answers_cost(prompt: int, completion: int) -> None:
    tiered = replace(PRICE, tiers=((1000, Price(prompt=2 * USD, completion=3 * USD, request=7)),))
    for price in (PRICE, tiered, FREE, Price(prompt=None)):
        most, least = bounds(price, prompt, completion)
        assert most == cost(price, Usage(prompt, completion))
        assert least == cost(price, Usage(prompt))
