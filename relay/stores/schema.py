"""Which tables a database has: told by the plain driver, without the migrations' library.

empty        nothing of ours: the tables are made at once, from sqlite.sql or postgres.sql
current      what this version reads and writes
older        to be brought up to date (migrations/)
newer        a newer relay's: it is left alone
unfinished   somebody is copying into it, or did not finish (copying.py): it is left alone
"""

from pathlib import Path
from typing import Literal

VERSION_TABLE = "relay_version"

KNOWN = ("0001", "0002", "0003", "0004")
"""The revisions of `migrations/versions/`, the oldest first."""

UNFINISHED = "unfinished"
"""In the place of a revision: a copy into this database has begun."""

State = Literal["empty", "older", "current", "newer", "unfinished"]


def state_of(revision: str | None) -> State:
    """What a database is that says that of itself."""
    if revision is None:
        return "empty"
    if revision == UNFINISHED:
        return "unfinished"
    if revision == KNOWN[-1]:
        return "current"
    return "older" if revision in KNOWN else "newer"


def current_tables(kind: Literal["sqlite", "postgres"]) -> str:
    """The SQL that makes the tables of this version, and says so."""
    return Path(__file__).with_name(f"{kind}.sql").read_text(encoding="utf-8")


def refusal(shown: str, state: State) -> str:
    """Why a database in that state is not used."""
    if state == "newer":
        return (
            f"The database {shown} was written by a newer relay: use that version or a newer one."
        )
    if state == "older":
        return f"The database {shown} is of an older relay: run `relay db upgrade`."
    if state == "unfinished":
        return f"The database {shown} is half a copy: run the same `relay db copy` to its end."
    return f"The database {shown} has no tables yet: run `relay db upgrade`."
