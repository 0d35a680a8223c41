"""A PostgreSQL's tables, for copying them."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import asyncpg

from relay.stores.postgres_pool import CLOSE_S, CONNECT_S, failures_told, revision_in
from relay.stores.schema import VERSION_TABLE
from relay.stores.sqlite_tables import on_conflict
from relay.stores.url import StoreUrl

if TYPE_CHECKING:
    from relay.stores.copying import Table


class PostgresTables:
    """See `copying.Tables`."""

    def __init__(self, where: StoreUrl) -> None:
        self._where = where
        self._types: dict[str, dict[str, str]] = {}
        self._connection: Any = None

    async def __aenter__(self) -> Self:
        async with failures_told(self._where):
            self._connection = await asyncpg.connect(self._where.dsn, timeout=CONNECT_S)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        async with failures_told(self._where):
            await self._connection.close(timeout=CLOSE_S)

    async def revision(self) -> str | None:
        """What the database says of its version."""
        async with failures_told(self._where):
            return await revision_in(self._connection)

    async def set_revision(self, revision: str) -> None:
        """Have it say something else."""
        await self._run(f"UPDATE {VERSION_TABLE} SET version_num = $1", revision)  # noqa: S608 - a name of ours

    async def freeze(self) -> None:
        """Begin a transaction, and with it what is seen."""
        await self._run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await self.revision()

    async def count(self, table: "Table") -> int:
        """How many rows it has."""
        ((number,),) = await self._run(f"SELECT count(*) FROM {table.name}")  # noqa: S608 - names of ours
        return int(number)

    async def page(self, table: "Table", after: Sequence[Any] | None) -> Sequence[Sequence[Any]]:
        """The rows with the next keys."""
        key = ", ".join(table.key)
        places = ", ".join(f"${place}" for place in range(1, len(table.key) + 1))
        where = f"WHERE ({key}) > ({places})" if after else ""
        return await self._run(
            f"SELECT {', '.join(table.columns)} FROM {table.name} {where}"  # noqa: S608 - names of ours
            f" ORDER BY {key} LIMIT {table.page}",
            *(after or ()),
        )

    async def put(self, table: "Table", rows: Sequence[Sequence[Any]]) -> None:
        """Put rows in."""
        types = await self._types_of(table)
        kinds = [types[name] for name in table.columns]
        arrays = ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(kinds, 1))
        columns = zip(*rows, strict=True)
        await self._run(
            f"INSERT INTO {table.name} ({', '.join(table.columns)})"  # noqa: S608 - names of ours
            f" SELECT * FROM unnest({arrays})"
            f" ON CONFLICT ({', '.join(table.key)}) {on_conflict(table)}",
            *(
                [_value(kind, value) for value in column]
                for kind, column in zip(kinds, columns, strict=True)
            ),
        )

    async def _types_of(self, table: "Table") -> dict[str, str]:
        if table.name not in self._types:
            self._types[table.name] = dict(
                await self._run(
                    "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
                    " WHERE attrelid = to_regclass($1) AND attnum > 0",
                    table.name,
                )
            )
        return self._types[table.name]

    async def _run(self, sql: str, *arguments: Any) -> list[Any]:
        async with failures_told(self._where):
            return list(await self._connection.fetch(sql, *arguments))


def _value(kind: str, value: Any) -> Any:
    """What SQLite holds, as PostgreSQL takes it."""
    if kind == "boolean" and value is not None:
        return bool(value)
    if kind == "text" and value is not None and "\0" in value:
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return value
