"""Histograms that wait to be written to an SQLite file.

Adding to one changes up to 48 columns, in the sum of an hour and in those above it: 80 us of CPU,
as much as all else that a row costs. So they are written with their rows while few requests come,
and twice a minute when many do: by then many rows share a histogram. What a killed relay has not
written yet is missing in percentiles, and nowhere else.
"""

import time
from collections.abc import Iterable
from typing import Any

from relay.stores.histograms import BUCKETS, COLUMNS, bucket_of
from relay.stores.records import LedgerRow
from relay.stores.sums import GROUP_COLUMNS, HOUR, SUMS, RollUp

FEW = 32
"""Histograms that may be written each time."""

WAIT_S = 30.0

Groups = dict[tuple[Any, ...], list[int | None]]

_NO_SUMS = (0,) * (len(SUMS) - GROUP_COLUMNS)


class Times:
    """The histograms of rows, by hour and by whatever else is summed up."""

    def __init__(self, rows: Iterable[LedgerRow] = ()) -> None:
        self._since = time.monotonic()
        self._groups: Groups = {}
        for row in rows:
            if row.status >= 400 or row.error:
                continue
            hour = int(row.at) // HOUR * HOUR
            group = (hour, row.key_id, row.team_id, row.model_served, row.upstream)
            counts = self._groups.get(group)
            if counts is None:
                counts = self._groups[group] = [None] * len(COLUMNS)
            _add(counts, bucket_of(row.duration_s), 1)
            if row.first_token_s is not None:
                _add(counts, BUCKETS + bucket_of(row.first_token_s), 1)

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
        groups: Groups = {}
        for (hour, *of), counts in self._groups.items():
            _merge(groups, {roll_up.group(hour, of): list(counts)})
        return [(*group, *_NO_SUMS, *counts) for group, counts in groups.items()]


def _merge(groups: Groups, others: Groups) -> None:
    """Add the others; a list of theirs may become one of these."""
    for group, counts in others.items():
        known = groups.setdefault(group, counts)
        if known is not counts:
            for place, count in enumerate(counts):
                if count is not None:
                    _add(known, place, count)


def _add(counts: list[int | None], place: int, count: int) -> None:
    counts[place] = (counts[place] or 0) + count
