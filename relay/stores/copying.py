"""Everything from one database into another, of either kind; the target is used when it is whole.

    read in one snapshot --pages, by primary key--> put in, once each

While it lasts, the target says in the place of its version that it is unfinished: no relay uses it.
What broke off is taken up by doing it again; rows that are there are passed by.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from relay.stores import tables
from relay.stores.opening import check_driver
from relay.stores.schema import KNOWN, UNFINISHED, refusal, state_of
from relay.stores.sqlite_tables import SqliteTables
from relay.stores.sums import COLUMNS, GROUP_COLUMNS, ROLL_UPS, SUMS
from relay.stores.unavailable import StoreUnavailable
from relay.stores.upgrade import prepare
from relay.stores.url import StoreUrl, parse_store_url


class CannotCopy(Exception):
    """One sentence: what is in the way of a copy, and what to do."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table, its primary key, how many rows make a page, and whether a row may change."""

    name: str
    columns: Sequence[str]
    key: Sequence[str]
    page: int = 5_000
    changes: bool = False


TABLES = (
    Table("relay_keys", tables.KEYS, ("id",), changes=True),
    Table("relay_teams", tables.TEAMS, ("id",), changes=True),
    Table("relay_acts", tables.ACTS, ("at", "id")),
    Table("relay_ledger", tables.LEDGER, ("at", "request_id")),
    Table("relay_bodies", tables.BODIES, ("at", "request_id"), page=10),  # of megabytes each
    *(Table(roll_up.table, COLUMNS, SUMS[:GROUP_COLUMNS], changes=True) for roll_up in ROLL_UPS),
    Table("relay_marks", ("name", "value"), ("name",), changes=True),
)

Progress = Callable[[str, int, int], None]
"""Is told a table's name, how many of its rows are done, and how many there are."""


class Tables(Protocol):
    """A database as one connection to its tables. Raises only `StoreUnavailable`."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def revision(self) -> str | None:
        """What the database says of its version; None when it has no tables of ours."""
        ...

    async def set_revision(self, revision: str) -> None:
        """Have it say something else."""
        ...

    async def freeze(self) -> None:
        """See from now on what is there now, whatever others write."""
        ...

    async def count(self, table: Table) -> int:
        """How many rows it has."""
        ...

    async def page(self, table: Table, after: Sequence[Any] | None) -> Sequence[Sequence[Any]]:
        """The rows with the next keys, in their order."""
        ...

    async def put(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """Put rows in; those whose key is there are passed by, or changed if such may change."""
        ...


async def copy(source: str, target: str, progress: Progress) -> dict[str, int]:
    """Copy all rows of all tables; gives how many there are, by table.

    Raises:
        CannotCopy: the target holds something else, or the source is no database of this version.
        StoreUnavailable: one of them cannot be reached, read or written.
        ValueError: as of `open_store`.
    """
    from_, to = parse_store_url(source), parse_store_url(target)
    if (from_.path, from_.dsn) == (to.path, to.dsn):
        raise CannotCopy("The source and the target are the same database.")
    if from_.kind == "sqlite" and not await asyncio.to_thread(Path(from_.path).is_file):
        raise CannotCopy(f"There is no file {from_.path}.")
    async with _open(from_) as reading:
        if (state := state_of(await reading.revision())) == "empty":
            raise CannotCopy(f"The database {from_.shown} is not a relay's.")
        if state != "current":
            raise StoreUnavailable(refusal(from_.shown, state))
        await reading.freeze()
        await _make_tables(target, to)
        async with _open(to) as writing:
            await _begin(writing, to)
            counts = {
                table.name: await _copy(reading, writing, table, progress) for table in TABLES
            }
            await writing.set_revision(KNOWN[-1])
    return counts


def _open(where: StoreUrl) -> Tables:
    if where.kind == "sqlite":
        return SqliteTables(where.path)
    check_driver(where)
    opened: Tables = import_module("relay.stores.postgres_tables").PostgresTables(where)
    return opened


async def _make_tables(url: str, where: StoreUrl) -> None:
    async with _open(where) as there:
        state = state_of(await there.revision())
    if state == "empty":
        await prepare(url)


async def _begin(writing: Tables, where: StoreUrl) -> None:
    """Mark the target as unfinished, if it is one."""
    state = state_of(await writing.revision())
    if state == "unfinished":
        return
    if state != "current":
        raise StoreUnavailable(refusal(where.shown, state))
    for table in TABLES[:-1]:
        if await writing.count(table):
            raise CannotCopy(f"The database {where.shown} holds something already: name a new one.")
    await writing.set_revision(UNFINISHED)


async def _copy(reading: Tables, writing: Tables, table: Table, progress: Progress) -> int:
    """One table; gives how many rows it has."""
    total, done = await reading.count(table), 0
    progress(table.name, done, total)
    places = [list(table.columns).index(name) for name in table.key]
    after: Sequence[Any] | None = None
    while rows := await reading.page(table, after):
        await writing.put(table, rows)
        after = [rows[-1][place] for place in places]
        done += len(rows)
        progress(table.name, done, total)
    if await writing.count(table) < total:
        raise CannotCopy(f"Not all of {table.name} has arrived: do it again with a new target.")
    return total
