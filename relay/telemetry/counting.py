"""Counts of one process or of several: numbers by family and labels, never many.

A `Snapshot` is all of them at one moment, as it travels between processes: for each family, label
values and a number; or, of a histogram, how many fell into each bucket, and their sum.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from relay.telemetry.families import BY_NAME, FAMILIES
from relay.telemetry.labels import OTHER

MAX_SETS = 2000
"""Label values that one family may have together; what comes later is `other`."""

Value = float | list[float]
Snapshot = dict[str, list[tuple[Sequence[str], Value]]]


class Numbers(dict[tuple[str, ...], float]):
    """One counter or gauge, by its label values."""

    def add(self, amount: float, *labels: str) -> None:
        """So much more of that."""
        self[self.place(*labels)] += amount

    def place(self, *labels: str) -> tuple[str, ...]:
        """Under which labels that is counted; from now on there is a number."""
        kept = labels if labels in self else _bounded(self, labels)
        self.setdefault(kept, 0)
        return kept


class Durations(dict[tuple[str, ...], list[float]]):
    """One histogram: for each label values how many fell into each bucket, then the sum."""

    def __init__(self, buckets: Sequence[float]) -> None:
        super().__init__()
        self._buckets = buckets
        self._bucket_of: Callable[[float], int] = partial(bisect_left, buckets)

    def add(self, times_s: Sequence[float], *labels: str) -> None:
        """Those that took so long."""
        cells = self.get(labels)
        if cells is None:
            cells = self.setdefault(_bounded(self, labels), [0] * (len(self._buckets) + 2))
        for place, count in Counter(map(self._bucket_of, times_s)).items():
            cells[place] += count
        cells[-1] += sum(times_s)


def _bounded(
    known: "dict[tuple[str, ...], float] | dict[tuple[str, ...], list[float]]",
    labels: tuple[str, ...],
) -> tuple[str, ...]:
    return labels if len(known) < MAX_SETS else (OTHER,) * len(labels)


class Sums:
    """The numbers of several snapshots together."""

    def __init__(self) -> None:
        self._families: dict[str, dict[tuple[str, ...], Value]] = {}

    def add(self, snapshot: Snapshot, *, ended: bool = False) -> None:
        """Add those of a process; of one that has ended, only what counted up."""
        for name, rows in snapshot.items():
            family = BY_NAME[name]
            if ended and family.kind == "gauge":
                continue
            known = self._families.setdefault(name, {})
            for given, value in rows:
                labels = tuple(given)
                if labels not in known and len(known) >= MAX_SETS:
                    labels = (OTHER,) * len(labels)
                before = known.get(labels)
                known[labels] = value if before is None else _merged(family.merge, before, value)

    def snapshot(self) -> Snapshot:
        """All of it, in the order of the families."""
        return {
            family.name: [(labels, value) for labels, value in self._families[family.name].items()]
            for family in FAMILIES
            if family.name in self._families
        }


def _merged(how: str, one: Value, other: Value) -> Value:
    if isinstance(one, list) and isinstance(other, list):
        return [a + b for a, b in zip(one, other, strict=True)]
    assert not isinstance(one, list)  # noqa: S101  # a family is one or the other
    assert not isinstance(other, list)  # noqa: S101
    return {"sum": one + other, "min": min(one, other), "max": max(one, other)}[how]
