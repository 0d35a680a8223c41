"""What a store does, whichever database is behind it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

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


class Store(Protocol):
    """Raises `StoreUnavailable`: the database cannot be reached, read or written."""

    async def append(self, rows: Sequence[LedgerRow], bodies: Sequence[Bodies] = ()) -> None:
        """Keep rows, once each: those whose request id and time are there already are passed by."""
        ...

    async def usage(self, query: UsageQuery) -> list[UsageSum]:
        """Sums over the ledger, from roll-ups wherever whole hours allow it."""
        ...

    async def recent(
        self, *, limit: int, before: float | None = None, key_id: str | None = None
    ) -> list[LedgerRow]:
        """The latest requests, newest first."""
        ...

    async def search(self, query: RowQuery) -> RowPage:
        """The latest requests of a kind, newest first; looks at a bounded number of rows."""
        ...

    async def spent(self, since: Mapping[str, float]) -> dict[str, int]:
        """Nano-dollars that each key or team (by id) has spent since its time."""
        ...

    async def keys(self, *, above: int = -1) -> list[KeyRecord]:
        """The keys of a higher revision than that, revoked ones as well."""
        ...

    async def key(self, key_id: str) -> KeyRecord | None:
        """The key of that id."""
        ...

    async def teams(self, *, above: int = -1) -> list[TeamRecord]:
        """The teams of a higher revision than that, deleted ones as well."""
        ...

    async def list_keys(self, query: KeyQuery) -> list[KeyRecord]:
        """A page of the keys, in the order in which they were made."""
        ...

    async def list_teams(self, query: PageQuery) -> list[TeamRecord]:
        """A page of the teams that are there, in the order in which they were made."""
        ...

    async def members(self) -> dict[str, int]:
        """How many keys that are not revoked each team (by id) has; "" is no team."""
        ...

    async def put_key(self, key: KeyRecord) -> KeyRecord:
        """Add it, or put it in the place of the one with its id; gives it with its new revision.

        Raises:
            Superseded: the one with its id is of another revision than `key.revision` by now.
        """
        ...

    async def put_team(self, team: TeamRecord) -> TeamRecord:
        """The same for a team."""
        ...

    async def touch(self, last_used: Mapping[str, float]) -> None:
        """When keys (by id) were last used; no new revision."""
        ...

    async def note(self, act: Audit) -> None:
        """Keep one act of the admin API."""
        ...

    async def acts(self, *, limit: int, before: float | None = None) -> list[Audit]:
        """The latest acts, newest first."""
        ...

    async def expire(self, *, rows_before: float, bodies_before: float) -> tuple[int, int]:
        """Remove what is older (roll-ups stay); how many rows and bodies those were."""
        ...

    async def aclose(self) -> None:
        """Give back every connection and thread."""
        ...
