"""One SQLite file, reached from one thread: opened when needed, and anew after each failure."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from relay.stores.schema import VERSION_TABLE, State, current_tables, refusal, state_of
from relay.stores.unavailable import StoreUnavailable

T = TypeVar("T")

BUSY_S = 5.0
"""How long another process may hold the file before it counts as locked."""

CACHE_KIB = 8192

PAGE_BYTES = 16_384
"""Four times the usual: a page is three system calls, and rows are written one behind the other. So
each costs 0.7 us of CPU less; reports take the same time."""

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_NO_ROOM_BESIDE = (sqlite3.SQLITE_READONLY_DIRECTORY, sqlite3.SQLITE_CANTOPEN)

_REASONS = {
    sqlite3.SQLITE_READONLY: "is read-only: let the relay write to it and to its folder",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full",
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked by another process",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk fails or is full",
    sqlite3.SQLITE_CORRUPT: "is damaged: put a copy in its place",
    sqlite3.SQLITE_NOTADB: "is something else than an SQLite database",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: its folder has to be there, and writable",
}


class SqliteFile:
    """Gives work to a thread of its own, with a connection in autocommit mode."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="relay-store")
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` gives for a connection to a database of this version.

        Work that was begun is finished, also when nobody waits for it any more.

        Raises:
            StoreUnavailable: it cannot be opened, read or written, or it is of another version.
        """
        if self._closed:
            raise StoreUnavailable(f"The database {self._path} is closed.")
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._try, work)

    async def aclose(self) -> None:
        """Close the connection, and end the thread."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close)
        self._executor.shutdown(wait=False)

    def _try(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._ready())
        except sqlite3.Error as exc:
            self._close()
            code = getattr(exc, "sqlite_errorcode", 0)
            if code in _NO_ROOM_BESIDE and (connection := frozen(self._path)):
                return self._try_frozen(connection, work)
            raise unavailable(self._path, exc) from exc
        except BaseException:
            self._close()
            raise

    def _try_frozen(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]
    ) -> T:
        try:
            check_version(connection, self._path)
            return work(connection)
        except sqlite3.Error as exc:
            raise unavailable(self._path, exc) from exc
        finally:
            connection.close()

    def _ready(self) -> sqlite3.Connection:
        if self._connection is not None and self._identity == _identity(self._path):
            return self._connection
        self._close()  # somebody has put another file there, or none
        connection = open_file(self._path)
        try:
            if state_in(connection) == "empty":
                make_tables(connection)
            check_version(connection, self._path)
        except BaseException:
            connection.close()
            raise
        self._connection, self._identity = connection, _identity(self._path)
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def open_file(path: str, *, one_thread: bool = True) -> sqlite3.Connection:
    """A connection in autocommit mode, with a write-ahead log.

    Raises:
        sqlite3.Error: it cannot be had.
    """
    _create(Path(path))
    _take_as_they_are()
    connection = sqlite3.connect(
        path, timeout=BUSY_S, isolation_level=None, check_same_thread=one_thread
    )
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a file that is new
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection


def _take_as_they_are() -> None:
    """Have `sqlite3` bind None and truth values without asking them how.

    It asks each value that is no number and no text, by three attributes that nobody has: 1 us for
    each None of a row. What is bound is the same.
    """
    sqlite3.register_adapter(type(None), {None: None}.get)
    sqlite3.register_adapter(bool, int)


def frozen(path: str) -> sqlite3.Connection | None:
    """A connection that only reads, for a file in a folder that nobody here can write to.

    SQLite wants to write beside the file even to read it. That is left out where it cannot be,
    and where no log is there that would have to be read as well.
    """
    file, log = Path(path), Path(f"{path}-wal")
    if not file.is_file() or log.exists():
        return None
    return sqlite3.connect(
        f"file:{quote(path)}?mode=ro&immutable=1", uri=True, isolation_level=None
    )


def state_in(connection: sqlite3.Connection) -> State:
    """Of which version the database is."""
    return state_of(revision_in(connection))


def revision_in(connection: sqlite3.Connection) -> str | None:
    """What the database says of its version; None when it has no tables of ours."""
    there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    if connection.execute(there, (VERSION_TABLE,)).fetchone() is None:
        return None
    row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608 - a name of ours
    return None if row is None else str(row[0])


def check_version(connection: sqlite3.Connection, path: str) -> None:
    """Raises StoreUnavailable where this version neither reads nor writes."""
    if (state := state_in(connection)) != "current":
        raise StoreUnavailable(refusal(path, state))


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the current tables, unless another process just did."""
    connection.execute("BEGIN IMMEDIATE")
    if state_in(connection) == "empty":
        run_script(connection, current_tables("sqlite"))
    connection.execute("COMMIT")


def run_script(connection: sqlite3.Connection, script: str) -> None:
    """Run statements within the open transaction; `executescript` would end it first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""


def primary_code(exc: sqlite3.Error) -> int:
    """The kind of an error; 0 when SQLite itself knows nothing of it."""
    return int(getattr(exc, "sqlite_errorcode", 0)) & 0xFF


def unavailable(path: str, exc: sqlite3.Error) -> StoreUnavailable:
    """An error as a sentence. SQLite's own texts may hold values, so only its codes are told."""
    name = getattr(exc, "sqlite_errorname", type(exc).__name__)
    reason = _REASONS.get(primary_code(exc), "cannot be used")
    return StoreUnavailable(f"The database {path} {reason} ({name}).")


def _create(path: Path) -> None:
    """An empty file that nobody else may read; it will hold what people have asked."""
    with suppress(OSError):  # it is there already, or SQLite says why it cannot be
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Have changes logged, so that readers and one writer do not wait for each other.

    SQLite does not wait here when another process is about to do the same.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as exc:
            if primary_code(exc) == sqlite3.SQLITE_READONLY:
                return  # it can still be read
            if primary_code(exc) not in _BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
