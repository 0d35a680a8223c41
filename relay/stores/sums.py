"""Roll-ups: what the requests of an hour or a day come to, and how a question is answered by them.

    |--rows--|----hours----|--------days--------|---hours---|--rows--|     of a key, by key
    |--rows--|--------------------totals--------------------|--rows--|     of all keys
    begins_at                                                   ends_at

A day is UTC's. Whoever asks for whole hours never looks at a row. A thousand keys make a thousand
sums of an hour, so there is one table without keys and teams. The SQL is the same for both
databases; its parameters are PostgreSQL's (`$1`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relay.stores import histograms
from relay.stores.histograms import BUCKETS
from relay.stores.records import GroupBy, UsageQuery, UsageSum

HOUR = 3600
DAY = 86400


@dataclass(frozen=True, slots=True)
class RollUp:
    """A table of sums: of how many seconds each, and whether apart by key and team.

    One table for all spans would have the span at the head of its key: SQLite takes that for the
    best way in, also when a single key is asked for.
    """

    table: str
    span: int
    by_key: bool = True

    def group(self, at: float, row_group: Sequence[str]) -> tuple[Any, ...]:
        """The group here of what is at that time of that key, team, model and upstream."""
        key, team, *rest = row_group
        begins_at = _floor(at, self.span)
        return (begins_at, key, team, *rest) if self.by_key else (begins_at, "", "", *rest)


HOURS = RollUp("relay_hours", HOUR)
DAYS = RollUp("relay_days", DAY)
TOTALS = RollUp("relay_totals", HOUR, by_key=False)
ROLL_UPS = (HOURS, DAYS, TOTALS)

SUMS = (
    "begins_at",
    "key_id",
    "team_id",
    "model",
    "upstream",
    "requests",
    "errors",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "audio_tokens",
    "cost_nano",
    "unpriced",
    "duration_s",
)
"""Their columns, as far as every question reads them."""

COLUMNS = (*SUMS, *histograms.COLUMNS)
"""All of them."""

GROUP_COLUMNS = 5
"""The first of them, which say what is summed up; the others are sums."""

OF_ROWS = {
    "requests": "1",
    "errors": "CASE WHEN status >= 400 OR error <> '' THEN 1 ELSE 0 END",
    "unpriced": "CASE WHEN cost_nano IS NULL"
    " AND coalesce(prompt_tokens, 0) + coalesce(completion_tokens, 0) > 0 THEN 1 ELSE 0 END",
}
"""Sums that are no column of the ledger."""

_GROUPS = {"key": "key_id", "team": "team_id", "model": "model", "upstream": "upstream"}
_SPANS = {"day": DAY, "hour": HOUR}
_SHOWN = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00:00Z"}

_LATENCY = len(SUMS) - GROUP_COLUMNS
"""Where the first histogram begins among the sums of a group."""

_END_OF_TIME = 2**40
"""Seconds; so that whoever asks until infinity gets whole numbers."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of time that one table answers for: a roll-up, or (None) rows."""

    source: RollUp | None
    begins_at: float
    ends_at: float


def parts(query: UsageQuery, rows_begin_at: float) -> list[Part]:
    """The stretches that make up a query's time.

    Before `rows_begin_at` rows have been removed, so a time there counts as the whole hour it is
    in.
    """
    begins_at, ends_at = max(query.begins_at, 0.0), min(query.ends_at, _END_OF_TIME)
    if begins_at < rows_begin_at:
        begins_at = _floor(begins_at, HOUR)
    if ends_at < rows_begin_at:
        ends_at = _ceil(ends_at, HOUR)
    first_hour, last_hour = _ceil(begins_at, HOUR), _floor(ends_at, HOUR)
    first_day, last_day = _ceil(first_hour, DAY), _floor(last_hour, DAY)
    if first_hour > last_hour:  # both within one hour
        found = [Part(None, begins_at, ends_at)]
    else:
        if not _by_key(query):
            whole = [Part(TOTALS, first_hour, last_hour)]
        elif "hour" in query.group_by or first_day >= last_day:
            whole = [Part(HOURS, first_hour, last_hour)]
        else:
            whole = [
                Part(HOURS, first_hour, first_day),
                Part(DAYS, first_day, last_day),
                Part(HOURS, last_day, last_hour),
            ]
        found = [Part(None, begins_at, first_hour), *whole, Part(None, last_hour, ends_at)]
    return [part for part in found if part.begins_at < part.ends_at]


def _by_key(query: UsageQuery) -> bool:
    """Whether it matters whose requests they were."""
    grouped = "key" in query.group_by or "team" in query.group_by
    return grouped or query.key_id is not None or query.team_id is not None


