"""Prints the price table of `genai_prices` as JSON, in as few bytes as a relay has to hold.

Run as a program (`python -m relay.prices.export`): importing that package takes half a second and
35 MB, which a process that serves shall not pay.

    [[id, URL pattern, model clause, [ids that stand in], [[clause, [[when, prices]]]]]]

    clause    ["equals", text], ["or", [clause]] …, by the words of genai_prices
    when      null, ["from", Unix seconds], ["daily", second of the day, second of the day]
    prices    [[tokens of the prompt above which they hold, rate, …]], rates by `RATES`,
              in nano-dollars for a million tokens, or for one request
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

import orjson
from genai_prices import types
from genai_prices.data_snapshot import get_snapshot

from relay.prices.price import NANO, Price

RATES = {
    "prompt": ("input_mtok", "input_text_mtok"),
    "completion": ("output_mtok", "output_text_mtok"),
    "cached": ("cache_read_mtok",),
    "cache_write": ("cache_write_mtok", "cache_write_5m_mtok"),
    "reasoning": ("output_reasoning_mtok",),
    "audio_prompt": ("input_audio_mtok",),
    "audio_completion": ("output_audio_mtok",),
    "request": ("requests_kcount",),
}
"""The rates of a `Price`, and what they are called there; a request costs a thousandth of that."""

assert tuple(RATES) == tuple(one.name for one in fields(Price))[: len(RATES)]  # noqa: S101  # the order is the format


def table() -> list[Any]:
    """The whole table, as it is printed."""
    return [
        [
            provider.id,
            provider.api_pattern,
            _clause(provider.model_match),
            provider.fallback_model_providers or [],
            [[_clause(model.match), offers] for model in provider.models if (offers := _of(model))],
        ]
        for provider in get_snapshot().providers
    ]


def _of(model: types.ModelInfo) -> list[Any]:
    """What a model costs, and when; the last that holds counts. Nothing for what has no tokens."""
    conditions = model.prices
    if isinstance(conditions, types.ModelPrice):
        conditions = [types.ConditionalPrice(prices=conditions)]
    offers = [[_when(one.constraint), list(_tiers(one.prices))] for one in conditions]
    return offers if all(tiers for _, tiers in offers) else []


def _tiers(prices: types.ModelPrice) -> Iterator[list[int | None]]:
    values = [_first(prices, names) for names in RATES.values()]
    if values[0] is None and values[1] is None:
        return
    steps = {
        tier.start
        for value in values
        if isinstance(value, types.TieredPrices)
        for tier in value.tiers
    }
    for above in (-1, *sorted(steps)):
        rates = zip(RATES, values, strict=True)
        yield [above, *(_rate(name, _at(value, above)) for name, value in rates)]


def _first(prices: types.ModelPrice, names: Sequence[str]) -> Decimal | types.TieredPrices | None:
    found = (getattr(prices, name) for name in names)
    return next((value for value in found if value is not None), None)


def _at(value: Decimal | types.TieredPrices | None, above: int) -> Decimal | None:
    if not isinstance(value, types.TieredPrices):
        return value
    reached = [tier.price for tier in value.tiers if tier.start <= above]
    return reached[-1] if reached else value.base


def _rate(name: str, usd: Decimal | None) -> int | None:
    if usd is None:
        return None
    return int(usd * NANO / 1000) if name == "request" else int(usd * NANO)


def _when(constraint: types.StartDateConstraint | types.TimeOfDateConstraint | None) -> Any:
    if constraint is None:
        return None
    if isinstance(constraint, types.StartDateConstraint):
        begins = datetime.combine(constraint.start_date, time(), UTC)
        return ["from", begins.timestamp()]
    return ["daily", _second(constraint.start_time), _second(constraint.end_time)]


def _second(at: time) -> int:
    at = (
        datetime.combine(datetime(2000, 1, 2, tzinfo=UTC), at)
        .replace(tzinfo=at.tzinfo or UTC)
        .astimezone(UTC)
        .timetz()
    )
    return at.hour * 3600 + at.minute * 60 + at.second


def _clause(clause: Any) -> Any:
    """A clause is a dataclass with one field, which is named after what it does."""
    if clause is None:
        return None
    [(name, value)] = vars(clause).items()
    name = name.rstrip("_")
    return [name, [_clause(one) for one in value] if isinstance(value, list) else value]


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(table()))
