"""Keys of the database in memory, over a real database of each kind that others change, too."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.errors import Conflict, InvalidApiKey, Overloaded, RouteNotFound
from relay.keys import Changes, Keyring, VirtualKeys, Wish, new_key
from relay.keys.virtual import LOOKS_PER_S, RETURNING
from relay.stores import KeyRecord, Store, TeamRecord, open_store, prepare
from relay.types import Identity, Limits

LIMITS = Limits(rpm=5)


class Counting:
    """A store in whose place it stands, and how often it was asked for keys; away on demand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.looks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def keys(self, *, above: int = -1) -> list[KeyRecord]:
        self.looks += 1
        return await self.store.keys(above=above)


class Place:
    """One relay's view of a database."""

    def __init__(self, url: str) -> None:
        self.store = Counting(open_store(url))
        self.virtual = VirtualKeys(self.store)  # type: ignore[arg-type]
        self.keyring = Keyring({}, anonymous=False, virtual=self.virtual)
        self.changes = Changes(self.virtual)

    async def who(self, key: str) -> Identity | None:
        try:
            found = self.keyring.identify_key(key.encode())
            return found if isinstance(found, Identity) else await found
        except InvalidApiKey:
            return None

    async def make(self, **fields: Any) -> tuple[KeyRecord, str]:
        return await self.changes.create_key({"name": "k", **fields})


@pytest.fixture(params=["sqlite", "postgres"])
async def places(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Place, Place]]:
    url = sqlite(tmp_path)
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    await prepare(url)
    here, there = Place(url), Place(url)
    yield here, there
    for place in (here, there):
        await place.virtual.aclose()
        await place.store.aclose()


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder}/relay.db"


async def test_a_key_made_elsewhere_is_known_at_its_first_use(places: tuple[Place, Place]) -> None:
    here, there = places
    record, key = await there.make(models=("m",), limits=LIMITS)
    assert record.prefix == key[:11]
    identity = await here.who(key)
    assert identity is not None
    assert (identity.key_id, identity.models) == (record.id, (("m",),))
    assert identity.holders[0].limits == LIMITS
    assert here.keyring.identify_key(key.encode()) is identity  # and from then on at once


async def test_what_changes_elsewhere_holds_after_the_next_poll(
    places: tuple[Place, Place],
) -> None:
    here, there = places
    record, key = await there.make()
    assert await here.who(key)
    await there.changes.change_key(record.id, lambda _: {"models": ("small",)})
    await here.virtual.refresh()
    found = await here.who(key)
    assert found is not None
    assert found.models == (("small",),)
    await there.changes.revoke_key(record.id)
    assert await there.who(key) is None
    await here.virtual.refresh()
    assert await here.who(key) is None
    assert here.keyring.guarded()


async def test_polling_needs_nobody_to_ask(places: tuple[Place, Place]) -> None:
    here, there = places
    record, key = await there.make()
    assert await here.who(key)
    here.virtual.refresh_s = 0.01
    here.virtual.start()
    await there.changes.revoke_key(record.id)
    async with asyncio.timeout(5):
        while await here.who(key):
            await asyncio.sleep(0.01)


async def test_a_rotated_key_holds_for_its_grace_only(places: tuple[Place, Place]) -> None:
    here, there = places
    record, first = await here.make()
    _, second = await here.changes.rotate_key(record.id, grace_s=60)
    assert await here.who(first) == await here.who(second) != None  # noqa: E711
    assert await there.who(first) == await there.who(second)
    _, third = await here.changes.rotate_key(record.id, grace_s=0)
    assert [await here.who(key) is None for key in (first, second, third)] == [True, True, False]
    await there.virtual.refresh()
    assert [await there.who(key) is None for key in (first, second, third)] == [True, True, False]
    record = await here.store.put_key(
        replace(await here.changes.key(record.id), previous_until=time.time() - 1)
    )
    await here.virtual.refresh()
    assert await here.who(third)


