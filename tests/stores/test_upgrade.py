"""Databases of every version become those of this one, whoever else tries at the same time."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from ledger_rows import row

from relay.stores import StoreUnavailable, UsageQuery, open_store, prepare, schema, upgrade
from relay.stores.migrations import __file__ as migrations
from relay.stores.sqlite_file import run_script
from relay.stores.url import parse_store_url

OLD = "0000"
"""A version before the first, for databases that have to be brought up to date."""

FROM_OLD = (
    "CREATE TABLE relay_new (id INTEGER);",
    f"UPDATE relay_version SET version_num = '{schema.KNOWN[-1]}' WHERE version_num = '0000';",
)


def render(dialect: str, revision: str = "base") -> str:
    command = [sys.executable, "-m", "relay.stores.migrations", dialect, revision]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def execute(url: str, sql: str) -> None:
    where = parse_store_url(url)
    if where.kind == "sqlite":
        with sqlite3.connect(where.path) as connection:
            connection.execute(sql)
        connection.close()
    else:
        server = await asyncpg.connect(url)
        await server.execute(sql)
        await server.close()


async def tables(url: str) -> list[str]:
    where = parse_store_url(url)
    if where.kind == "sqlite":
        connection = sqlite3.connect(where.path)
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        connection.close()
    else:
        server = await asyncpg.connect(url)
        names = await server.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        await server.close()
    return sorted(name for (name,) in names)


@pytest.fixture
async def old_url(store_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of an older version; what brings it up to date is given by `FROM_OLD`."""
    await prepare(store_url)
    await execute(store_url, f"UPDATE relay_version SET version_num = '{OLD}'")
    monkeypatch.setattr(schema, "KNOWN", (OLD, *schema.KNOWN))
    return store_url


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has `FROM_OLD` in the place of what alembic knows; the revisions that were asked for."""
    asked: list[str] = []

    async def missing(kind: str, revision: str) -> str:
        asked.append(revision)
        return "\n".join(FROM_OLD)

    monkeypatch.setattr(upgrade, "missing_statements", missing)
    return asked


@pytest.mark.parametrize(("kind", "dialect"), [("sqlite", "sqlite"), ("postgres", "postgresql")])
def test_a_fresh_database_gets_what_all_migrations_together_make(kind, dialect):
    file = Path(schema.__file__).with_name(f"{kind}.sql")
    assert file.read_text() == render(dialect), (
        f"python -m relay.stores.migrations {dialect} base > {file}"
    )


def test_every_migration_is_known_by_its_revision():
    scripts = ScriptDirectory(str(Path(migrations).parent))
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(revisions)) == schema.KNOWN


async def test_a_database_is_prepared_once(store_url: str):
    assert await prepare(store_url) == "empty"
    assert await prepare(store_url) == "current"


async def test_many_may_prepare_at_once(store_url: str):
    states = await asyncio.gather(*(prepare(store_url) for _ in range(6)))
    assert "empty" in states
    assert await prepare(store_url) == "current"


async def test_an_sqlite_file_is_made_by_whoever_opens_it(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'relay.db'}"
    stores = [open_store(url) for _ in range(6)]
    assert await asyncio.gather(*(store.keys() for store in stores)) == [[]] * 6
    for store in stores:
        await store.aclose()
    assert (tmp_path / "relay.db").stat().st_mode & 0o777 == 0o600


async def test_an_older_one_gets_what_it_lacks_and_waits_till_then(old_url: str, rendered):
    store = open_store(old_url)
    with pytest.raises(StoreUnavailable, match="is of an older relay: run `relay db upgrade`"):
        await store.keys()
    assert await prepare(old_url) == "older"
    assert set(rendered) == {OLD}
    assert "relay_new" in await tables(old_url)
    assert await store.keys() == []
    await store.aclose()


async def test_several_that_bring_it_up_to_date_do_it_once(old_url: str, rendered):
    states = await asyncio.gather(*(prepare(old_url) for _ in range(5)))
    assert "older" in states
    assert (await tables(old_url)).count("relay_new") == 1


async def test_a_migration_that_fails_changes_nothing(old_url: str, rendered, monkeypatch):
    before = await tables(old_url)
    monkeypatch.setattr("test_upgrade.FROM_OLD", (FROM_OLD[0], "CREATE TABLE relay_keys (a TEXT);"))
    with pytest.raises(StoreUnavailable):
        await prepare(old_url)
    assert await tables(old_url) == before


async def test_a_newer_one_is_left_alone(store_url: str):
    await prepare(store_url)
    await execute(store_url, "UPDATE relay_version SET version_num = '9999'")
    store = open_store(store_url)
    for attempt in (prepare(store_url), store.append([]), store.keys()):
        with pytest.raises(StoreUnavailable, match="was written by a newer relay"):
            await attempt
    await store.aclose()


async def test_a_postgres_without_tables_says_what_to_do(postgres_url: str):
    store = open_store(postgres_url)
    with pytest.raises(StoreUnavailable, match="has no tables yet: run `relay db upgrade`"):
        await store.keys()
    await store.aclose()


async def test_what_alembic_writes_can_be_run(tmp_path: Path):
    script = await upgrade.missing_statements("sqlite", "base")
    connection = sqlite3.connect(tmp_path / "relay.db", isolation_level=None)
    run_script(connection, script)
    assert connection.execute("SELECT version_num FROM relay_version").fetchall() == [
        (schema.KNOWN[-1],)
    ]
    connection.close()


async def test_a_revision_that_alembic_does_not_know_is_told_in_a_sentence():
    with pytest.raises(StoreUnavailable, match=r"could not be brought up to date: .*nonsense"):
        await upgrade.missing_statements("sqlite", "nonsense")


async def test_a_child_process_ends_with_whoever_waits_for_it():
    children = Path("/proc/thread-self/children")
    before = children.read_text()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(upgrade.missing_statements("sqlite", "base"), 0.05)
    assert children.read_text() == before


async def test_a_file_that_is_no_database_is_named(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be looked at as one\n" * 20)
    with pytest.raises(StoreUnavailable, match=r"notes.txt is something else than an SQLite"):
        await prepare(f"sqlite:///{path}")


FIRST_ONLY = "-- Running upgrade 0001 -> 0002"


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_what_the_first_version_kept_is_there_and_can_be_added_to(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
):
    url = f"sqlite:///{tmp_path / 'old.db'}"
    if kind == "postgres":
        url = request.getfixturevalue("postgres_url")
    old = schema.current_tables("sqlite" if kind == "sqlite" else "postgres").split(FIRST_ONLY)[0]
    kept = "'k', '', 'gpt-1', 'openai', 7, 1, 0, 0, 0, 0, 0, 5, 0, 9.5"
    old += (
        f"INSERT INTO relay_hours VALUES (3600, {kept}); INSERT INTO relay_days VALUES (0, {kept});"
    )
    if kind == "sqlite":
        connection = sqlite3.connect(tmp_path / "old.db")
        connection.executescript(old)
        connection.close()
    else:
        await execute(url, old)
    assert await prepare(url) == "older"
    store = open_store(url)
    await store.append([row(3601, key_id="k")])
    for by in (["hour"], ["day"], ["hour", "key"], ["day", "key"]):
        (one,) = await store.usage(
            UsageQuery(begins_at=0, ends_at=1e9, group_by=by, percentiles=True)
        )
        assert (one.requests, one.errors, sum(one.latency)) == (8, 1, 1)
    await store.aclose()
