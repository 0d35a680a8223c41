"""The keys of the database, in memory: a request never waits for it, but with a key that is new.

    polling     every `refresh_s` what has changed since, so a revoked key ends everywhere
    looking     for a key that is not known: at most 4 times a second, however many ask
    touching    when keys were last used, in batches

While the database is away, everything stays as it was last read.
"""

import asyncio
import logging
import math
from collections.abc import Iterable
from time import monotonic

from relay.keys.entry import Entry, entries_of
from relay.stores import KeyRecord, Store, TeamRecord
from relay.stores.unavailable import StoreUnavailable

LOOKS_PER_S = 4
LOOK_LIMIT_S = 2.0
"""The longest wait of a request for a look."""

RETURNING = 8
"""How many of those who waited for a look go on in one turn of the event loop: refusing a flood of
wrong keys must not hold up the others."""

TOUCH_S = 10.0
"""How often it is told when keys were used."""

_log = logging.getLogger("relay.keys")


class VirtualKeys:
    """The keys and teams of one store; to be used in one event loop.

    `entries` has what can be opened, by digest; `used` takes the time when a key was, by its id.
    `any`: there is a key, or has been one. `tried`: the store has been asked. `known`: it answered.
    """

    def __init__(self, store: Store, *, refresh_s: float = 2.0) -> None:
        self.store = store
        self.refresh_s = refresh_s
        self.entries: dict[bytes, Entry] = {}
        self.used: dict[str, float] = {}
        self.any = False
        self.tried = False
        self.known = False
        self._records: dict[str, KeyRecord] = {}
        self._teams: dict[str, TeamRecord] = {}
        self._seen_keys = self._seen_teams = -1
        self._reading = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._looks: set[asyncio.Task[None]] = set()
        self._next_look: asyncio.Task[None] | None = None
        self._looked_at = -math.inf
        self._returning = asyncio.Semaphore(RETURNING)
        self._touched_at = monotonic()
        self._polling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read, and go on reading; to be called in the event loop."""
        if self._polling is None:
            self._polling = asyncio.get_running_loop().create_task(self._poll())

    async def aclose(self) -> None:
        """Stop, and tell what was used; the store stays open."""
        tasks = [*self._looks, *([] if self._polling is None else [self._polling])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._polling = None
        await self._touch()

    async def refresh(self, *, for_keys: bool = False) -> None:
        """Read what has changed; `for_keys`: of the teams only if a key is of an unknown one.

        Raises:
            StoreUnavailable: the store cannot be read; nothing has changed.
        """
        async with self._reading:
            try:
                # In this order, as a key's team is there before the key.
                keys = await self.store.keys(above=self._seen_keys)
                teams: list[TeamRecord] = []
                if not (for_keys and all(self._knows_team(key) for key in keys)):
                    teams = await self.store.teams(above=self._seen_teams)
            finally:
                self.tried = True
            self.put(keys, teams)
            self._seen_keys = max((key.revision for key in keys), default=self._seen_keys)
            self._seen_teams = max((team.revision for team in teams), default=self._seen_teams)
            self.known = True

    async def look(self) -> None:
        """Have the store read once more, from now on or a moment later; failures are not told."""
        if self._next_look is None:
            self._next_look = asyncio.get_running_loop().create_task(self._look())
            self._looks.add(self._next_look)
            self._next_look.add_done_callback(self._looks.discard)
        # Whoever gives up leaves the look to the others.
        await asyncio.wait([self._next_look], timeout=LOOK_LIMIT_S)
        async with self._returning:
            await asyncio.sleep(0)

    def put(self, keys: Iterable[KeyRecord], teams: Iterable[TeamRecord] = ()) -> None:
        """Let these records hold, at once."""
        changed: dict[str, KeyRecord] = {}
        for team in teams:
            if team.deleted_at is None:
                self._teams[team.id] = team
            else:
                self._teams.pop(team.id, None)
            members = (one for one in self._records.values() if one.team_id == team.id)
            changed.update((one.id, one) for one in members)
        for key in keys:
            self.any = True
            known = self._records.get(key.id)
            if known is None or known.revision <= key.revision:
                changed[key.id] = key
        for key in changed.values():
            self._replace(key)

    def has(self, key_id: str) -> bool:
        """Whether a key of that id is, or was, there."""
        return key_id in self._records

    def digests(self, key_id: str) -> list[bytes]:
        """Those of a key, the current one first; `entries` has those that open something."""
        record = self._records.get(key_id)
        if record is None:
            return []
        return [one for one in (record.digest, record.previous_digest) if one is not None]

    async def _look(self) -> None:
        async with self._looking:
            await asyncio.sleep(max(0.0, self._looked_at + 1 / LOOKS_PER_S - monotonic()))
            # Who comes from here on may know of a key that this look will not find.
            self._looked_at, self._next_look = monotonic(), None
            await self._try(for_keys=True)

    async def _poll(self) -> None:
        while True:
            await self._try()
            if monotonic() - self._touched_at >= TOUCH_S:
                await self._touch()
            await asyncio.sleep(self.refresh_s)

    async def _try(self, *, for_keys: bool = False) -> None:
        was_known = self.known
        try:
            await self.refresh(for_keys=for_keys)
        except StoreUnavailable as exc:
            # Once told, it is the business of the store's own log.
            level = logging.DEBUG if was_known else logging.WARNING
            _log.log(level, "keys_unread", extra={"fields": {"error": str(exc)}})

    async def _touch(self) -> None:
        self._touched_at = monotonic()
        if not self.used:
            return
        used = dict(self.used)
        self.used.clear()
        try:
            await self.store.touch(used)
        except StoreUnavailable:
            self.used.update({**used, **self.used})

    def _replace(self, key: KeyRecord) -> None:
        before = self._records.get(key.id)
        if before is not None:
            for digest in self.digests(key.id):
                self.entries.pop(digest, None)
        self._records[key.id] = key
        self.entries.update(self._opening(key))

    def _opening(self, key: KeyRecord) -> dict[bytes, Entry]:
        """What opens it. A key of a team that is not there opens nothing."""
        return entries_of(key, self._teams.get(key.team_id)) if self._knows_team(key) else {}

    def _knows_team(self, key: KeyRecord) -> bool:
        return not key.team_id or key.team_id in self._teams
