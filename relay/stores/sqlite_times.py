"""Histograms that wait to be written to an SQLite file.

Adding to one changes up to 48 columns, in the sum of an hour and in those above it: 80 us of CPU,
as much as all else that a row costs. So they are written with their rows while few requests come,
and twice a minute when many do: by then many rows share a histogram. What a killed relay has not
written yet is missing in percentiles, and nowhere else.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from relay.stores.grouped import Group, Groups, all_well, failed
from relay.stores.histograms import BUCKETS, COLUMNS, bucket_of
from relay.stores.records import LedgerRow
from relay.stores.sums import GROUP_COLUMNS, SUMS, RollUp

FEW = 32
"""Histograms that may be written each time."""

WAIT_S = 30.0

Histograms = dict[Group, list[int | None]]

_DURATION = LedgerRow._fields.index("duration_s")
_FIRST_TOKEN = LedgerRow._fields.index("first_token_s")

_NO_SUMS = (0,) * (len(SUMS) - GROUP_COLUMNS)


class Times:
    """The histograms of rows, by hour and by whatever else is summed up."""

    def __init__(self, groups: Groups | None = None) -> None:
        self._since = time.monotonic()
        self._groups: Histograms = {}
        for group, rows in (groups or {}).items():
            if counts := _counts(rows):
                self._groups[group] = [counts.get(place) for place in range(len(COLUMNS))]

    def __bool__(self) -> bool:
        return bool(self._groups)

    def due(self, others: "Times") -> bool:
        """Whether these are to be written, with others that have just come."""
        few = len(self._groups) + len(others._groups) <= FEW
        return few or time.monotonic() - self._since > WAIT_S

    def plus(self, others: "Times") -> "Times":
        """These, with others among them."""
        _merge(self._groups, others._groups)
        return self

    def sums(self, roll_up: RollUp) -> list[tuple[Any, ...]]:
        """What they add to a roll-up, in the order of its columns."""
        groups: Histograms = {}
        for (hour, *of), counts in self._groups.items():
            _merge(groups, {roll_up.group(hour, of): list(counts)})
        return [(*group, *_NO_SUMS, *counts) for group, counts in groups.items()]


def _counts(rows: Sequence[LedgerRow]) -> Mapping[int, int]:
    """How many of the rows that did not fail count in each column."""
    columns = list(zip(*rows, strict=True))
    if not all_well(columns):
        rows = [row for row in rows if not failed(row)]
        if not rows:
            return {}
        columns = list(zip(*rows, strict=True))
    counts = Counter(map(bucket_of, columns[_DURATION]))
    first = columns[_FIRST_TOKEN]
    if first.count(None) < len(first):
        counts.update(BUCKETS + bucket_of(time_s) for time_s in first if time_s is not None)
    return counts


def _merge(groups: Histograms, others: Histograms) -> None:
    """Add the others; a list of theirs may become one of these."""
    for group, counts in others.items():
        known = groups.setdefault(group, counts)
        if known is not counts:
            for place, count in enumerate(counts):
                if count is not None:
                    _add(known, place, count)


def _add(counts: list[int | None], place: int, count: int) -> None:
    counts[place] = (counts[place] or 0) + count
