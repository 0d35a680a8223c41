"""Pages of keys and teams, from both stores: in one order, by an index, whoever changes them."""

import sqlite3
from dataclasses import replace
from itertools import chain

import asyncpg
import pytest

from relay.stores import KeyQuery, KeyRecord, PageQuery, Store, TeamRecord, paging
from relay.stores.url import parse_store_url

KEY = KeyRecord(id="", name="n", digest=b"\0" * 32, prefix="rk-ab12", created_at=1.0)
TEAM = TeamRecord(id="", name="t", created_at=1.0)

MADE_AT = {"key_d": 1.0, "key_b": 2.0, "key_a": 2.0, "key_c": 2.0, "key_e": 1e9 + 1 / 3}
IN_ORDER = ["key_d", "key_a", "key_b", "key_c", "key_e"]


async def put(store: Store, **fields: dict[str, object]) -> None:
    for id_, given in fields.items():
        await store.put_key(replace(KEY, id=id_, **given))


async def walk(store: Store, query: KeyQuery) -> list[list[str]]:
    pages = []
    while found := await store.list_keys(query):
        pages.append([key.id for key in found])
        query = replace(query, after=(found[-1].created_at, found[-1].id))
    return pages


async def ids(store: Store, **wanted: object) -> list[str]:
    return [key.id for key in await store.list_keys(KeyQuery(limit=100, **wanted))]


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_those_of_one_moment_are_each_on_one_page(store: Store, limit: int):
    await put(store, **{id_: {"created_at": at} for id_, at in MADE_AT.items()})
    forwards = await walk(store, KeyQuery(limit=limit))
    assert list(chain(*forwards)) == IN_ORDER
    assert {len(page) for page in forwards[:-1]} <= {limit}
    backwards = await walk(store, KeyQuery(limit=limit, newest_first=True))
    assert list(chain(*backwards)) == IN_ORDER[::-1]


async def test_what_happens_between_two_pages_moves_nothing(store: Store):
    await put(store, **{id_: {"created_at": at} for id_, at in MADE_AT.items()})
    query = KeyQuery(limit=2, status="unrevoked")
    first = await store.list_keys(query)
    for key in first:
        await store.put_key(replace(key, revoked_at=5.0))
    await put(store, key_0={"created_at": 0.5}, key_f={"created_at": 2e9})
    rest = await walk(store, replace(query, after=(first[-1].created_at, first[-1].id)))
    assert list(chain(*rest)) == [*IN_ORDER[2:], "key_f"]


async def test_they_are_told_apart_by_what_they_may_still_do(store: Store):
    await put(
        store,
        key_a={},
        key_b={"expires_at": 10.0},
        key_c={"expires_at": 10.5},
        key_d={"revoked_at": 3.0},
        key_e={"revoked_at": 3.0, "expires_at": 4.0},
    )
    assert await ids(store) == ["key_a", "key_b", "key_c", "key_d", "key_e"]
    assert await ids(store, status="unrevoked") == ["key_a", "key_b", "key_c"]
    assert await ids(store, status="active", now=10.0) == ["key_a", "key_c"]
    assert await ids(store, status="expired", now=10.0) == ["key_b"]
    assert await ids(store, status="revoked") == ["key_d", "key_e"]


async def test_they_are_found_by_a_part_of_what_they_are_called(store: Store):
    await store.put_team(replace(TEAM, id="team_1", name="Research & Büro"))
    await put(
        store,
        key_a={"name": "Nightly 100%_build"},
        key_b={"name": "nightly"},
        key_c={"prefix": "rk-Zz99", "team_id": "team_1"},
        key_d={"team_id": "team_2"},
    )
    assert await ids(store, text="NIGHT") == ["key_a", "key_b"]
    assert await ids(store, text="%_") == ["key_a"]
    assert await ids(store, text="y\\") == []
    assert await ids(store, text="KEY_B") == ["key_b"]
    assert await ids(store, text="zZ9") == ["key_c"]
    assert await ids(store, text="rESEARCH & Bü") == ["key_c"]
    assert await ids(store, text="BÜRO") == [], "letters beyond ASCII are as they are written"
    assert await ids(store, team_id="team_2") == ["key_d"]
    assert await ids(store, team_id="") == ["key_a", "key_b"]
    assert await ids(store, team_id="team_1", text="night") == []


async def test_teams_come_likewise_but_for_those_that_are_gone(store: Store):
    for id_, at in MADE_AT.items():
        await store.put_team(replace(TEAM, id=id_, created_at=at))
    gone = next(team for team in await store.teams() if team.id == "key_b")
    await store.put_team(replace(gone, deleted_at=9.0))
    first = await store.list_teams(PageQuery(limit=2))
    assert [team.id for team in first] == ["key_d", "key_a"]
    rest = await store.list_teams(PageQuery(limit=9, after=(2.0, "key_a")))
    assert [team.id for team in rest] == ["key_c", "key_e"]
    newest = await store.list_teams(PageQuery(limit=9, after=(2.0, "key_c"), newest_first=True))
    assert [team.id for team in newest] == ["key_a", "key_d"]


async def test_a_team_has_the_keys_that_are_not_revoked(store: Store):
    assert await store.members() == {}
    await put(
        store,
        key_a={"team_id": "team_1"},
        key_b={"team_id": "team_1", "expires_at": 1.0},
        key_c={"team_id": "team_1", "revoked_at": 1.0},
        key_d={},
        key_e={"team_id": "team_2", "revoked_at": 1.0},
    )
    assert await store.members() == {"team_1": 2, "": 1}


@pytest.mark.parametrize("newest_first", [False, True])
async def test_a_page_is_read_where_it_stands_in_an_index(
    store: Store, store_url: str, newest_first: bool
):
    await put(store, key_a={})
    query = KeyQuery(limit=20, after=(1.0, "key_a"), newest_first=newest_first, status="unrevoked")
    for sql, arguments in (paging.keys_of(query, "{0} = {1}"), paging.teams_of(query)):
        told = await plan(store_url, sql, arguments)
        assert "_by_time" in told
        assert "SORT" not in told.upper()
        assert "TEMP B-TREE" not in told


async def plan(url: str, sql: str, arguments: list[object]) -> str:
    where = parse_store_url(url)
    if where.kind == "sqlite":
        connection = sqlite3.connect(where.path)
        found = connection.execute(
            f"EXPLAIN QUERY PLAN {sql.replace('$', '?')}", arguments
        ).fetchall()
        connection.close()
    else:
        server = await asyncpg.connect(url)
        await server.execute("SET enable_seqscan = off")  # which a table of one row is read by
        await server.execute("SET enable_bitmapscan = off")
        found = await server.fetch(f"EXPLAIN {sql}", *arguments)
        await server.close()
    return "\n".join(str(row[-1]) for row in found)
