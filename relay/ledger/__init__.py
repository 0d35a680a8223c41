"""What was asked, by whom, of whom, and what it cost: one row for each request.

    RequestEnded --rows.py--> LedgerRow --ledger.py: queue, one task--> Store.append
    admin API, `relay usage` --report.py--> Store.usage, Store.recent
    bodies, where a key's policy asks for them --redaction.py--> with them

No request waits for the disk. While the store is away the rows wait here; when there are too many,
requests wait a little, and then rows are lost, which is counted and logged.
"""

from relay.ledger.ledger import Ledger, Pricing
from relay.ledger.off import NO_LEDGER, Book, NoLedger
from relay.ledger.redaction import Redact, load_redactor
from relay.ledger.report import (
    key_names,
    read_page,
    read_query,
    requests_report,
    usage_report,
)
from relay.ledger.rows import as_rows

__all__ = [
    "NO_LEDGER",
    "Book",
    "Ledger",
    "NoLedger",
    "Pricing",
    "Redact",
    "as_rows",
    "key_names",
    "load_redactor",
    "read_page",
    "read_query",
    "requests_report",
    "usage_report",
]
