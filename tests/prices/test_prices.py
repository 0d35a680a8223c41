"""Which price counts: one's own, then the table's; and nothing where nobody knows."""

import asyncio
import json
import sys
from dataclasses import replace

from relay.prices import FREE, Prices, PriceTable
from relay.settings import PriceSettings, UpstreamSettings
from relay.types import Usage

UPSTREAMS = [
    UpstreamSettings(name="a", base_url="https://a.example/v1"),
    UpstreamSettings(name="vllm", base_url="http://10.0.0.1/v1"),
]
TABLE = [
    [
        *("a", "https://a\\.example", ["starts_with", "known"], []),
        [
            [["equals", "known"], [[None, [[-1, 7_000_000, 0]]]]],
            [["equals", "known-later"], [[None, [[-1, 1, 0]]], [["from", 1000], [[-1, 2, 0]]]]],
        ],
    ]
]


def own(model: str, prompt_usd: float, **more: object) -> PriceSettings:
    return PriceSettings.model_validate({"model": model, "prompt_usd": prompt_usd, **more})


def table() -> PriceTable:
    return PriceTable([sys.executable, "-c", f"print({json.dumps(TABLE)!r})"])


def test_ones_own_price_goes_before_the_tables() -> None:
    prices = Prices(
        [
            own("known", 0.0375, upstream="a"),
            own("vendor/*", 3, cached_usd=1, completion_usd=5),
            own("*", 0, upstream="vllm"),
        ],
        UPSTREAMS,
        table(),
    )
    exact = prices.price("known", "a")
    assert exact is not None
    assert exact.prompt == 37_500_000
    pattern = prices.price("vendor/x", "a")
    assert pattern is not None
    assert (pattern.prompt, pattern.cached, pattern.completion) == (3 * 10**9, 10**9, 5 * 10**9)
    assert prices.price("known", "vllm") == replace(FREE, request=0, minute=None)
    assert prices.cost("known", "vllm", Usage(10)) == 0
    assert prices.cost("known", "vllm", Usage(heard_ms=10)) is None  # nobody said what a minute is
    assert prices.bounds("vendor/x", "a", 10, 0) == (prices.cost("vendor/x", "a", Usage(10)),) * 2
    assert prices.cost("vendor/x", "a", Usage(10, 1, 5)) == 5 * 3000 + 5 * 1000 + 5000


async def test_the_table_is_loaded_when_it_is_first_needed_and_then_counts() -> None:
    prices = Prices([own("mine", 1)], UPSTREAMS, table())
    assert prices.price("mine", "a") is not None
    assert not prices.table._loading
    assert prices.price("known", "a") is None
    await prices.ready()
    known = prices.price("known", "a")
    assert known is not None
    assert known.prompt == 7_000_000
    assert prices.price("known", "vllm") == known
    assert prices.price("unknown", "a") is None
    assert prices.price("known", "nowhere") is None
    assert prices.cost("unknown", "a", Usage(1, 1)) is None
    assert prices.bounds("unknown", "a", 1, 1) is None


async def test_the_local_model_is_free_unless_somebody_says_otherwise() -> None:
    assert Prices().price("whatever", "local") == FREE
    dear = Prices([own("*", 1, upstream="local")]).price("whatever", "local")
    assert dear is not None
    assert dear.prompt == 10**9
    await Prices().ready()  # nothing has to be loaded for that


def test_a_price_that_ends_is_looked_up_again() -> None:
    now = 990.0
    prices = Prices((), UPSTREAMS, table(), now=lambda: now)
    asyncio.run(prices.ready())
    before = prices.price("known-later", "a")
    now = 1000.0
    after = prices.price("known-later", "a")
    assert before is not None
    assert after is not None
    assert (before.prompt, after.prompt) == (1, 2)


def test_clients_who_invent_names_do_not_fill_the_memory() -> None:
    prices = Prices((), UPSTREAMS, table())
    asyncio.run(prices.ready())
    for number in range(10_000):
        assert prices.price(f"made-up-{number}", "a") is None
    assert len(prices._found) <= 4096
