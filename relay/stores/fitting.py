"""Rows that every database takes.

A model's name is the client's word and token counts are the upstream's: either may be too long, too
large, or no proper text. One such row must not keep its whole batch out of the database for ever.
"""

from collections.abc import Sequence
from typing import Any

from relay.stores.records import LedgerRow

LONGEST_TEXT = 256
"""Characters of one text of a row; an index entry of PostgreSQL takes 2,700 bytes."""

LARGEST_COUNT = 2**40
LARGEST_COST = 2**53
"""Some 9 million dollars. A sum of 1,000 such rows still fits into 64 bits."""

_TEXTS = tuple(
    LedgerRow._fields.index(name)
    for name in (
        "request_id",
        "key_id",
        "team_id",
        "caller",
        "path",
        "model_asked",
        "model_served",
        "upstream",
        "error",
    )
)
_COUNTS = tuple(
    LedgerRow._fields.index(name)
    for name in (
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "reasoning_tokens",
        "audio_tokens",
    )
)
_COST = LedgerRow._fields.index("cost_nano")


def fitting(rows: Sequence[LedgerRow]) -> Sequence[LedgerRow]:
    """The same rows, mended where that is needed. Looks at columns: 0.5 us for a row."""
    columns = list(zip(*rows, strict=True)) or [()] * len(LedgerRow._fields)
    if all(_texts_fit(columns[place]) for place in _TEXTS) and all(
        _numbers_fit(columns[place], largest)
        for place, largest in (
            *((place, LARGEST_COUNT) for place in _COUNTS),
            (_COST, LARGEST_COST),
        )
    ):
        return rows
    return [_mended(row) for row in rows]


def plain_text(text: str) -> str:
    """At most `LONGEST_TEXT` characters, without NUL and without halves of surrogate pairs."""
    return (
        text[:LONGEST_TEXT]
        .encode("utf-8", "replace")
        .decode()
        .replace("\0", "\N{REPLACEMENT CHARACTER}")
    )


def _texts_fit(column: Sequence[str]) -> bool:
    texts = set(column)
    if max(map(len, texts), default=0) > LONGEST_TEXT:
        return False
    joined = "".join(texts)
    return "\0" not in joined and (joined.isascii() or joined.isprintable())


def _numbers_fit(column: Sequence[int | None], largest: int) -> bool:
    numbers = set(column)
    numbers.discard(None)
    return not numbers or (min(numbers) >= 0 and max(numbers) <= largest)  # type: ignore[type-var, operator]


def _mended(row: LedgerRow) -> LedgerRow:
    values: list[Any] = list(row)
    for place in _TEXTS:
        values[place] = plain_text(values[place])
    for place in _COUNTS:
        values[place] = _within(values[place], LARGEST_COUNT)
    values[_COST] = _within(values[_COST], LARGEST_COST)
    return LedgerRow(*values)


def _within(number: int | None, largest: int) -> int | None:
    return None if number is None else min(max(number, 0), largest)
