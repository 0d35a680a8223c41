"""Which keys or teams make a page: those behind a place in an index, however many there are.

The order is that in which they were made; those of one moment go by their ids. Who goes on after
one of them misses none and sees none twice, whatever is made, changed or revoked meanwhile.

No I/O: statements in PostgreSQL's words.
"""

from typing import Any

from relay.stores import tables
from relay.stores.records import KeyQuery, PageQuery

MEMBERS = "SELECT team_id, count(*) FROM relay_keys WHERE revoked_at IS NULL GROUP BY team_id"
"""How many keys each team has."""

ACTS = (
    f"SELECT {', '.join(tables.ACTS)} FROM relay_acts"  # noqa: S608 - names of ours
    " WHERE at < $1 ORDER BY at DESC, id DESC LIMIT $2"
)
"""A page of the acts, the latest first."""


def keys_of(query: KeyQuery, contains: str) -> tuple[str, list[Any]]:
    """The statement that reads a page of keys, columns as `tables.KEYS` names them.

    `contains` says in the database's words that a column, {0}, has the text {1} in it, whatever the
    case of ASCII letters; that text is in lower case.
    """
    where, arguments = _after(query)
    if query.team_id is not None:
        arguments.append(query.team_id)
        where.append(f"team_id = ${len(arguments)}")
    if query.status is not None:
        where.append(
            "revoked_at IS NOT NULL" if query.status == "revoked" else "revoked_at IS NULL"
        )
    if query.status in ("active", "expired"):
        arguments.append(query.now)
        ended = f"expires_at <= ${len(arguments)}"
        where.append(ended if query.status == "expired" else f"({ended}) IS NOT TRUE")
    if query.text is not None:
        arguments.append(query.text.encode().lower().decode())  # ASCII letters only
        text = f"${len(arguments)}"
        has = [contains.format(column, text) for column in ("name", "id", "prefix")]
        team = contains.format("name", text)
        has.append(f"team_id IN (SELECT id FROM relay_teams WHERE {team})")  # noqa: S608 - names of ours
        where.append(f"({' OR '.join(has)})")
    return _select("relay_keys", tables.KEYS, where, query), arguments


def teams_of(query: PageQuery) -> tuple[str, list[Any]]:
    """The same for teams, without those that were deleted."""
    where, arguments = _after(query)
    return _select("relay_teams", tables.TEAMS, [*where, "deleted_at IS NULL"], query), arguments


def _after(query: PageQuery) -> tuple[list[str], list[Any]]:
    if query.after is None:
        return [], []
    side = "<" if query.newest_first else ">"
    return [f"(created_at, id) {side} ($1, $2)"], list(query.after)


def _select(table: str, columns: tuple[str, ...], where: list[str], query: PageQuery) -> str:
    which = f"WHERE {' AND '.join(where)}" if where else ""
    order = "DESC" if query.newest_first else "ASC"
    return (
        f"SELECT {', '.join(columns)} FROM {table} {which}"  # noqa: S608 - names of ours
        f" ORDER BY created_at {order}, id {order} LIMIT {int(query.limit)}"
    )
