"""Reads what a relay has kept in its SQLite file."""

import sqlite3
from contextlib import closing
from pathlib import Path

from running import RunningRelay

from relay.stores import LedgerRow


def rows(path: Path) -> list[LedgerRow]:
    """The ledger, the earliest request first; nothing while there is no table."""
    columns = ", ".join(LedgerRow._fields)
    with closing(sqlite3.connect(path, timeout=20)) as database:
        there = "SELECT 1 FROM sqlite_master WHERE name = 'relay_ledger'"
        if database.execute(there).fetchone() is None:
            return []
        found = database.execute(f"SELECT {columns} FROM relay_ledger ORDER BY at")
        return [LedgerRow(*row) for row in found]


def rows_of(relay: RunningRelay, path: Path) -> list[LedgerRow]:
    """The same of a relay in a thread, which ends: it writes all it has before."""
    relay.stop()
    return rows(path)


def url(path: Path) -> str:
    """The setting that names that file."""
    return f"sqlite:///{path}"