async def test_a_team_counts_and_limits_for_all_its_keys(places: tuple[Place, Place]) -> None:
    here, there = places
    team = await here.changes.create_team({"name": "ops", "limits": LIMITS, "models": ("a", "b")})
    record, key = await here.make(team_id="ops", models=("b", "c"))
    assert record.team_id == team.id
    for place in places:
        identity = await place.who(key)
        assert identity is not None
        assert identity.team_id == team.id
        assert identity.models == (("b", "c"), ("a", "b"))
        assert [holder.id for holder in identity.holders] == [team.id]
    await there.changes.change_team(team.id, lambda _: {"models": ("z",), "limits": Limits()})
    await here.virtual.refresh()
    identity = await here.who(key)
    assert identity is not None
    assert (identity.models[1], identity.holders) == (("z",), ())


async def test_a_key_of_a_team_that_is_gone_opens_nothing(places: tuple[Place, Place]) -> None:
    here, _ = places
    team = await here.changes.create_team({"name": "ops"})
    _, key = await here.make(team_id=team.id)
    assert await here.who(key)
    gone = await here.store.put_team(replace(team, deleted_at=1.0))
    await here.virtual.refresh()
    assert await here.who(key) is None
    await here.store.put_team(replace(gone, deleted_at=None))
    await here.virtual.refresh()
    assert await here.who(key)


async def test_an_older_record_does_not_undo_a_newer_one(places: tuple[Place, Place]) -> None:
    here, _ = places
    record, key = await here.make()
    await here.changes.revoke_key(record.id)
    here.virtual.put([record])
    assert await here.who(key) is None


async def test_changes_on_two_replicas_at_once_lose_nothing_and_revive_no_revoked_key(
    places: tuple[Place, Place],
) -> None:
    here, there = places
    record, key = await here.make(metadata={})

    def add(place: Place, name: str) -> Any:
        return place.changes.change_key(
            record.id, lambda key: {"metadata": {**key.metadata, name: 1}}
        )

    names = [f"{number}" for number in range(12)]
    await asyncio.gather(*(add(places[int(name) % 2], name) for name in names))
    assert set((await here.changes.key(record.id)).metadata) == set(names)
    # Those that come after the revocation are refused; none of those before undoes it.
    done = await asyncio.gather(
        *(add(here, name) for name in names[:6]),
        there.changes.revoke_key(record.id),
        there.changes.rotate_key(record.id, grace_s=60),
        *(add(here, name) for name in names[6:]),
        return_exceptions=True,
    )
    assert all(isinstance(one, (KeyRecord, Conflict, tuple)) for one in done), done
    revoked = await here.changes.key(record.id)
    assert revoked.revoked_at is not None
    for place in places:
        await place.virtual.refresh()
        assert await place.who(key) is None


async def test_a_team_that_another_replica_changes_loses_nothing(
    places: tuple[Place, Place],
) -> None:
    here, there = places
    team = await here.changes.create_team({"name": "ops", "metadata": {}})

    def add(place: Place, name: str) -> Any:
        return place.changes.change_team(
            team.id, lambda team: {"metadata": {**team.metadata, name: 1}}
        )

    await asyncio.gather(*(add(place, f"{place is here}{n}") for place in places for n in range(4)))
    assert len((await there.changes.team(team.id)).metadata) == 8
    await asyncio.gather(there.changes.delete_team(team.id), add(here, "x"), return_exceptions=True)
    with pytest.raises(RouteNotFound):
        await here.changes.team(team.id)


async def test_a_key_that_others_change_all_the_time_is_a_conflict(
    places: tuple[Place, Place],
) -> None:
    here, there = places
    record, _ = await here.make()
    team = await here.changes.create_team({"name": "ops"})

    class Faster:
        """Somebody who changes whatever is read here before it can be written."""

        def __getattr__(self, name: str) -> Any:
            return getattr(there.store, name)

        async def key(self, key_id: str) -> KeyRecord | None:
            found = await there.store.key(key_id)
            assert found is not None
            await there.store.put_key(replace(found, metadata={"at": time.time()}))
            return found

        async def teams(self, *, above: int = -1) -> list[TeamRecord]:
            found = await there.store.teams(above=above)
            for one in found:
                await there.store.put_team(replace(one, metadata={"at": time.time()}))
            return found

    slow = Changes(VirtualKeys(Faster()))  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        await slow.revoke_key(record.id)
    with pytest.raises(Conflict):
        await slow.change_team(team.id, lambda _: {"models": ("m",)})


