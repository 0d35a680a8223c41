"""The store in PostgreSQL: for any number of replicas.

A batch is one statement: rows go in as columns, and what was really new is added to the sums, in
the order of their names, so that replicas which write at the same time lock alike and never wait
for each other in a circle. A column is a JSON array: that costs this process 1 us for a row;
PostgreSQL's own arrays cost it 9 us, and the server no less.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from relay.stores import histograms, tables
from relay.stores.fitting import fitting
from relay.stores.paging import ACTS, MEMBERS, keys_of, teams_of
from relay.stores.postgres_pool import PostgresPool
from relay.stores.records import (
    Audit,
    Bodies,
    KeyQuery,
    KeyRecord,
    LedgerRow,
    PageQuery,
    RowPage,
    RowQuery,
    TeamRecord,
    UsageQuery,
    UsageSum,
)
from relay.stores.searching import search
from relay.stores.sums import (
    COLUMNS,
    DAYS,
    GROUP_COLUMNS,
    HOUR,
    HOURS,
    OF_ROWS,
    SUMS,
    TOTALS,
    RollUp,
    merged,
    parts,
    spent_bounds,
    spent_expression,
    statement,
)
from relay.stores.superseded import Superseded
from relay.stores.url import StoreUrl

EXPIRED_AT_ONCE = 5_000
"""Rows removed in one transaction; others write in between."""

_PLACES = range(1, len(tables.LEDGER) + 1)

_TYPES = {
    "at": "float8",
    "attempts": "int4",
    "lost_attempts": "int4",
    "status": "int4",
    "stream": "bool",
    "prompt_tokens": "int8",
    "completion_tokens": "int8",
    "cached_tokens": "int8",
    "reasoning_tokens": "int8",
    "audio_tokens": "int8",
    "estimated": "bool",
    "cost_nano": "int8",
    "first_token_s": "float8",
    "duration_s": "float8",
}
"""Columns of the ledger that are no text."""

_ARRAYS = ", ".join(f"json_array_elements_text(${place})" for place in _PLACES)
_VALUES = ", ".join(
    f"value{place}::{_TYPES.get(name, 'text')}"
    for place, name in zip(_PLACES, tables.LEDGER, strict=True)
)
_ADDED = ", ".join(
    (
        *(f"sum({OF_ROWS.get(name) or f'coalesce({name}, 0)'})" for name in SUMS[GROUP_COLUMNS:]),
        *(
            f"nullif(count(CASE WHEN {name}_bucket = {number} THEN 1 END), 0)"
            for name in histograms.MEASURES
            for number in range(histograms.BUCKETS)
        ),
    )
)
_BOUNDS = ", ".join(map(repr, histograms.BOUNDS_S))
_BUCKETS = ", ".join(
    f"CASE WHEN {histograms.ANSWERED}"
    f" THEN width_bucket({column}, ARRAY[{_BOUNDS}]::float8[]) END AS {name}_bucket"
    for name, column in histograms.MEASURES.items()
)


def _add(to: RollUp) -> str:
    """Adds what is new to its sums."""
    table, group = to.table, ", ".join(SUMS[:GROUP_COLUMNS])
    who = "key_id, team_id" if to.by_key else "''::text, ''::text"
    return f"""INSERT INTO {table} ({", ".join(COLUMNS)})
