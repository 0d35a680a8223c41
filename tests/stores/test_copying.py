"""Everything moves from one database into another, or the target is not used."""

import sqlite3
from pathlib import Path

import pytest
from ledger_rows import DAY, MONDAY, row
from servers import PostgresServer

from relay.stores import (
    Audit,
    Bodies,
    KeyRecord,
    StoreUnavailable,
    TeamRecord,
    UsageQuery,
    copying,
    open_store,
    prepare,
)
from relay.stores.copying import TABLES, CannotCopy, Table, copy
from relay.types import Limits

DIGEST = bytes(range(32))


def unheard(table: str, done: int, total: int) -> None:
    """Nobody wants to know."""


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    small = tuple(
        Table(table.name, table.columns, table.key, page=7, changes=table.changes)
        for table in TABLES
    )
    monkeypatch.setattr(copying, "TABLES", small)


@pytest.fixture
def source_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'source.db'}"


@pytest.fixture
def other_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'other.db'}"


async def fill(url: str) -> None:
    store = open_store(url)
    key = KeyRecord(id="key-a", name="n", digest=DIGEST, prefix="rk-1", created_at=1.25)
    await store.put_key(key)
    await store.put_key(
        KeyRecord(
            id="key-b",
            name="N\0UL",
            digest=DIGEST,
            prefix="rk-2",
            created_at=2.0,
            keep_bodies=True,
            limits=Limits(rpm=1),
            origins=("https://a.example",),
        )
    )
    await store.put_team(TeamRecord(id="team", name="t", created_at=3.0))
    await store.touch({"key-a": 9.5})
    await store.note(Audit(1.0, "keys.create", "key-a", "::1", {"a": [1]}))
    rows = [
        row(MONDAY + number * 5000, stream=number % 2 == 0, estimated=number % 3 == 0)
        for number in range(60)
    ]
    bodies = [Bodies(MONDAY + number, f"r{number}", "key-b", b"\0", b"\xff") for number in range(9)]
    await store.append(rows, bodies)
    await store.expire(rows_before=MONDAY + 86400, bodies_before=MONDAY + 1)
    await store.aclose()


async def content(url: str) -> list[object]:
    store = open_store(url)
    found: list[object] = [
        *await store.keys(),
        *await store.teams(),
        *await store.acts(limit=100),
        *await store.recent(limit=1000),
        *await store.usage(UsageQuery(begins_at=0, ends_at=2**40, group_by=["hour", "key"])),
        await store.spent({"key-a": MONDAY + 1}),
    ]
    await store.aclose()
    return found


@pytest.mark.parametrize("store_url", ["sqlite", "postgres"], indirect=True)
async def test_all_of_it_arrives_and_comes_back(
    source_url: str, store_url: str, other_url: str, small_pages: None
):
    await fill(source_url)
    heard: list[tuple[str, int, int]] = []
    there = await copy(source_url, store_url, lambda *told: heard.append(told))
    back = await copy(store_url, other_url, unheard)

    wanted = [
        str(one).replace("\\x00", "\N{REPLACEMENT CHARACTER}") for one in await content(source_url)
    ]
    for url in (store_url, other_url):
        found = [
            str(one).replace("\\x00", "\N{REPLACEMENT CHARACTER}") for one in await content(url)
        ]
        assert found == wanted
    assert there == back
    assert there["relay_bodies"] == 8
    assert there["relay_ledger"] == 42
    assert heard[0] == ("relay_keys", 0, 2)
    assert [told for told in heard if told[0] == "relay_ledger"] == [
        ("relay_ledger", done, 42) for done in range(0, 43, 7)
    ]

    # What comes after it counts on from there.
    store = open_store(store_url)
    key = KeyRecord(id="key-c", name="n", digest=DIGEST, prefix="rk-3", created_at=1.0)
    assert (await store.put_key(key)).revision == 4
    await store.append([row(MONDAY + 5 * DAY)])
    await store.aclose()


class BrokenOff(Exception):
    pass


