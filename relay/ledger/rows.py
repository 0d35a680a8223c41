"""What ended, as rows of the ledger: what is none yet loses what the ledger does not keep.

What the client chose (the name of a model, a path) may hold a key that was put into a wrong place.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from operator import itemgetter

from relay.ledger.off import Ended
from relay.ledger.redaction import without_keys
from relay.stores import LedgerRow

_KEPT = itemgetter(slice(len(LedgerRow._fields)))
_ROW = partial(tuple.__new__, LedgerRow)
"""`LedgerRow._make`, without counting again."""


_CHOSEN = [
    itemgetter(LedgerRow._fields.index(name)) for name in ("path", "model_asked", "model_served")
]
"""Of these there are few different ones among many rows."""


def as_rows(ended: Iterable[Ended]) -> Sequence[LedgerRow]:
    """The rows of requests."""
    rows = [one if isinstance(one, LedgerRow) else _ROW(_KEPT(one)) for one in ended]
    chosen = {text for column in _CHOSEN for text in set(map(column, rows))}
    if all(text == without_keys(text) for text in chosen):
        return rows
    return [
        row._replace(
            path=without_keys(row.path),
            model_asked=without_keys(row.model_asked),
            model_served=without_keys(row.model_served),
        )
        for row in rows
    ]
