"""The table of genai_prices, as a relay has it; and what becomes of one that cannot be had."""

import asyncio
import json
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import types

from relay.prices import PriceTable, cost
from relay.prices.export import table as exported
from relay.prices.table import offer_at
from relay.types import Usage

USD = 1_000_000_000
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


@pytest.fixture(scope="module")
def whole() -> PriceTable:
    """What the child process gives."""
    table = PriceTable()
    asyncio.run(table.ready())
    return table


def printing(providers: object) -> PriceTable:
    table = PriceTable([sys.executable, "-c", f"print({json.dumps(providers)!r})"])
    asyncio.run(table.ready())
    return table


def provider(name: str, *models: object, names: object = None, also: object = ()) -> list[object]:
    return [name, f"https://{name}\\.example", names, list(also), list(models)]


def offer(clause: object, prompt: int) -> list[object]:
    return [clause, [[None, [[-1, prompt, 0]]]]]


@pytest.mark.parametrize(
    ("model", "url", "kind"),
    [
        ("gpt-4o", "https://api.openai.com/v1", "openai"),
        ("GPT-4o-2024-11-20", "https://api.openai.com/v1", "openai"),
        ("gpt-4o", "https://gateway.corp.example/v1", "openai"),
        ("openai/gpt-4o", "https://gateway.corp.example/v1", "openai"),
        ("gpt-4o", "https://us.openai.azure.com", "azure"),
        ("gpt-4o", "https://apim.corp.example", "azure"),
    ],
)
def test_a_known_model_has_the_price_of_its_provider(
    whole: PriceTable, model: str, url: str, kind: str
) -> None:
    offers = whole.find(model, url, kind)
    assert offers is not None
    price = offer_at(offers, MIDNIGHT).price
    assert (price.prompt, price.completion, price.cached) == (5 * USD // 2, 10 * USD, 5 * USD // 4)


def test_our_sums_are_those_of_genai_prices(whole: PriceTable) -> None:
    from genai_prices import Usage as TheirUsage
    from genai_prices import calc_price

    for model, known in (
        ("gpt-4o", "openai"),
        ("claude-sonnet-4-5", "anthropic"),
        ("gemini-2.5-pro", "google"),
    ):
        for prompt in (1000, 500_000):
            theirs = calc_price(
                TheirUsage(input_tokens=prompt, output_tokens=700, cache_read_tokens=300),
                model,
                provider_id=known,
            )
            offers = whole.find(model)
            assert offers is not None
            ours = cost(
                offer_at(offers, datetime.now(UTC).timestamp()).price, Usage(prompt, 700, 300)
            )
            assert Decimal(ours) == theirs.total_price * USD


def test_an_unknown_model_has_none(whole: PriceTable) -> None:
    assert whole.find("no-such-model", "https://api.openai.com/v1") is None
    assert whole.find("no-such-model", "https://gateway.corp.example/v1") is None
    assert whole.find("nobody/no-such-model") is None


def test_the_table_has_no_model_without_a_price_for_tokens() -> None:
    for _, _, _, _, models in exported():
        for _, offers in models:
            assert offers
            for _, tiers in offers:
                assert tiers[0][0] == -1
                assert any(rate is not None for rate in tiers[0][1:3])


def test_every_condition_of_the_package_is_one_we_know() -> None:
    clauses = {"or", "and", "equals", "starts_with", "ends_with", "contains", "regex"}
    members = types.MatchLogic.__args__[0].__args__  # type: ignore[attr-defined]  # an annotated union
    tags = {member.__metadata__[0].tag for member in members}
    assert tags == clauses


def test_clauses_are_read_as_they_are_meant() -> None:
    table = printing(
        [
            provider(
                "a",
                offer(["and", [["starts_with", "x-"], ["ends_with", "-Y"]]], 1),
                offer(["regex", "^z\\d$"], 2),
                offer(["or", [["contains", "Mid"], ["equals", "Eq"]]], 3),
                offer(["unheard of", "q"], 4),
                names=["starts_with", "a"],
                also=["b", "not there"],
            ),
            provider("b", offer(["equals", "shared"], 5)),
        ]
    )

    def prompt(model: str) -> int | None:
        offers = table.find(model, "https://a.example/v1")
        return None if offers is None else offer_at(offers, 0).price.prompt

    asked = ["x-1-y", "x-1", "z1", "zz", "amidst", "EQ", "q", "shared"]
    assert [prompt(model) for model in asked] == [1, None, 2, None, 3, 3, None, 5]


def test_the_last_price_that_holds_counts_and_says_until_when() -> None:
    def tiers(rate: int) -> list[list[int]]:
        return [[-1, rate, 0]]

    offers = [
        [None, tiers(1)],
        [["from", MIDNIGHT + 100_000], tiers(2)],
        [["daily", 3600, 7200], tiers(3)],
        [["daily", 82_800, 1800], tiers(4)],
    ]

    def at(second: float) -> tuple[int | None, float]:
        price, until = offer_at(offers, MIDNIGHT + second)  # type: ignore[arg-type]  # lists, as JSON
        return price.prompt, until - MIDNIGHT

    assert at(0) == (4, 1800)
    assert at(1800) == (1, 3600)
    assert at(3600) == (3, 7200)
    assert at(7200) == (1, 82_800)
    assert at(82_800) == (4, 86_400 + 1800)
    assert at(86_400 + 7200) == (1, 100_000)
    assert at(100_000) == (2, 86_400 + 82_800)


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", "raise SystemExit(3)"],
        [sys.executable, "-c", "print('no JSON')"],
        ["/no/such/program"],
    ],
)
async def test_without_a_table_models_are_unpriced_and_the_log_says_so(
    command: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    table = PriceTable(command)
    await table.ready()
    assert table.loaded
    assert table.find("gpt-4o") is None
    assert [record.message for record in caplog.records] == ["prices_unavailable"]


async def test_a_child_that_still_runs_is_stopped() -> None:
    table = PriceTable([sys.executable, "-c", "import time; time.sleep(600)"])
    table.load()
    await asyncio.sleep(0)
    await table.aclose()
    assert not table.loaded