def statement(query: UsageQuery, part: Part) -> tuple[str, list[Any]]:
    """The SQL that answers for a part, and its arguments: groups first, then the sums."""
    rows = part.source is None
    groups = [_group(name, part) for name in query.group_by]
    sums = [
        f"coalesce(sum({OF_ROWS.get(name, name) if rows else name}), 0)"
        for name in SUMS[GROUP_COLUMNS:]
    ]
    casts = [f"CAST({one} AS BIGINT)" for one in sums[:-1]]
    wanted = [*groups, *casts, sums[-1]]
    if query.percentiles:
        wanted += [
            f"count(CASE WHEN {one} THEN 1 END)" if rows else f"CAST(sum({one}) AS BIGINT)"
            for one in (histograms.conditions() if rows else histograms.COLUMNS)
        ]
    arguments: list[Any] = [part.begins_at, part.ends_at]
    where = ["at >= $1", "at < $2"]
    if not rows:
        arguments = [int(part.begins_at), int(part.ends_at)]
        where = ["begins_at >= $1", "begins_at < $2"]
    filters = {
        "key_id": query.key_id,
        "team_id": query.team_id,
        "model_served" if rows else "model": query.model,
        "upstream": query.upstream,
    }
    for column, value in filters.items():
        if value is not None:
            arguments.append(value)
            where.append(f"{column} = ${len(arguments)}")
    if query.team_id:
        where.append("team_id <> ''")  # for the partial index
    by = ", ".join(str(place) for place in range(1, len(groups) + 1))
    return (
        f"SELECT {', '.join(wanted)} FROM {part.source.table if part.source else 'relay_ledger'}"  # noqa: S608 - names of ours
        f" WHERE {' AND '.join(where)}" + (f" GROUP BY {by}" if groups else ""),
        arguments,
    )


def merged(query: UsageQuery, found: Iterable[Sequence[Any]]) -> list[UsageSum]:
    """One sum a group, from the answers of all parts, in the order of the groups."""
    width = len(query.group_by)
    groups: dict[tuple[Any, ...], Sequence[Any]] = {}
    for row in found:
        group, sums = tuple(row[:width]), row[width:]
        if group in groups:
            # Of a histogram what is zero is None.
            sums = [
                (one or 0) + (other or 0) for one, other in zip(groups[group], sums, strict=True)
            ]
        groups[group] = sums
    return [
        UsageSum(
            group=dict(zip(query.group_by, map(_shown, query.group_by, group), strict=True)),
            **dict(zip(SUMS[GROUP_COLUMNS:], sums[:_LATENCY], strict=True)),
            latency=_counts(sums[_LATENCY : _LATENCY + BUCKETS]),
            first_token=_counts(sums[_LATENCY + BUCKETS :]),
        )
        for group, sums in sorted(groups.items())
        if sums[0]
    ]


def spent_expression(id_: str, since: str, hour: str, day: str) -> str:
    """The SQL for what a key or team has spent since a time.

    Takes the names of the parameters: its id, the time, and the next whole hour and day from that.
    """

    def of(holder: str) -> str:
        return " + ".join(
            f"coalesce((SELECT sum(cost_nano) FROM {table} WHERE {holder} AND {when}), 0)"  # noqa: S608 - names of ours
            for table, when in (
                ("relay_days", f"begins_at >= {day}"),
                ("relay_hours", f"begins_at >= {hour} AND begins_at < {day}"),
                ("relay_ledger", f"at >= {since} AND at < {hour}"),
            )
        )

    # A key is no team, and rows may have no index by team.
    team = f"team_id = {id_} AND team_id <> ''"
    is_team = f"EXISTS (SELECT 1 FROM relay_days WHERE {team})"  # noqa: S608 - names of ours
    return f"{of(f'key_id = {id_}')} + CASE WHEN {is_team} THEN {of(team)} ELSE 0 END"


def spent_bounds(since: float, rows_begin_at: float) -> tuple[float, int, int]:
    """From when rows, hours and days count towards what was spent since then."""
    since = max(since, 0.0)
    if since < rows_begin_at:
        since = _floor(since, HOUR)
    hour = _ceil(since, HOUR)
    return float(since), hour, _ceil(hour, DAY)


def _counts(buckets: Sequence[int | None]) -> tuple[int, ...]:
    return tuple(count or 0 for count in buckets)


def _group(name: GroupBy, part: Part) -> str:
    if (span := _SPANS.get(name)) is None:
        return "model_served" if name == "model" and part.source is None else _GROUPS[name]
    if part.source is None:  # its rows are of one hour
        return f"CAST({_floor(part.begins_at, span)} AS BIGINT)"
    return f"begins_at / {span} * {span}"


def _shown(name: str, value: Any) -> str:
    if name in _SHOWN:
        return datetime.fromtimestamp(value, UTC).strftime(_SHOWN[name])
    return str(value)


def _floor(at: float, span: int) -> int:
    return int(at // span) * span


def _ceil(at: float, span: int) -> int:
    return -int(-at // span) * span


def chunks(rows: Sequence[Any], sizes: Sequence[int]) -> Iterator[Sequence[Any]]:
    """Rows in as few pieces as there can be of those sizes, the largest first; the last is 1."""
    begin = 0
    for size in sizes:
        while len(rows) - begin >= size:
            yield rows[begin : begin + size]
            begin += size
