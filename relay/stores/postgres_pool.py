"""Connections to one PostgreSQL: opened when needed, and anew after each failure."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from relay.stores.schema import VERSION_TABLE, refusal, state_of
from relay.stores.unavailable import StoreUnavailable
from relay.stores.url import StoreUrl

CONNECT_S = 5.0
COMMAND_S = 60.0
"""Time limits of a connection and of one statement."""

CLOSE_S = 2.0
"""How long open work may take when the pool closes."""

FAILURES = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    ValueError,
)
"""What the driver raises. Its `ValueError`s are about the URL."""

_REASONS: dict[type[Exception], str] = {
    asyncpg.InvalidAuthorizationSpecificationError: "refuses the user or the password",
    asyncpg.InvalidCatalogNameError: "is not there: create it first",
    asyncpg.CannotConnectNowError: "is starting or stopping",
    asyncpg.TooManyConnectionsError: "has no connection left: lower the pool size",
    asyncpg.ReadOnlySQLTransactionError: "is read-only: name the primary",
    asyncpg.DiskFullError: "cannot grow: its disk is full",
    asyncpg.InsufficientPrivilegeError: "does not give its user the right to that",
    asyncpg.QueryCanceledError: "took too long",
    asyncpg.PostgresConnectionError: "cannot be reached",
    asyncpg.AdminShutdownError: "is starting or stopping",
    asyncpg.exceptions.ClientConfigurationError: (
        "cannot be asked: is the rest of its URL right? sslmode=verify-full needs"
        " sslrootcert=FILE, the certificates that are trusted"
    ),
    asyncpg.InterfaceError: "cannot be reached",
    TimeoutError: "does not answer in time",
    FileNotFoundError: "cannot be reached: a file that its URL names is not there",
    OSError: "cannot be reached",
    ValueError: "cannot be asked: is the rest of its URL right?",
}
"""The first class that fits gives the reason."""


class PostgresPool:
    """At most `size` connections, each to a database of this version."""

    def __init__(self, where: StoreUrl, size: int) -> None:
        self._where = where
        self._size = size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """Entering waits for one of the connections; leaving gives it back.

        Raises:
            StoreUnavailable: it cannot be had, what was done with it has failed, or the database
                is of another version.
        """
        if self._closed:
            raise StoreUnavailable(f"The database {self._where.shown} is closed.")
        async with failures_told(self._where):
            pool = await self._open()
            async with pool.acquire(timeout=COMMAND_S) as connection:
                yield connection

    async def aclose(self) -> None:
        """Close the connections."""
        self._closed = True
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), CLOSE_S)
            except TimeoutError:
                self._pool.terminate()
            self._pool = None

    async def _open(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._where.dsn,
                    min_size=0,
                    max_size=self._size,
                    timeout=CONNECT_S,
                    command_timeout=COMMAND_S,
                    init=self._check_version,
                    server_settings={"application_name": "relay"},
                )
            return self._pool

    async def _check_version(self, connection: Any) -> None:
        if (state := state_of(await revision_in(connection))) != "current":
            raise StoreUnavailable(refusal(self._where.shown, state))


@asynccontextmanager
async def failures_told(where: StoreUrl) -> AsyncIterator[None]:
    """Turns what the driver raises within into a `StoreUnavailable`."""
    try:
        yield
    except FAILURES as exc:
        # Nothing of the driver's own text: it may hold values, or parts of the URL.
        reason = next((text for kind, text in _REASONS.items() if isinstance(exc, kind)), "failed")
        name = f"{type(exc).__name__} {getattr(exc, 'sqlstate', None) or ''}".strip()
        raise StoreUnavailable(f"The database {where.shown} {reason} ({name}).") from None


async def revision_in(connection: Any) -> str | None:
    """What the database says of its version; None when it has no tables of ours."""
    if await connection.fetchval("SELECT to_regclass($1)", VERSION_TABLE) is None:
        return None
    return await connection.fetchval(f"SELECT version_num FROM {VERSION_TABLE}")  # type: ignore[no-any-return]  # noqa: S608 - a name of ours
