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


def test_a_key_in_place_of_a_name_is_not_kept() -> None:
    key = "sk-canary-0123456789"
    fields = {name: f"its {name}" for name in RequestEnded._fields}
    wrong = RequestEnded(**{**fields, "model": key, "served": key, "path": f"/v1/files/{key}"})  # type: ignore[arg-type]
    right = RequestEnded(**fields)  # type: ignore[arg-type]
    row, other = as_rows([wrong, right])
    assert key not in str(row)
    assert (row.model_asked, row.path) == ("[redacted]", "/v1/files/[redacted]")
    assert other.model_asked == "its model"
