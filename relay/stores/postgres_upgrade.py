"""Bringing a PostgreSQL to this version, under an advisory lock."""

import asyncpg

from relay.stores.postgres_pool import CLOSE_S, CONNECT_S, failures_told, revision_in
from relay.stores.schema import State, state_of
from relay.stores.upgrade import script_for
from relay.stores.url import StoreUrl

LOCK = 0x72656C6179
"""The number of the advisory lock: "relay". Whoever waits for it finds the work done."""


async def look(where: StoreUrl) -> State:
    """What the database is now.

    Raises:
        StoreUnavailable: it cannot be reached or read.
    """
    async with failures_told(where):
        connection = await asyncpg.connect(where.dsn, timeout=CONNECT_S)
        try:
            return state_of(await revision_in(connection))
        finally:
            await connection.close(timeout=CLOSE_S)


async def prepare(where: StoreUrl) -> State:
    """Bring the database to this version; gives what it was before.

    Raises:
        StoreUnavailable: it cannot be reached or written, or is of a newer version.
    """
    async with failures_told(where):
        connection = await asyncpg.connect(where.dsn, timeout=CONNECT_S)
        try:
            state = state_of(await revision_in(connection))
            if state == "current":
                return state
            await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
            revision = await revision_in(connection)
            script = await script_for("postgres", where.shown, revision)
            if script is not None:
                async with connection.transaction():
                    await connection.execute(script)
            return state_of(revision)
        finally:
            await connection.close(timeout=CLOSE_S)  # the lock goes with it
