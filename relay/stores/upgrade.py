"""Bringing a database to this version: under its lock, so that any number may try at once.

empty     the current tables, from a file beside this one
older     the statements that alembic writes, in a child process
current   nothing
newer     nothing, and an error; likewise for half a copy
"""

import asyncio
import sqlite3
import sys
from importlib import import_module
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from relay.stores.opening import check_driver
from relay.stores.schema import State, current_tables, refusal, state_of
from relay.stores.sqlite_file import open_file, revision_in, run_script, unavailable
from relay.stores.unavailable import StoreUnavailable
from relay.stores.url import StoreUrl, parse_store_url

RENDER_S = 60.0
"""Time limit of the child process."""

_DIALECTS = {"sqlite": "sqlite", "postgres": "postgresql"}


async def prepare(url: str) -> State:
    """Bring the database to this version; gives what it was before.

    Raises:
        StoreUnavailable: it cannot be reached or written, or is of a newer version.
        ValueError: as of `open_store`.
    """
    where = parse_store_url(url)
    check_driver(where)
    if where.kind == "sqlite":
        return await _prepare_sqlite(where)
    state: State = await import_module("relay.stores.postgres_upgrade").prepare(where)
    return state


async def look(url: str) -> State:
    """What the database is now; makes and changes nothing.

    Raises:
        StoreUnavailable: it cannot be reached or read.
        ValueError: as of `open_store`.
    """
    where = parse_store_url(url)
    check_driver(where)
    if where.kind == "sqlite":
        return state_of(await asyncio.to_thread(_look, where.path))
    state: State = await import_module("relay.stores.postgres_upgrade").look(where)
    return state


async def missing_statements(kind: Literal["sqlite", "postgres"], revision: str) -> str:
    """The SQL from that revision to this version's; takes about a second.

    Raises:
        StoreUnavailable: the child process failed.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay.stores.migrations", _DIALECTS[kind], revision),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(child.communicate(), RENDER_S)
    except BaseException:
        child.kill()
        await child.wait()
        raise
    if child.returncode != 0:
        last = err.decode(errors="replace").strip().splitlines()[-1:]
        raise StoreUnavailable(f"The database could not be brought up to date: {''.join(last)}")
    return out.decode()


async def script_for(
    kind: Literal["sqlite", "postgres"], shown: str, revision: str | None
) -> str | None:
    """What has to be run on a database of that revision; None for nothing.

    Raises:
        StoreUnavailable: it is newer or half a copy, or the statements cannot be had.
    """
    state = state_of(revision)
    if state in ("newer", "unfinished"):
        raise StoreUnavailable(refusal(shown, state))
    if state == "current":
        return None
    if revision is None:
        return current_tables(kind)
    return await missing_statements(kind, revision)


async def _prepare_sqlite(where: StoreUrl) -> State:
    while True:
        revision = await asyncio.to_thread(_revision, where.path)
        script = await script_for("sqlite", where.shown, revision)
        # Written before the lock is taken: nobody waits for a child process.
        if script is None or await asyncio.to_thread(_run, where.path, revision, script):
            return state_of(revision)


def _look(path: str) -> str | None:
    if not Path(path).exists():
        return None
    try:
        connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)
        try:
            return revision_in(connection)
        finally:
            connection.close()
    except sqlite3.Error as exc:
        raise unavailable(path, exc) from exc


def _revision(path: str) -> str | None:
    try:
        connection = open_file(path)
        try:
            return revision_in(connection)
        finally:
            connection.close()
    except sqlite3.Error as exc:
        raise unavailable(path, exc) from exc


def _run(path: str, revision: str | None, script: str) -> bool:
    """Whether the database still was of that revision, and the script has run."""
    try:
        connection = open_file(path)
        try:
            connection.execute("BEGIN IMMEDIATE")
            if revision_in(connection) != revision:
                return False
            run_script(connection, script)
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.Error as exc:
        raise unavailable(path, exc) from exc
    return True