SELECT floor(at / {to.span})::int8 * {to.span}, {who}, model_served, upstream, {_ADDED}
FROM counted GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
ON CONFLICT ({group}) DO UPDATE SET
{", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in SUMS[GROUP_COLUMNS:])},
{", ".join(f"{name} = {_plus(table, name)}" for name in histograms.COLUMNS)}
"""  # noqa: S608 - names of ours


def _plus(table: str, name: str) -> str:
    return f"coalesce({table}.{name} + excluded.{name}, {table}.{name}, excluded.{name})"


APPEND = f"""
WITH fresh AS (
    INSERT INTO relay_ledger ({", ".join(tables.LEDGER)})
    SELECT {_VALUES} FROM ROWS FROM ({_ARRAYS})
    AS given ({", ".join(f"value{place}" for place in _PLACES)})
    ON CONFLICT (at, request_id) DO NOTHING
    RETURNING *
),
counted AS (
    SELECT *, {_BUCKETS} FROM fresh
),
hours AS (
{_add(HOURS)}),
totals AS (
{_add(TOTALS)})
{_add(DAYS)}
"""  # noqa: S608 - names of ours

ADD_BODIES = f"""
INSERT INTO relay_bodies ({", ".join(tables.BODIES)}) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (at, request_id) DO NOTHING
"""  # noqa: S608 - names of ours

NEXT_REVISION = "UPDATE relay_marks SET value = value + 1 WHERE name = 'revision' RETURNING value"
"""Holds its row until the end of the transaction, so revisions appear in their order."""


class PostgresStore:
    """A `Store`; connections are opened when they are needed, at most `pool_size`."""

    def __init__(self, where: StoreUrl, *, pool_size: int) -> None:
        self._pool = PostgresPool(where, pool_size)

    async def append(self, rows: Sequence[LedgerRow], bodies: Sequence[Bodies] = ()) -> None:
        """Keep rows and what they add to the sums, in one transaction."""
        columns = [orjson.dumps(column).decode() for column in zip(*fitting(rows), strict=True)]
        async with self._pool.connection() as connection, connection.transaction():
            if columns:
                await connection.execute(APPEND, *columns)
            if bodies:
                await connection.executemany(ADD_BODIES, bodies)

    async def usage(self, query: UsageQuery) -> list[UsageSum]:
        """Sums over the ledger; at most two hours of it are looked at row by row."""
        async with self._pool.connection() as connection:
            found: list[Sequence[Any]] = []
            for part in parts(query, await _rows_begin_at(connection)):
                sql, arguments = statement(query, part)
                found += [tuple(row) for row in await connection.fetch(sql, *arguments)]
        return merged(query, found)

    async def recent(
        self, *, limit: int, before: float | None = None, key_id: str | None = None
    ) -> list[LedgerRow]:
        """The latest requests, newest first."""
        page = await self.search(RowQuery(limit=limit, before=before, key_id=key_id))
        return list(page.rows)

    async def search(self, query: RowQuery) -> RowPage:
        """The latest requests of a kind; by key there is an index."""
        async with self._pool.connection() as connection:
            steps = search(query, await _rows_begin_at(connection))
            rows: list[tuple[Any, ...]] | None = None
            while True:
                try:
                    sql, arguments = next(steps) if rows is None else steps.send(rows)
                except StopIteration as done:
                    found, next_before = done.value
                    return RowPage(rows=[LedgerRow(*row) for row in found], next_before=next_before)
                rows = [tuple(row) for row in await connection.fetch(sql, *arguments)]

    async def spent(self, since: Mapping[str, float]) -> dict[str, int]:
        """Nano-dollars that each key or team (by id) has spent since its time."""
        if not since:
            return {}
        amount = spent_expression("holder.id", "holder.since", "holder.hour", "holder.day")
        sql = (
            f"SELECT id, ({amount})::int8 FROM"  # noqa: S608 - names of ours
            " unnest($1::text[], $2::float8[], $3::int8[], $4::int8[])"
            " AS holder (id, since, hour, day)"
        )
        async with self._pool.connection() as connection:
            begin = await _rows_begin_at(connection)
            bounds = zip(*(spent_bounds(at, begin) for at in since.values()), strict=True)
            rows = await connection.fetch(sql, list(since), *map(list, bounds))
        return dict(rows)

    async def keys(self, *, above: int = -1) -> list[KeyRecord]:
        """The keys of a higher revision than that, revoked ones as well."""
        rows = await self._fetch(_select("relay_keys", tables.KEYS), above)
        return [tables.key_of(row) for row in rows]

    async def key(self, key_id: str) -> KeyRecord | None:
        """The key of that id."""
        rows = await self._fetch(_select("relay_keys", tables.KEYS, "id = $1"), key_id)
        return tables.key_of(rows[0]) if rows else None

    async def teams(self, *, above: int = -1) -> list[TeamRecord]:
        """The teams of a higher revision than that, deleted ones as well."""
        rows = await self._fetch(_select("relay_teams", tables.TEAMS), above)
        return [tables.team_of(row) for row in rows]

    async def list_keys(self, query: KeyQuery) -> list[KeyRecord]:
        """A page of the keys, in the order in which they were made."""
        sql, arguments = keys_of(query, 'strpos(lower({0} COLLATE "C"), {1}) > 0')
        return [tables.key_of(row) for row in await self._fetch(sql, *arguments)]

    async def list_teams(self, query: PageQuery) -> list[TeamRecord]:
        """A page of the teams that are there, in the order in which they were made."""
        sql, arguments = teams_of(query)
        return [tables.team_of(row) for row in await self._fetch(sql, *arguments)]

    async def members(self) -> dict[str, int]:
        """How many keys that are not revoked each team (by id) has; "" is no team."""
        return dict(await self._fetch(MEMBERS))

    async def put_key(self, key: KeyRecord) -> KeyRecord:
        """Add it, or put it in the place of the one with its id, if that is as it was read."""
        async with self._pool.connection() as connection, connection.transaction():
            new = replace(key, revision=int(await connection.fetchval(NEXT_REVISION)))
            row = tables.key_row(new)
            await _put(connection, "relay_keys", tables.KEYS, row, key.revision)
        return new

    async def put_team(self, team: TeamRecord) -> TeamRecord:
        """The same for a team."""
        async with self._pool.connection() as connection, connection.transaction():
            new = replace(team, revision=int(await connection.fetchval(NEXT_REVISION)))
            row = tables.team_row(new)
            await _put(connection, "relay_teams", tables.TEAMS, row, team.revision)
        return new

    async def touch(self, last_used: Mapping[str, float]) -> None:
        """When keys (by id) were last used; never earlier than is known."""
        # Sorted, so that replicas lock alike.
        sql = (
            "UPDATE relay_keys SET last_used_at = greatest(last_used_at, used.at) FROM"
            " (SELECT keys.id, given.at FROM unnest($1::text[], $2::float8[]) AS given (id, at)"
            " JOIN relay_keys AS keys ON keys.id = given.id ORDER BY 1 FOR UPDATE OF keys) AS used"
            " WHERE relay_keys.id = used.id"
        )
        async with self._pool.connection() as connection:
            await connection.execute(sql, list(last_used), list(last_used.values()))

    async def note(self, act: Audit) -> None:
        """Keep one act of the admin API."""
        sql = (
            f"INSERT INTO relay_acts ({', '.join(tables.ACTS)})"  # noqa: S608 - names of ours
            " VALUES ($1, $2, $3, $4, $5, $6)"
        )
        async with self._pool.connection() as connection:
            await connection.execute(sql, *tables.act_row(act, secrets.token_hex(8)))

    async def acts(self, *, limit: int, before: float | None = None) -> list[Audit]:
        """The latest acts, newest first."""
        return [tables.act_of(row) for row in await self._fetch(ACTS, _or_ever(before), limit)]

    async def expire(self, *, rows_before: float, bodies_before: float) -> tuple[int, int]:
        """Remove rows of whole hours and bodies, a few at a time; sums stay."""
        rows_before = rows_before // HOUR * HOUR
        async with self._pool.connection() as connection:
            await connection.execute(
                "UPDATE relay_marks SET value = greatest(value, $1) WHERE name = 'rows_begin_at'",
                rows_before,
            )
        return (
            await self._remove("relay_ledger", rows_before),
            await self._remove("relay_bodies", bodies_before),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def _remove(self, table: str, before: float) -> int:
        # Replicas that do the same at the same time share the work.
        sql = (
            f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table}"  # noqa: S608 - names of ours
            " WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED))"
        )
        removed = 0
        while True:
            async with self._pool.connection() as connection:
                done = await connection.execute(sql, before, EXPIRED_AT_ONCE)
            count = int(done.removeprefix("DELETE "))
            removed += count
            if count < EXPIRED_AT_ONCE:
                return removed

    async def _fetch(self, sql: str, *arguments: object) -> list[Any]:
        async with self._pool.connection() as connection:
            return list(await connection.fetch(sql, *arguments))


async def _put(
    connection: Any, table: str, columns: Sequence[str], row: Sequence[Any], seen: int
) -> None:
    values = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
    # When a key was last used is kept by `touch`, which whoever changes a key knows nothing of.
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name != "last_used_at")
    done = await connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})"  # noqa: S608 - names of ours
        f" ON CONFLICT (id) DO UPDATE SET {changes} WHERE {table}.revision = ${len(columns) + 1}",
        *row,
        seen,
    )
    if done == "INSERT 0 0":
        raise Superseded


def _select(table: str, columns: Sequence[str], which: str = "revision > $1") -> str:
    return f"SELECT {', '.join(columns)} FROM {table} WHERE {which} ORDER BY revision"  # noqa: S608 - names of ours


async def _rows_begin_at(connection: Any) -> float:
    sql = "SELECT value FROM relay_marks WHERE name = 'rows_begin_at'"
    return float(await connection.fetchval(sql))


def _or_ever(before: float | None) -> float:
    return float("inf") if before is None else before
