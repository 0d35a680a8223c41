"""The store in an SQLite file: the default, for one machine with any number of workers.

Writes and the look for keys share one thread, reports have another: a long one must not hold up
the news that a key was revoked. Many rows go into one statement, since Python's lock changes
hands with each, and a busy event loop gives it back only after 5 ms.
"""

import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from relay.stores import tables
from relay.stores.fitting import fitting
from relay.stores.records import (
    Audit,
    Bodies,
    KeyRecord,
    LedgerRow,
    TeamRecord,
    UsageQuery,
    UsageSum,
)
from relay.stores.sqlite_file import SqliteFile
from relay.stores.sums import (
    DAY,
    GROUP_COLUMNS,
    HOUR,
    SUMS,
    TABLES,
    chunks,
    merged,
    parts,
    spent_bounds,
    spent_expression,
    statement,
    summed,
)
from relay.stores.superseded import Superseded

T = TypeVar("T")

CHUNKS = (64, 8, 1)
"""Rows of one statement: few shapes, so that each is compiled once."""

EXPIRED_AT_ONCE = 5_000
"""Rows removed in one transaction; others write in between."""


class SqliteStore:
    """A `Store`; several processes may have the same file open."""

    def __init__(self, path: str) -> None:
        self._file = SqliteFile(path)
        self._reports = SqliteFile(path)

    async def append(self, rows: Sequence[LedgerRow], bodies: Sequence[Bodies] = ()) -> None:
        """Keep rows and what they add to the sums, in one transaction."""
        rows = fitting(rows)
        await self._write(lambda connection: _append(connection, rows, bodies))

    async def usage(self, query: UsageQuery) -> list[UsageSum]:
        """Sums over the ledger; at most two hours of it are looked at row by row."""

        def read(connection: sqlite3.Connection) -> list[UsageSum]:
            found: list[Sequence[object]] = []
            for part in parts(query, _rows_begin_at(connection)):
                sql, arguments = statement(query, part)
                found += connection.execute(_numbered(sql), arguments)
            return merged(query, found)

        return await self._reports.run(read)

    async def recent(
        self, *, limit: int, before: float | None = None, key_id: str | None = None
    ) -> list[LedgerRow]:
        """The latest requests, newest first."""

        def read(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            if key_id is None:
                return _rows(connection, "at < ?", [_or_ever(before)], limit)
            return _rows_of_key(connection, key_id, _or_ever(before), limit)

        return [tables.ledger_row_of(row) for row in await self._reports.run(read)]

    async def spent(self, since: Mapping[str, float]) -> dict[str, int]:
        """Nano-dollars that each key or team (by id) has spent since its time."""
        sql = _numbered(f"SELECT {spent_expression('$1', '$2', '$3', '$4')}")

        def read(connection: sqlite3.Connection) -> dict[str, int]:
            begin = _rows_begin_at(connection)
            return {
                id_: int(connection.execute(sql, (id_, *spent_bounds(at, begin))).fetchone()[0])
                for id_, at in since.items()
            }

        return await self._reports.run(read)

    async def keys(self, *, above: int = -1) -> list[KeyRecord]:
        """The keys of a higher revision than that, revoked ones as well."""
        sql = _select("relay_keys", tables.KEYS)
        return [tables.key_of(row) for row in await self._read(sql, [above])]

    async def teams(self, *, above: int = -1) -> list[TeamRecord]:
        """The teams of a higher revision than that, deleted ones as well."""
        sql = _select("relay_teams", tables.TEAMS)
        return [tables.team_of(row) for row in await self._read(sql, [above])]

    async def put_key(self, key: KeyRecord) -> KeyRecord:
        """Add it, or put it in the place of the one with its id, if that is as it was read."""

        def put(connection: sqlite3.Connection) -> KeyRecord:
            new = replace(key, revision=_next_revision(connection))
            _put(connection, "relay_keys", tables.KEYS, tables.key_row(new), key.revision)
            return new

        return await self._write(put)

    async def put_team(self, team: TeamRecord) -> TeamRecord:
        """The same for a team."""

        def put(connection: sqlite3.Connection) -> TeamRecord:
            new = replace(team, revision=_next_revision(connection))
            _put(connection, "relay_teams", tables.TEAMS, tables.team_row(new), team.revision)
            return new

        return await self._write(put)

    async def touch(self, last_used: Mapping[str, float]) -> None:
        """When keys (by id) were last used; never earlier than is known."""
        sql = (
            "UPDATE relay_keys SET last_used_at = max(coalesce(last_used_at, 0), ?1) WHERE id = ?2"
        )
        used = [(at, id_) for id_, at in last_used.items()]
        await self._write(lambda connection: connection.executemany(sql, used))

    async def note(self, act: Audit) -> None:
        """Keep one act of the admin API."""
        row = tables.act_row(act, secrets.token_hex(8))
        await self._write(
            lambda connection: _insert(connection, "relay_acts", tables.ACTS, [row], "")
        )

    async def acts(self, *, limit: int, before: float | None = None) -> list[Audit]:
        """The latest acts, newest first."""
        sql = (
            f"SELECT {', '.join(tables.ACTS)} FROM relay_acts"  # noqa: S608 - names of ours
            " WHERE at < ? ORDER BY at DESC LIMIT ?"
        )
        rows = await self._reports.run(
            lambda connection: _all(connection, sql, [_or_ever(before), limit])
        )
        return [tables.act_of(row) for row in rows]

    async def expire(self, *, rows_before: float, bodies_before: float) -> tuple[int, int]:
        """Remove rows of whole hours and bodies, a few at a time; sums stay."""
        rows_before = rows_before // HOUR * HOUR
        await self._write(
            lambda connection: connection.execute(
                "UPDATE relay_marks SET value = max(value, ?) WHERE name = 'rows_begin_at'",
                (rows_before,),
            )
        )
        return (
            await self._remove("relay_ledger", rows_before),
            await self._remove("relay_bodies", bodies_before),
        )

    async def aclose(self) -> None:
        """Close the file."""
        await self._file.aclose()
        await self._reports.aclose()

    async def _remove(self, table: str, before: float) -> int:
        sql = (
            f"DELETE FROM {table} WHERE (at, request_id) IN (SELECT at, request_id FROM {table}"  # noqa: S608 - names of ours
            " WHERE at < ? ORDER BY at LIMIT ?)"
        )
        removed = 0
        while True:
            count = await self._write(
                lambda connection: connection.execute(sql, (before, EXPIRED_AT_ONCE)).rowcount
            )
            removed += count
            if count < EXPIRED_AT_ONCE:
                return removed

    async def _read(self, sql: str, arguments: Sequence[object]) -> list[tuple[Any, ...]]:
        return await self._file.run(lambda connection: _all(connection, sql, arguments))

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def in_transaction(connection: sqlite3.Connection) -> T:
            # A transaction that fails ends with its connection.
            connection.execute("BEGIN IMMEDIATE")
            done = work(connection)
            connection.execute("COMMIT")
            return done

        return await self._file.run(in_transaction)


def _append(
    connection: sqlite3.Connection, rows: Sequence[LedgerRow], bodies: Sequence[Bodies]
) -> None:
    known = "ON CONFLICT (at, request_id) DO NOTHING"
    connection.execute("SAVEPOINT rows")
    new = _insert(connection, "relay_ledger", tables.LEDGER, rows, known)
    if new != len(rows):  # some are there already: which ones?
        connection.execute("ROLLBACK TO rows")
        rows = [
            row for row in rows if _insert(connection, "relay_ledger", tables.LEDGER, [row], known)
        ]
    connection.execute("RELEASE rows")
    for span, sums in summed(rows).items():
        _insert(connection, TABLES[span], SUMS, sums, ADD)
    _insert(connection, "relay_bodies", tables.BODIES, bodies, known)


ADD = f"ON CONFLICT ({', '.join(SUMS[:GROUP_COLUMNS])}) DO UPDATE SET " + ", ".join(
    f"{name} = {name} + excluded.{name}" for name in SUMS[GROUP_COLUMNS:]
)


def _insert(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    conflict: str,
) -> int:
    """How many rows were put in, or changed."""
    one = f"({', '.join('?' * len(columns))})"
    changed = 0
    for chunk in chunks(rows, CHUNKS):
        sql = (
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608 - names of ours
            f"{', '.join([one] * len(chunk))} {conflict}"
        )
        changed += connection.execute(sql, [value for row in chunk for value in row]).rowcount
    return changed


def _rows(
    connection: sqlite3.Connection, where: str, arguments: Sequence[object], limit: int
) -> list[tuple[Any, ...]]:
    sql = (
        f"SELECT {', '.join(tables.LEDGER)} FROM relay_ledger"  # noqa: S608 - names of ours
        f" WHERE {where} ORDER BY at DESC LIMIT ?"
    )
    return _all(connection, sql, (*arguments, limit))


def _rows_of_key(
    connection: sqlite3.Connection, key_id: str, before: float, limit: int
) -> list[tuple[Any, ...]]:
    """Rows have no index by key; the sums tell in which hours there are some."""
    days = _all(
        connection,
        "SELECT DISTINCT begins_at FROM relay_days"
        " WHERE key_id = ? AND begins_at < ? AND begins_at + ? > ? ORDER BY 1 DESC",
        (key_id, before, DAY, _rows_begin_at(connection)),
    )
    found: list[tuple[Any, ...]] = []
    for (day,) in days:
        hours = ", ".join(str(hour) for hour in range(day, day + DAY, HOUR))
        for (hour,) in _all(
            connection,
            f"SELECT DISTINCT begins_at FROM relay_hours"  # noqa: S608 - numbers of ours
            f" WHERE begins_at IN ({hours}) AND key_id = ? ORDER BY 1 DESC",
            (key_id,),
        ):
            bounds = (hour, min(hour + HOUR, before), key_id)
            left = limit - len(found)
            found += _rows(connection, "at >= ? AND at < ? AND key_id = ?", bounds, left)
            if len(found) >= limit:
                return found
    return found


def _put(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    row: Sequence[object],
    seen: int,
) -> None:
    # When a key was last used is kept by `touch`, which whoever changes a key knows nothing of.
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name != "last_used_at")
    unless = f"ON CONFLICT (id) DO UPDATE SET {changes} WHERE {table}.revision = {int(seen)}"
    if not _insert(connection, table, columns, [row], unless):
        raise Superseded


def _select(table: str, columns: Sequence[str]) -> str:
    return f"SELECT {', '.join(columns)} FROM {table} WHERE revision > ? ORDER BY revision"  # noqa: S608 - names of ours


def _next_revision(connection: sqlite3.Connection) -> int:
    connection.execute("UPDATE relay_marks SET value = value + 1 WHERE name = 'revision'")
    return int(_mark(connection, "revision"))


def _rows_begin_at(connection: sqlite3.Connection) -> float:
    return _mark(connection, "rows_begin_at")


def _mark(connection: sqlite3.Connection, name: str) -> float:
    sql = "SELECT value FROM relay_marks WHERE name = ?"
    return float(connection.execute(sql, (name,)).fetchone()[0])


def _all(
    connection: sqlite3.Connection, sql: str, arguments: Sequence[object]
) -> list[tuple[Any, ...]]:
    return connection.execute(sql, arguments).fetchall()


def _or_ever(before: float | None) -> float:
    return float("inf") if before is None else before


def _numbered(sql: str) -> str:
    """PostgreSQL's parameters in SQLite's words."""
    return sql.replace("$", "?")
