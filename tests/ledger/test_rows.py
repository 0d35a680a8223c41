"""What ended begins as its row of the ledger does."""

from relay.events import RequestEnded
from relay.ledger import as_rows
from relay.stores import LedgerRow

OTHER_NAMES = {"model": "model_asked", "served": "model_served", "target": "upstream"}


def test_what_ended_has_the_columns_of_the_ledger_in_their_order() -> None:
    names = [OTHER_NAMES.get(name, name) for name in RequestEnded._fields]
    assert names == [*LedgerRow._fields, "method", "usage"]


def test_a_row_is_what_ended_less_what_is_not_kept() -> None:
    fields = {name: f"its {name}" for name in RequestEnded._fields}
    (row,) = as_rows([RequestEnded(**fields)])  # type: ignore[arg-type]
    assert type(row) is LedgerRow
    assert row.upstream == "its target"
    assert row.duration_s == "its duration_s"
