"""What a batch of rows comes to, group by group, for a store that sums up by itself.

    rows --by_group--> (hour, key, team, model, upstream): its rows --summed--> roll-ups

A batch has many rows and few groups, so all that is done for each row is left to functions that
take whole columns: a loop over rows and their fields costs five times as much.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from operator import add, itemgetter
from typing import Any, TypeVar

from relay.stores.records import LedgerRow
from relay.stores.sums import HOUR, ROLL_UPS, RollUp

T = TypeVar("T")

Group = tuple[Any, ...]
"""The second at which an hour begins, a key, a team, a model and an upstream."""

Groups = Mapping[Group, Sequence[LedgerRow]]


def _column(name: str) -> int:
    return LedgerRow._fields.index(name)


_AT = itemgetter(_column("at"))
_OF = itemgetter(*map(_column, ("key_id", "team_id", "model_served", "upstream")))
_TOKENS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
_COUNTED = tuple(map(_column, (*_TOKENS, "audio_tokens", "cost_nano")))
_STATUS, _ERROR = _column("status"), _column("error")
_COST, _DURATION = _column("cost_nano"), _column("duration_s")


def by_group(rows: Sequence[LedgerRow]) -> Groups:
    """The rows of each group, in their order."""
    groups: dict[Group, Sequence[LedgerRow]] = {}
    for hour, some in _by_hour(rows).items():
        for of, found in grouped(_OF, some).items():
            groups[(hour, *of)] = found
    return groups


def grouped(of: Callable[[T], Group], rows: Sequence[T]) -> Mapping[Group, Sequence[T]]:
    """Rows of any kind, by what `of` gives for each."""
    different = dict.fromkeys(map(of, rows))
    if len(different) == 1:  # a busy key, or a small relay
        return dict.fromkeys(different, rows)
    groups: dict[Group, list[T]] = {one: [] for one in different}
    for one, row in zip(map(of, rows), rows, strict=True):
        groups[one].append(row)
    return groups


def _by_hour(rows: Sequence[LedgerRow]) -> dict[int, Sequence[LedgerRow]]:
    if not rows:
        return {}
    hour = _hour(min(map(_AT, rows)))
    if hour == _hour(max(map(_AT, rows))):  # as nearly always
        return {hour: rows}
    hours: defaultdict[int, list[LedgerRow]] = defaultdict(list)
    for row in rows:
        hours[_hour(row.at)].append(row)
    return dict(hours)


def _hour(at: float) -> int:
    return int(at // HOUR) * HOUR


def failed(row: LedgerRow) -> bool:
    """Whether it counts as an error."""
    return row.status >= 400 or bool(row.error)


def all_well(columns: Sequence[Sequence[Any]]) -> bool:
    """Whether none of the rows with these columns failed."""
    return max(columns[_STATUS]) < 400 and not any(columns[_ERROR])


def summed(groups: Groups) -> dict[RollUp, list[tuple[Any, ...]]]:
    """What rows add to the roll-ups, in the order of `SUMS` and of their keys."""
    sums = {group: _sums(rows) for group, rows in groups.items()}
    return {roll_up: _rolled(sums, roll_up) for roll_up in ROLL_UPS}


def _sums(rows: Sequence[LedgerRow]) -> tuple[Any, ...]:
    columns = list(zip(*rows, strict=True))
    errors = 0 if all_well(columns) else sum(map(failed, rows))
    counted = [sum(filter(None, columns[place])) for place in _COUNTED]
    unpriced = sum(map(_is_unpriced, rows)) if None in columns[_COST] else 0
    return (len(rows), errors, *counted, unpriced, sum(columns[_DURATION]))


def _is_unpriced(row: LedgerRow) -> bool:
    used = (row.prompt_tokens or 0) + (row.completion_tokens or 0)
    return row.cost_nano is None and used > 0


def _rolled(hours: Mapping[Group, tuple[Any, ...]], to: RollUp) -> list[tuple[Any, ...]]:
    groups: dict[Group, tuple[Any, ...]] = {}
    for (hour, *of), sums in hours.items():
        group = to.group(hour, of)
        known = groups.get(group)
        groups[group] = sums if known is None else tuple(map(add, known, sums))
    return sorted((*group, *sums) for group, sums in groups.items())
