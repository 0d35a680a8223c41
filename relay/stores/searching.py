"""Finding the latest requests of a kind among millions, a bounded piece of work at a time.

    days in which there are some --> their hours --> rows, newest first

Rows have no index by model or status; the sums tell in which hours to look. What is found so far is
given when a page is full, or when enough was looked at: the page then says where to go on.

No I/O: `search` yields statements (PostgreSQL's words) and is sent their rows.
"""

from collections.abc import Generator, Sequence
from math import ceil, inf
from typing import Any

from relay.stores import tables
from relay.stores.histograms import ANSWERED
from relay.stores.records import RowQuery
from relay.stores.sums import DAY, HOUR

MOST_ROWS = 200_000
"""Looked at for one page; some 0.3 s."""

MOST_HOURS = 100
"""Likewise."""

_SUMS_WITH = {None: "requests > 0", "ok": "requests > errors", "failed": "errors > 0"}
_END_OF_TIME = 2**40

Rows = Sequence[Sequence[Any]]
Stretch = tuple[float, float]
"""From a time (inside) to a time (outside)."""

Search = Generator[tuple[str, list[Any]], Rows, tuple[list[Sequence[Any]], float | None]]


def search(query: RowQuery, rows_begin_at: float) -> Search:
    """Gives the rows as `tables.LEDGER` names their columns, and where the next page begins."""
    before = inf if query.before is None else query.before
    found: list[Sequence[Any]] = []
    if query == RowQuery(limit=query.limit, before=query.before):
        sql, arguments = _rows(query, (0.0, before))
        found += yield f"{sql} LIMIT {query.limit}", arguments
        return found, _next(found, query)
    left, hours = MOST_ROWS, 0
    for (day,) in (yield _days(query, before, rows_begin_at)):
        for (hour,) in (yield _hours(query, day, before)):
            if hours == MOST_HOURS:
                return found, float(hour + HOUR)
            hours += 1
            stretch = (float(hour), min(float(hour + HOUR), before))
            ((size,),) = yield _size(query, hour)
            if whole := size <= left:
                left -= int(size)
            elif not left:
                return found, stretch[1]
            else:
                ((first,),) = yield _first(query, stretch, left)
                if first is None:  # what is in the hour came after this page
                    continue
                stretch = (first, stretch[1])
            sql, arguments = _rows(query, stretch)
            found += yield f"{sql} LIMIT {query.limit - len(found)}", arguments
            if len(found) == query.limit:
                return found, _next(found, query)
            if not whole:
                return found, stretch[0]
    return found, None


def _next(found: Sequence[Sequence[Any]], query: RowQuery) -> float | None:
    return found[-1][0] if len(found) == query.limit else None


def _days(query: RowQuery, before: float, rows_begin_at: float) -> tuple[str, list[Any]]:
    arguments: list[Any] = [ceil(min(before, _END_OF_TIME)), int(rows_begin_at) - DAY]
    where = ["begins_at < $1", "begins_at > $2", *_of_sums(query, arguments)]
    return _beginnings("relay_days", where), arguments


def _hours(query: RowQuery, day: int, before: float) -> tuple[str, list[Any]]:
    arguments: list[Any] = [ceil(min(before, _END_OF_TIME))]
    # One by one: so the primary key leads to those of a key, too.
    hours = ", ".join(str(hour) for hour in range(day, day + DAY, HOUR))
    where = ["begins_at < $1", f"begins_at IN ({hours})", *_of_sums(query, arguments)]
    return _beginnings("relay_hours", where), arguments


def _beginnings(table: str, where: Sequence[str]) -> str:
    return f"SELECT DISTINCT begins_at FROM {table} WHERE {_all(where)} ORDER BY 1 DESC"  # noqa: S608 - names of ours


def _of_sums(query: RowQuery, arguments: list[Any]) -> list[str]:
    status = query.status
    if isinstance(status, int):
        # 200 may have failed, too: after its head had gone out.
        status = "failed" if status >= 400 else None
    return [*_filters(query, "model", arguments), _SUMS_WITH[status]]


def _size(query: RowQuery, hour: int) -> tuple[str, list[Any]]:
    """How many rows have to be looked at; PostgreSQL finds those of a key by an index."""
    arguments: list[Any] = [hour]
    where = ["begins_at = $1", *_of_key(query, arguments)]
    return f"SELECT CAST(sum(requests) AS BIGINT) FROM relay_hours WHERE {_all(where)}", arguments  # noqa: S608 - names of ours


def _first(query: RowQuery, stretch: Stretch, most: int) -> tuple[str, list[Any]]:
    """Where the latest `most` rows of a stretch begin."""
    arguments: list[Any] = list(stretch)
    where = ["at >= $1", "at < $2", *_of_key(query, arguments)]
    latest = f"SELECT at FROM relay_ledger WHERE {_all(where)} ORDER BY at DESC LIMIT {most}"  # noqa: S608 - names of ours
    return f"SELECT min(at) FROM ({latest}) AS latest", arguments  # noqa: S608 - names of ours


def _rows(query: RowQuery, stretch: Stretch) -> tuple[str, list[Any]]:
    arguments: list[Any] = list(stretch)
    where = ["at >= $1", "at < $2", *_filters(query, "model_served", arguments)]
    if query.status == "ok":
        where.append(ANSWERED)
    elif query.status == "failed":
        where.append(f"NOT ({ANSWERED})")
    elif query.status is not None:
        arguments.append(query.status)
        where.append(f"status = ${len(arguments)}")
    columns = ", ".join(tables.LEDGER)
    return f"SELECT {columns} FROM relay_ledger WHERE {_all(where)} ORDER BY at DESC", arguments  # noqa: S608 - names of ours


def _of_key(query: RowQuery, arguments: list[Any]) -> list[str]:
    return _filters(RowQuery(limit=1, key_id=query.key_id), "", arguments)


def _filters(query: RowQuery, model: str, arguments: list[Any]) -> list[str]:
    wanted = {"key_id": query.key_id, model: query.model, "upstream": query.upstream}
    where = []
    for column, value in wanted.items():
        if value is not None:
            arguments.append(value)
            where.append(f"{column} = ${len(arguments)}")
    return where


def _all(where: Sequence[str]) -> str:
    return " AND ".join(where)
