"""The store in an SQLite file: the default, for one machine with any number of workers.

Writes and the look for keys share one thread, reports have another: a long one must not hold up
the news that a key was revoked. Many rows go into one statement, since Python's lock changes
hands with each, and a busy event loop gives it back only after 5 ms.
"""

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar

from relay.stores import histograms, tables
from relay.stores.fitting import fitting
from relay.stores.grouped import Groups, by_group, summed
from relay.stores.paging import ACTS, MEMBERS, keys_of, teams_of
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
from relay.stores.sqlite_file import SqliteFile
from relay.stores.sqlite_times import Times
from relay.stores.sums import (
    COLUMNS,
    GROUP_COLUMNS,
    HOUR,
    ROLL_UPS,
    SUMS,
    chunks,
    merged,
    parts,
    spent_bounds,
    spent_expression,
    statement,
)
from relay.stores.superseded import Superseded
from relay.stores.unavailable import StoreUnavailable

T = TypeVar("T")

CHUNKS = (256, 64, 8, 1)
"""Rows of one statement: few shapes, so that each is compiled once. The most of them are bound in a
quarter of a millisecond, in which nothing else runs."""

EXPIRED_AT_ONCE = 5_000
"""Rows removed in one transaction; others write in between."""


class SqliteStore:
    """A `Store`; several processes may have the same file open."""

    def __init__(self, path: str) -> None:
        self._file = SqliteFile(path)
        self._reports = SqliteFile(path)
        self._times = Times()

    async def append(self, rows: Sequence[LedgerRow], bodies: Sequence[Bodies] = ()) -> None:
        """Keep rows and what they add to the sums, in one transaction."""
        rows = fitting(rows)

        def work(connection: sqlite3.Connection) -> tuple[bool, Times]:
            times = Times(_append(connection, rows, bodies))
            if due := self._times.due(times):
                _add_times(connection, (self._times, times))
            return due, times

        def after(done: tuple[bool, Times]) -> None:
            written, times = done
            self._times = Times() if written else self._times.plus(times)

        await self._write(work, after)

    async def usage(self, query: UsageQuery) -> list[UsageSum]:
        """Sums over the ledger; at most two hours of it are looked at row by row."""

        def read(connection: sqlite3.Connection) -> list[UsageSum]:
            found: list[Sequence[object]] = []
            for part in parts(query, _rows_begin_at(connection)):
                sql, arguments = statement(query, part)
                found += connection.execute(_numbered(sql), arguments)
            return merged(query, found)

        if query.percentiles:
            with suppress(StoreUnavailable):  # the file may be one that can only be read
                await self._write_times()
        return await self._reports.run(read)

    async def recent(
        self, *, limit: int, before: float | None = None, key_id: str | None = None
    ) -> list[LedgerRow]:
        """The latest requests, newest first."""

        page = await self.search(RowQuery(limit=limit, before=before, key_id=key_id))
        return list(page.rows)

    async def search(self, query: RowQuery) -> RowPage:
        """The latest requests of a kind; rows have no index but that of their time."""

        def read(connection: sqlite3.Connection) -> RowPage:
            steps = search(query, _rows_begin_at(connection))
            rows: list[tuple[Any, ...]] | None = None
            while True:
                try:
                    sql, arguments = next(steps) if rows is None else steps.send(rows)
                except StopIteration as done:
                    found, next_before = done.value
                    return RowPage(
                        rows=[tables.ledger_row_of(row) for row in found], next_before=next_before
                    )
                rows = _all(connection, _numbered(sql), arguments)

        return await self._reports.run(read)

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

    async def key(self, key_id: str) -> KeyRecord | None:
        """The key of that id."""
        sql = _select("relay_keys", tables.KEYS, "id = ?")
        rows = await self._read(sql, [key_id])
        return tables.key_of(rows[0]) if rows else None

    async def teams(self, *, above: int = -1) -> list[TeamRecord]:
        """The teams of a higher revision than that, deleted ones as well."""
        sql = _select("relay_teams", tables.TEAMS)
        return [tables.team_of(row) for row in await self._read(sql, [above])]

    async def list_keys(self, query: KeyQuery) -> list[KeyRecord]:
        """A page of the keys, in the order in which they were made."""
        sql, arguments = keys_of(query, "instr(lower({0}), {1}) > 0")
        return [tables.key_of(row) for row in await self._report(sql, arguments)]

    async def list_teams(self, query: PageQuery) -> list[TeamRecord]:
        """A page of the teams that are there, in the order in which they were made."""
        sql, arguments = teams_of(query)
        return [tables.team_of(row) for row in await self._report(sql, arguments)]

    async def members(self) -> dict[str, int]:
        """How many keys that are not revoked each team (by id) has; "" is no team."""
        return dict(await self._report(MEMBERS))

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
        rows = await self._report(ACTS, [_or_ever(before), limit])
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
        with suppress(StoreUnavailable):
            await self._write_times()
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

    async def _report(self, sql: str, arguments: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """What a statement in PostgreSQL's words finds; it may take its time."""
        text = _numbered(sql)
        return await self._reports.run(lambda connection: _all(connection, text, arguments))

    async def _write(
        self, work: Callable[[sqlite3.Connection], T], after: Callable[[T], None] | None = None
    ) -> T:
        """Do work in a transaction; `after` is told, in the same thread, when it has succeeded."""

        def in_transaction(connection: sqlite3.Connection) -> T:
            # A transaction that fails ends with its connection.
            connection.execute("BEGIN IMMEDIATE")
            done = work(connection)
            connection.execute("COMMIT")
            if after is not None:
                after(done)
            return done

        return await self._file.run(in_transaction)

    async def _write_times(self) -> None:
        def work(connection: sqlite3.Connection) -> None:
            _add_times(connection, (self._times,))

        def after(_: None) -> None:
            self._times = Times()

        if self._times:
            await self._write(work, after)


def _append(
    connection: sqlite3.Connection, rows: Sequence[LedgerRow], bodies: Sequence[Bodies]
) -> Groups:
    """Those of the rows that were new."""
    known = "ON CONFLICT (at, request_id) DO NOTHING"
    connection.execute("SAVEPOINT rows")
    new = _insert(connection, "relay_ledger", tables.LEDGER, rows, known)
    if new != len(rows):  # some are there already: which ones?
        connection.execute("ROLLBACK TO rows")
        rows = [
            row for row in rows if _insert(connection, "relay_ledger", tables.LEDGER, [row], known)
        ]
    connection.execute("RELEASE rows")
    groups = by_group(rows)
    for roll_up, sums in summed(groups).items():
        _insert(connection, roll_up.table, SUMS, sums, ADD)
    _insert(connection, "relay_bodies", tables.BODIES, bodies, known)
    return groups


_KNOWN_SUM = f"ON CONFLICT ({', '.join(SUMS[:GROUP_COLUMNS])}) DO UPDATE SET "
ADD = _KNOWN_SUM + ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS[GROUP_COLUMNS:])
ADD_TIMES = _KNOWN_SUM + ", ".join(
    f"{name} = coalesce({name} + excluded.{name}, {name}, excluded.{name})"
    for name in histograms.COLUMNS
)


def _add_times(connection: sqlite3.Connection, times: Iterable[Times]) -> None:
    for some in times:
        for roll_up in ROLL_UPS:
            _insert(connection, roll_up.table, COLUMNS, some.sums(roll_up), ADD_TIMES)


def _insert(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    conflict: str,
) -> int:
    """How many rows were put in, or changed."""
    changed = 0
    for chunk in chunks(rows, CHUNKS):
        sql = _insertion(table, tuple(columns), len(chunk), conflict)
        changed += connection.execute(sql, list(chain.from_iterable(chunk))).rowcount
    return changed


@lru_cache(maxsize=64)
def _insertion(table: str, columns: tuple[str, ...], rows: int, conflict: str) -> str:
    """The same text each time: it is some kilobytes, by which its statement is found again."""
    one = f"({', '.join('?' * len(columns))})"
    values = ", ".join([one] * rows)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {values} {conflict}"  # noqa: S608 - names of ours


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


def _select(table: str, columns: Sequence[str], which: str = "revision > ?") -> str:
    return f"SELECT {', '.join(columns)} FROM {table} WHERE {which} ORDER BY revision"  # noqa: S608 - names of ours


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