async def test_half_a_copy_is_not_used_and_is_taken_up_again(
    source_url: str, store_url: str, small_pages: None
):
    await fill(source_url)

    def break_off(table: str, done: int, total: int) -> None:
        if table == "relay_ledger" and done >= 14:
            raise BrokenOff

    with pytest.raises(BrokenOff):
        await copy(source_url, store_url, break_off)

    store = open_store(store_url)
    for attempt in (store.append([row(1)]), store.keys(), prepare(store_url)):
        with pytest.raises(StoreUnavailable, match="is half a copy: run the same `relay db copy`"):
            await attempt
    with pytest.raises(StoreUnavailable, match="is half a copy"):
        await copy(store_url, f"{source_url}.new", unheard)

    assert (await copy(source_url, store_url, unheard))["relay_ledger"] == 42
    assert len(await store.recent(limit=100)) == 42
    await store.aclose()


async def test_a_target_that_holds_something_is_left_alone(source_url: str, store_url: str):
    await fill(source_url)
    await prepare(store_url)
    store = open_store(store_url)
    await store.note(Audit(1.0, "keys.create", "theirs", "::1"))
    with pytest.raises(CannotCopy, match="holds something already: name a new one"):
        await copy(source_url, store_url, unheard)
    assert [act.subject for act in await store.acts(limit=9)] == ["theirs"]
    await store.aclose()


async def test_a_source_has_to_be_there_and_a_relays(source_url: str, other_url: str):
    with pytest.raises(CannotCopy, match=r"There is no file .*source.db"):
        await copy(source_url, other_url, unheard)
    path = Path(source_url.removeprefix("sqlite:///"))
    assert not path.exists()
    sqlite3.connect(path).close()
    with pytest.raises(CannotCopy, match=r"source.db is not a relay's"):
        await copy(source_url, other_url, unheard)
    with pytest.raises(CannotCopy, match="are the same database"):
        await copy(source_url, source_url, unheard)
    with pytest.raises(ValueError, match="database URL"):
        await copy(source_url, "mysql://db/relay", unheard)


async def test_a_newer_target_is_left_alone(source_url: str, other_url: str):
    await fill(source_url)
    await prepare(other_url)
    connection = sqlite3.connect(other_url.removeprefix("sqlite:///"))
    connection.execute("UPDATE relay_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreUnavailable, match="newer relay"):
        await copy(source_url, other_url, unheard)


async def test_rows_that_do_not_arrive_are_missed(source_url: str, other_url: str, monkeypatch):
    await fill(source_url)
    await prepare(other_url)
    connection = sqlite3.connect(other_url.removeprefix("sqlite:///"))
    connection.execute(
        "CREATE TRIGGER lose BEFORE INSERT ON relay_teams BEGIN SELECT RAISE(IGNORE); END"
    )
    connection.close()
    with pytest.raises(CannotCopy, match="Not all of relay_teams has arrived"):
        await copy(source_url, other_url, unheard)
    store = open_store(other_url)
    with pytest.raises(StoreUnavailable, match="half a copy"):
        await store.keys()
    await store.aclose()


async def test_a_target_that_refuses_a_row_changes_nothing_of_its_page(
    source_url: str, other_url: str
):
    await fill(source_url)
    await prepare(other_url)
    connection = sqlite3.connect(other_url.removeprefix("sqlite:///"))
    connection.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON relay_ledger WHEN new.at > 1767790000"
        " BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    connection.close()
    with pytest.raises(StoreUnavailable, match="SQLITE_CONSTRAINT"):
        await copy(source_url, other_url, unheard)


async def test_a_server_that_goes_meanwhile_is_told(
    source_url: str, postgres_server: PostgresServer, postgres_url: str
):
    await fill(source_url)

    def stop(table: str, done: int, total: int) -> None:
        if table == "relay_ledger":
            postgres_server.stop()

    with pytest.raises(StoreUnavailable, match=r"127.0.0.1:\d+/relay\d+ "):
        await copy(source_url, postgres_url, stop)
    postgres_server.start()
    assert (await copy(source_url, postgres_url, unheard))["relay_ledger"] == 42
