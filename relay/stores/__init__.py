"""What outlives the process, behind one protocol: SQLite or PostgreSQL.

Nothing here is awaited by a request: keys are read into memory, rows are written in batches.

    opening.py: a URL --> sqlite.py --> sqlite_file.py
                      `-> postgres.py --> postgres_pool.py

    protocol.py, records.py              what a store is to others
    tables.py, sums.py, histograms.py,
    searching.py, paging.py, fitting.py  what is the same in both databases
    grouped.py                           what a batch comes to, for SQLite and for the counters
    schema.py, migrations/, upgrade.py   which tables there are, and how they come to be
"""

from relay.stores.grouped import by_group, grouped
from relay.stores.opening import open_post, open_store, open_word
from relay.stores.protocol import Store
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
from relay.stores.superseded import Superseded
from relay.stores.unavailable import StoreUnavailable
from relay.stores.upgrade import look, prepare

__all__ = [
    "Audit",
    "Bodies",
    "KeyQuery",
    "KeyRecord",
    "LedgerRow",
    "PageQuery",
    "RowPage",
    "RowQuery",
    "Store",
    "StoreUnavailable",
    "Superseded",
    "TeamRecord",
    "UsageQuery",
    "UsageSum",
    "by_group",
    "grouped",
    "look",
    "open_post",
    "open_store",
    "open_word",
    "prepare",
]
