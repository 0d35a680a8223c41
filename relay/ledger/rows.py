"""What ended, as rows of the ledger: the same tuples, less what the ledger does not keep."""

from collections.abc import Iterable
from functools import partial
from operator import itemgetter

from relay.events import RequestEnded
from relay.stores import LedgerRow

_KEPT = itemgetter(slice(len(LedgerRow._fields)))
_ROW = partial(tuple.__new__, LedgerRow)
"""`LedgerRow._make`, without counting again."""


def as_rows(ended: Iterable[RequestEnded]) -> Iterable[LedgerRow]:
    """The rows of requests."""
    return map(_ROW, map(_KEPT, ended))
