"""What an operator does to the keys and teams of the database: making, changing, ending them.

Every change is read from the database and written to it, then it holds here at once, and in other
processes when they next read. What another replica has changed in between is read first, and the
change made anew on that: so nothing is lost, and a key that was revoked is never there again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from time import time
from typing import Any

from relay.errors import Conflict, InvalidRequest, RouteNotFound
from relay.keys.credential import PREFIX_CHARACTERS, digest, new_id, new_key
from relay.keys.spending import Spending, spending
from relay.keys.virtual import VirtualKeys
from relay.stores import (
    KeyQuery,
    KeyRecord,
    PageQuery,
    StoreUnavailable,
    Superseded,
    TeamRecord,
)

MOST_TRIES = 20
"""How often a change is made anew; each time another one of the same record has succeeded."""


class Changes:
    """Raises `StoreUnavailable` from everything: then nothing has changed."""

    def __init__(self, virtual: VirtualKeys) -> None:
        self._virtual = virtual
        self._store = virtual.store
        self._one_at_a_time = asyncio.Lock()

    async def list_keys(
        self, query: KeyQuery, *, after: str | None = None, team: str | None = None
    ) -> tuple[list[KeyRecord], bool]:
        """A page of the keys, and whether there are more behind it.

        `after` is the id of the last one of the page before, `team` the id or name of a team.

        Raises:
            InvalidRequest: one of those two is not there; `param` says which.
        """
        if after is not None:
            last = await self._store.key(after)
            query = replace(query, after=_place(last, "key", after))
        if team is not None:
            query = replace(query, team_id=await self._team_id(team))
        found = await self._store.list_keys(replace(query, limit=query.limit + 1))
        keys = [self._as_used(key) for key in found[: query.limit]]
        return keys, len(found) > query.limit

    async def key(self, key_id: str) -> KeyRecord:
        """The one of that id.

        Raises:
            RouteNotFound: there is none.
        """
        key = await self._store.key(key_id)
        if key is None:
            raise RouteNotFound(f"There is no key '{key_id}'.", param="id")
        return self._as_used(key)

    async def spending(self, records: Iterable[KeyRecord | TeamRecord]) -> dict[str, Spending]:
        """What those with budgets have spent, by their ids; of nobody while that cannot be read.

        So whoever has made a key is told of it in any case.
        """
        try:
            return await spending(self._store, records)
        except StoreUnavailable:
            return {}

    async def create_key(self, fields: dict[str, Any]) -> tuple[KeyRecord, str]:
        """A new key, and what it is called by: nobody will ever see that again.

        `fields` are those of a `KeyRecord`.

        Raises:
            InvalidRequest: its team is not there.
        """
        async with self._one_at_a_time:
            await self._resolve_team(fields)
            key = new_key()
            record = KeyRecord(
                id=new_id("key"),
                digest=digest(key.encode()),
                prefix=key[:PREFIX_CHARACTERS],
                created_at=time(),
                **fields,
            )
            return await self._put_key(record), key

    async def change_key(
        self, key_id: str, change: Callable[[KeyRecord], dict[str, Any]]
    ) -> KeyRecord:
        """The key with other fields, which `change` makes of how it is.

        Raises:
            RouteNotFound: it is not there.
            Conflict: it was revoked.
            InvalidRequest: its team is not there.
        """

        async def changed(record: KeyRecord) -> KeyRecord:
            fields = change(_living(record))
            await self._resolve_team(fields)
            return replace(record, **fields)

        return await self._rewrite_key(key_id, changed)

    async def revoke_key(self, key_id: str) -> KeyRecord:
        """The key, which opens nothing any more; revoking it again changes nothing."""

        async def revoked(record: KeyRecord) -> KeyRecord:
            return record if record.revoked_at is not None else replace(record, revoked_at=time())

        return await self._rewrite_key(key_id, revoked)

    async def rotate_key(self, key_id: str, *, grace_s: float) -> tuple[KeyRecord, str]:
        """The same key by another name; the one it had holds for `grace_s` more.

        Raises:
            RouteNotFound, Conflict: as `change_key`.
        """
        key = new_key()

        async def rotated(record: KeyRecord) -> KeyRecord:
            return replace(
                _living(record),
                digest=digest(key.encode()),
                prefix=key[:PREFIX_CHARACTERS],
                previous_digest=record.digest if grace_s else None,
                previous_until=time() + grace_s if grace_s else None,
            )

        return await self._rewrite_key(key_id, rotated), key

    async def list_teams(
        self, query: PageQuery, *, after: str | None = None
    ) -> tuple[list[TeamRecord], bool]:
        """A page of the teams, as `list_keys`."""
        if after is not None:
            last = next((team for team in await self._store.teams() if team.id == after), None)
            query = replace(query, after=_place(last, "team", after))
        found = await self._store.list_teams(replace(query, limit=query.limit + 1))
        return found[: query.limit], len(found) > query.limit

    async def members(self) -> dict[str, int] | None:
        """How many keys that are not revoked each team has, by its id; None as in `spending`."""
        try:
            return await self._store.members()
        except StoreUnavailable:
            return None

    async def teams(self) -> list[TeamRecord]:
        """Those that are there."""
        return [team for team in await self._store.teams() if team.deleted_at is None]

    async def team(self, team_id: str) -> TeamRecord:
        """The one of that id.

        Raises:
            RouteNotFound: there is none.
        """
        for team in await self.teams():
            if team.id == team_id:
                return team
        raise RouteNotFound(f"There is no team '{team_id}'.", param="id")

    async def create_team(self, fields: dict[str, Any]) -> TeamRecord:
        """A new team.

        Raises:
            Conflict: one is called so.
        """
        async with self._one_at_a_time:
            await self._check_team_name(fields["name"])
            return await self._put_team(TeamRecord(id=new_id("team"), created_at=time(), **fields))

    async def change_team(
        self, team_id: str, change: Callable[[TeamRecord], dict[str, Any]]
    ) -> TeamRecord:
        """The team with other fields, which `change` makes of how it is.

        Raises:
            RouteNotFound: it is not there.
            Conflict: another one is called so.
        """

        async def changed(record: TeamRecord) -> TeamRecord:
            fields = change(record)
            if fields.get("name", record.name) != record.name:
                await self._check_team_name(fields["name"])
            return replace(record, **fields)

        return await self._rewrite_team(team_id, changed)

    async def delete_team(self, team_id: str) -> TeamRecord:
        """The team, which is not there any more.

        Raises:
            RouteNotFound: it was not.
            Conflict: there are keys in it, whose limits would go with it.
        """

        async def deleted(record: TeamRecord) -> TeamRecord:
            if members := (await self._store.members()).get(team_id):
                raise Conflict(
                    f"{members} keys belong to the team: revoke them, or give them another team."
                )
            return replace(record, deleted_at=time())

        return await self._rewrite_team(team_id, deleted)

    def _as_used(self, key: KeyRecord) -> KeyRecord:
        """With its last use, if that was here and is not written down yet."""
        used = self._virtual.used.get(key.id)
        return key if used is None else replace(key, last_used_at=used)

    async def _rewrite_key(
        self, key_id: str, rewrite: Callable[[KeyRecord], Awaitable[KeyRecord]]
    ) -> KeyRecord:
        """What `rewrite` makes of it, as it is at the moment of writing."""
        async with self._one_at_a_time:
            for _ in range(MOST_TRIES):
                record = await self.key(key_id)
                new = await rewrite(record)
                if new is record:
                    return record
                with suppress(Superseded):
                    return await self._put_key(new)
        raise Conflict(f"The key '{key_id}' is being changed by others all the time; try again.")

    async def _rewrite_team(
        self, team_id: str, rewrite: Callable[[TeamRecord], Awaitable[TeamRecord]]
    ) -> TeamRecord:
        """The same for a team."""
        async with self._one_at_a_time:
            for _ in range(MOST_TRIES):
                new = await rewrite(await self.team(team_id))
                with suppress(Superseded):
                    return await self._put_team(new)
        raise Conflict(f"The team '{team_id}' is being changed by others all the time; try again.")

    async def _resolve_team(self, fields: dict[str, Any]) -> None:
        """Put the id in the place of a team's name."""
        wanted = fields.get("team_id")
        if not wanted:
            return
        teams = await self.teams()
        found = [team for team in teams if team.id == wanted] or [
            team for team in teams if team.name == wanted
        ]
        if not found:
            raise InvalidRequest(f"There is no team '{wanted}'.", param="team")
        self._virtual.put((), found)
        fields["team_id"] = found[0].id

    async def _team_id(self, wanted: str) -> str:
        """The id of a team by that or by its name; also of one that is gone, by its id."""
        teams = await self._store.teams()
        found = [team for team in teams if team.id == wanted] or [
            team for team in teams if team.name == wanted and team.deleted_at is None
        ]
        if not found:
            raise InvalidRequest(f"There is no team '{wanted}'.", param="team")
        return found[0].id

    async def _check_team_name(self, name: str) -> None:
        if any(team.name == name for team in await self.teams()):
            raise Conflict(f"There is a team '{name}' already.", param="name")

    async def _put_key(self, record: KeyRecord) -> KeyRecord:
        saved = await self._store.put_key(record)
        self._virtual.put([saved])
        return saved

    async def _put_team(self, record: TeamRecord) -> TeamRecord:
        saved = await self._store.put_team(record)
        self._virtual.put((), [saved])
        return saved


def _place(last: KeyRecord | TeamRecord | None, kind: str, id_: str) -> tuple[float, str]:
    if last is None:
        raise InvalidRequest(f"There is no {kind} '{id_}' to go on after.", param="after")
    return last.created_at, last.id


def _living(record: KeyRecord) -> KeyRecord:
    if record.revoked_at is not None:
        raise Conflict(f"The key '{record.id}' was revoked; make another one.")
    return record
