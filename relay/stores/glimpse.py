"""What a database shows at a glance: nothing is waited for, made or changed."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from relay.stores.url import parse_store_url

_HAS_TABLE = "SELECT count(*) FROM sqlite_master WHERE name = 'relay_keys'"
_HAS_KEYS = "SELECT EXISTS (SELECT 1 FROM relay_keys)"


def any_keys(url: str) -> bool | None:
    """Whether keys were ever made there; None where that takes a connection, or cannot be read.

    Raises:
        ValueError: as of `open_store`.
    """
    where = parse_store_url(url)
    if where.kind != "sqlite":
        return None
    if not Path(where.path).exists():
        return False
    try:
        file = f"file:{quote(where.path)}?mode=ro"
        with closing(sqlite3.connect(file, uri=True, timeout=0)) as connection:
            return all(connection.execute(sql).fetchone()[0] for sql in (_HAS_TABLE, _HAS_KEYS))
    except sqlite3.Error:
        return None
