"""An SQLite file's tables, for copying them."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from relay.stores.schema import VERSION_TABLE
from relay.stores.sqlite_file import open_file, revision_in, unavailable

if TYPE_CHECKING:
    from relay.stores.copying import Table

T = TypeVar("T")


class SqliteTables:
    """See `copying.Tables`. One connection, used by one thread after the other."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection

    async def __aenter__(self) -> Self:
        self._connection = await self._told(lambda: open_file(self._path, one_thread=False))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self._connection.close)

    async def revision(self) -> str | None:
        """What the database says of its version."""
        return await self._told(lambda: revision_in(self._connection))

    async def set_revision(self, revision: str) -> None:
        """Have it say something else."""
        await self._run(f"UPDATE {VERSION_TABLE} SET version_num = ?", [revision])  # noqa: S608 - a name of ours

    async def freeze(self) -> None:
        """Begin a transaction, and with it what is seen."""
        await self._run("BEGIN")
        await self.revision()

    async def count(self, table: "Table") -> int:
        """How many rows it has."""
        ((number,),) = await self._run(f"SELECT count(*) FROM {table.name}")  # noqa: S608 - names of ours
        return int(number)

    async def page(self, table: "Table", after: Sequence[Any] | None) -> Sequence[Sequence[Any]]:
        """The rows with the next keys."""
        key = ", ".join(table.key)
        where = f"WHERE ({key}) > ({', '.join('?' * len(table.key))})" if after else ""
        return await self._run(
            f"SELECT {', '.join(table.columns)} FROM {table.name} {where}"  # noqa: S608 - names of ours
            f" ORDER BY {key} LIMIT {table.page}",
            after or (),
        )

    async def put(self, table: "Table", rows: Sequence[Sequence[Any]]) -> None:
        """Put rows in."""
        values = ", ".join("?" * len(table.columns))
        sql = (
            f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({values})"  # noqa: S608 - names of ours
            f" ON CONFLICT ({', '.join(table.key)}) {on_conflict(table)}"
        )

        def work() -> None:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(sql, rows)
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

        await self._told(work)

    async def _run(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return await self._told(lambda: self._connection.execute(sql, arguments).fetchall())

    async def _told(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except sqlite3.Error as exc:
            raise unavailable(self._path, exc) from exc


def on_conflict(table: "Table") -> str:
    """What becomes of a row that is there already."""
    if not table.changes:
        return "DO NOTHING"
    others = [name for name in table.columns if name not in table.key]
    return f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in others)}"
