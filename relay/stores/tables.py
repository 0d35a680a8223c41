"""The tables' columns, and the records as the tuples that those hold.

    relay_ledger   LedgerRow      relay_hours, relay_days   what the rows of each come to
    relay_bodies   Bodies         relay_totals              the same, of all keys together
    relay_keys     KeyRecord      relay_acts                Audit
    relay_teams    TeamRecord     relay_marks               the last revision; since when
                                                            all rows are there

What is a list or a table in Python is JSON text here, so that both databases hold the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from relay.stores.records import Audit, Bodies, KeyRecord, LedgerRow, TeamRecord
from relay.types import Limits

LEDGER = LedgerRow._fields
BODIES = Bodies._fields
KEYS = (
    "id",
    "name",
    "digest",
    "prefix",
    "created_at",
    "revision",
    "team_id",
    "models",
    "limits",
    "expires_at",
    "revoked_at",
    "previous_digest",
    "previous_until",
    "origins",
    "networks",
    "keep_bodies",
    "metadata",
    "last_used_at",
)
TEAMS = ("id", "name", "created_at", "revision", "models", "limits", "metadata", "deleted_at")
ACTS = ("at", "id", "act", "subject", "source", "detail")

_KEYS_JSON = ("models", "origins", "networks")


def key_row(key: KeyRecord) -> tuple[Any, ...]:
    """A key in the order of `KEYS`."""
    values = {name: getattr(key, name) for name in KEYS}
    values |= {name: _dump_list(values[name]) for name in _KEYS_JSON}
    values["limits"] = _dump_limits(key.limits)
    values["metadata"] = _dump(key.metadata)
    return tuple(values.values())


def key_of(row: Sequence[Any]) -> KeyRecord:
    """The key in such a row."""
    values = dict(zip(KEYS, row, strict=True))
    values |= {name: _list_of(values[name]) for name in _KEYS_JSON}
    values["limits"] = _limits_of(values["limits"])
    values["metadata"] = json.loads(values["metadata"])
    values["keep_bodies"] = bool(values["keep_bodies"])
    return KeyRecord(**values)


def team_row(team: TeamRecord) -> tuple[Any, ...]:
    """A team in the order of `TEAMS`."""
    values = {name: getattr(team, name) for name in TEAMS}
    values["models"] = _dump_list(team.models)
    values["limits"] = _dump_limits(team.limits)
    values["metadata"] = _dump(team.metadata)
    return tuple(values.values())


def team_of(row: Sequence[Any]) -> TeamRecord:
    """The team in such a row."""
    values = dict(zip(TEAMS, row, strict=True))
    values["models"] = _list_of(values["models"])
    values["limits"] = _limits_of(values["limits"])
    values["metadata"] = json.loads(values["metadata"])
    return TeamRecord(**values)


def act_row(act: Audit, id_: str) -> tuple[Any, ...]:
    """An act in the order of `ACTS`; `id_` tells those of one moment apart."""
    return (act.at, id_, act.act, act.subject, act.source, _dump(act.detail))


def act_of(row: Sequence[Any]) -> Audit:
    """The act in such a row."""
    at, _, act, subject, source, detail = row
    return Audit(at=at, act=act, subject=subject, source=source, detail=json.loads(detail))


def ledger_row_of(row: Sequence[Any]) -> LedgerRow:
    """The request in a row of `LEDGER`; SQLite gives numbers for truth values."""
    request = LedgerRow(*row)
    return request._replace(stream=bool(request.stream), estimated=bool(request.estimated))


def _dump(value: object) -> str:
    # ASCII only: PostgreSQL takes no NUL, and neither database half a surrogate pair.
    return json.dumps(value, separators=(",", ":"), default=dict)


def _dump_list(value: tuple[str, ...] | None) -> str | None:
    return None if value is None else _dump(value)


def _list_of(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))


def _dump_limits(limits: Limits) -> str:
    unlimited: Mapping[str, Any] = asdict(Limits())
    given = {name: value for name, value in asdict(limits).items() if value != unlimited[name]}
    return _dump(given)


def _limits_of(text: str) -> Limits:
    return Limits(**json.loads(text))
