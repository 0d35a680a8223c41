"""What both stores promise of keys, teams and acts."""

import asyncio
from dataclasses import replace

import pytest

from relay.stores import Audit, KeyRecord, Store, Superseded, TeamRecord, open_store
from relay.types import Limits

KEY = KeyRecord(
    id="key-1", name="laptop", digest=b"\0" * 32, prefix="rk-ab12", created_at=1_700_000_000.25
)
FULL = KeyRecord(
    id="key-2",
    name="Büro \N{PARROT}",
    digest=bytes(range(32)),
    prefix="rk-cd34",
    created_at=1_700_000_001.0,
    team_id="team-1",
    models=("gpt-*", "o3"),
    limits=Limits(rpm=60, tpm=1000, parallel=2, budget_nano=2**60, budget_window="day", requests=9),
    expires_at=1_800_000_000.5,
    revoked_at=1_750_000_000.0,
    previous_digest=b"\xff" * 32,
    previous_until=1_760_000_000.0,
    origins=("https://a.example",),
    networks=(),
    keep_bodies=True,
    metadata={"cost centre": 7, "odd": "\0\ud800", "deep": {"list": [1, None]}},
)
TEAM = TeamRecord(
    id="team-1",
    name="research",
    created_at=1_700_000_000.0,
    models=("*",),
    limits=Limits(rpm=5),
    metadata={"a": 1},
    deleted_at=1_700_000_009.0,
)


class TestKeys:
    async def test_they_come_back_as_they_were_put_with_their_revision(self, store: Store):
        first = await store.put_key(KEY)
        second = await store.put_key(FULL)
        assert first == replace(KEY, revision=1)
        assert second == replace(FULL, revision=2)
        assert await store.keys() == [first, second]
        assert isinstance((await store.keys())[1].digest, bytes)
        assert await store.key(FULL.id) == second
        assert await store.key("key-none") is None

    async def test_who_asks_again_sees_only_what_changed(self, store: Store):
        first = await store.put_key(KEY)
        second = await store.put_key(FULL)
        assert await store.keys(above=first.revision) == [second]
        assert await store.keys(above=second.revision) == []
        changed = await store.put_key(replace(first, name="desk", revoked_at=5.0))
        assert changed.revision == 3
        assert await store.keys(above=second.revision) == [changed]
        assert [key.id for key in await store.keys()] == ["key-2", "key-1"]

    async def test_what_was_changed_since_it_was_read_is_not_written_over(self, store: Store):
        first, team = await store.put_key(KEY), await store.put_team(TEAM)
        revoked = await store.put_key(replace(first, revoked_at=5.0))
        for stale in (replace(first, name="desk"), replace(KEY, digest=b"\1" * 32)):
            with pytest.raises(Superseded):
                await store.put_key(stale)
        with pytest.raises(Superseded):
            await store.put_team(replace(team, revision=1))
        assert (await store.keys(), await store.teams()) == ([revoked], [team])
        assert (await store.put_key(replace(revoked, name="x"))).revoked_at == 5.0

    async def test_revisions_of_many_writers_come_one_after_the_other(
        self, store: Store, store_url: str
    ):
        other = open_store(store_url)
        put = await asyncio.gather(
            *(
                (store, other)[number % 2].put_key(replace(KEY, id=f"key-{number}"))
                for number in range(20)
            )
        )
        await other.aclose()
        assert sorted(key.revision for key in put) == list(range(1, 21))

    async def test_their_last_use_is_noted_without_a_new_revision(self, store: Store):
        first, second = await store.put_key(KEY), await store.put_key(FULL)
        await store.touch({"key-1": 2_000.0, "nobody": 1.0})
        await store.touch({"key-1": 1_000.0, "key-2": 3_000.0})
        await store.touch({})
        assert await store.keys() == [
            replace(first, last_used_at=2_000.0),
            replace(second, last_used_at=3_000.0),
        ]
        # Who changes a key has read it some time ago.
        await store.put_key(first)
        assert (await store.keys(above=second.revision))[0].last_used_at == 2_000.0


class TestTeams:
    async def test_they_share_the_revisions_of_the_keys(self, store: Store):
        await store.put_key(KEY)
        team = await store.put_team(TEAM)
        assert team == replace(TEAM, revision=2)
        assert await store.teams() == [team]
        assert await store.teams(above=2) == []
        changed = await store.put_team(replace(team, name="r&d", models=None))
        assert await store.teams(above=2) == [changed]
        assert changed.revision == 3


class TestActs:
    async def test_the_latest_come_first_page_by_page(self, store: Store):
        acts = [
            Audit(float(at), "keys.create", f"key-{at}", "127.0.0.1", {"name": "n", "rpm": None})
            for at in range(5)
        ]
        for act in acts:
            await store.note(act)
        assert await store.acts(limit=2) == acts[:2:-1]
        assert await store.acts(limit=10, before=2.0) == [acts[1], acts[0]]

    async def test_two_of_one_moment_are_both_kept(self, store: Store):
        act = Audit(1.0, "keys.revoke", "key-1", "::1")
        await store.note(act)
        await store.note(act)
        assert await store.acts(limit=10) == [act, act]