async def test_a_flood_of_wrong_keys_is_few_looks_and_leaves_nothing_behind(
    places: tuple[Place, Place],
) -> None:
    here, _ = places
    _, good = await here.make()
    before = len(here.virtual.entries), len(here.virtual.used)
    began = time.monotonic()
    for _ in range(4):
        found = await asyncio.gather(*(here.who(new_key()) for _ in range(500)))
        assert not any(found)
    most = (time.monotonic() - began) * LOOKS_PER_S + 2
    assert here.store.looks <= most
    assert (len(here.virtual.entries), len(here.virtual.used)) == before
    assert not here.virtual._looks
    looks = here.store.looks
    await asyncio.gather(*(here.who(f"sk-{number}") for number in range(1000)))
    assert here.store.looks == looks  # what no key of the database looks like is not looked for
    assert await here.who(good)


async def test_a_flood_that_a_look_refuses_leaves_turns_of_the_loop_to_others(
    places: tuple[Place, Place],
) -> None:
    here, _ = places
    await here.make()
    refused = most = 0

    async def wrong() -> None:
        nonlocal refused
        assert await here.who(new_key()) is None
        refused += 1

    flood = [asyncio.create_task(wrong()) for _ in range(500)]
    while refused < len(flood):
        before = refused
        await asyncio.sleep(0)
        most = max(most, refused - before)
    assert most <= 2 * RETURNING


async def test_when_keys_were_used_is_told_in_batches(places: tuple[Place, Place]) -> None:
    here, there = places
    record, key = await here.make()
    assert record.last_used_at is None
    assert await here.who(key)
    shown = await here.changes.key(record.id)
    assert shown.last_used_at is not None  # here it shows before it was told
    assert (await there.changes.key(record.id)).last_used_at is None
    await here.virtual.aclose()
    assert (await there.changes.key(record.id)).last_used_at == shown.last_used_at


async def test_while_the_database_is_away_known_keys_hold(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    place = Place(sqlite(folder))
    _, key = await place.make()
    await place.virtual.refresh()
    assert await place.who(key)
    for path in list(folder.iterdir()):
        path.unlink()
    folder.rmdir()
    await place.virtual.look()
    assert await place.who(key)
    assert await place.who(new_key()) is None  # the keys were read once: that is none of them
    await place.virtual.aclose()
    assert place.virtual.used  # to be told when it is back
    await place.store.aclose()


async def test_where_keys_are_not_expected_the_first_look_decides(tmp_path: Path) -> None:
    place = Place(sqlite(tmp_path))
    _, key = await place.make()
    await place.virtual.aclose()
    fresh = VirtualKeys(place.store)  # type: ignore[arg-type]
    keyring = Keyring({}, anonymous=True, virtual=fresh)
    header = [(b"authorization", b"Bearer " + key.encode())]
    known, refused = keyring.identify(header), keyring.identify([])
    assert not isinstance(known, Identity)
    assert not isinstance(refused, Identity)
    assert (await known).name == "k"
    with pytest.raises(InvalidApiKey):
        await refused
    await fresh.aclose()
    await place.store.aclose()


async def test_a_token_of_a_key_that_cannot_be_looked_for_is_told_to_come_again(
    tmp_path: Path,
) -> None:
    place, away = Place(sqlite(tmp_path)), Place(sqlite(tmp_path / "no"))
    _, key = await place.make()
    token = place.keyring.client_secrets.mint(key.encode(), Wish(60)).value
    assert await place.who(token)
    with pytest.raises(Overloaded):
        await away.who(token)
    for one in (place, away):
        await one.virtual.aclose()
        await one.store.aclose()


async def test_a_flood_of_tokens_of_unknown_keys_is_few_looks_too(
    places: tuple[Place, Place],
) -> None:
    here, _ = places
    await here.virtual.refresh()
    looks = here.store.looks
    record, key = await here.make()
    token = here.keyring.client_secrets.mint(key.encode(), Wish(60)).value
    signed, _, signature = token.removeprefix("ek-").partition(".")
    payload = json.loads(base64.urlsafe_b64decode(signed + "=="))
    forged = [
        base64.urlsafe_b64encode(json.dumps({**payload, "k": f"key_{number:016x}"}).encode())
        for number in range(500)
    ]
    tokens = [f"ek-{text.decode().rstrip('=')}.{signature}" for text in forged]
    assert not any(await asyncio.gather(*map(here.who, tokens)))
    assert here.store.looks - looks <= 2
    assert (await here.who(token)) is not None
    assert record.id in here.virtual.used
