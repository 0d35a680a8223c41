"""An SQLite file that cannot be used says why, and is used again as soon as it can be."""

import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from ledger_rows import MONDAY, row

from relay.stores import (
    Audit,
    Bodies,
    KeyRecord,
    Store,
    StoreUnavailable,
    UsageQuery,
    open_store,
    sqlite_file,
)

KEY = KeyRecord(id="key-1", name="n", digest=b"d" * 32, prefix="rk-1", created_at=1.0)
EVER = UsageQuery(begins_at=0, ends_at=2**40)
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
async def store(path: Path):
    store = open_store(f"sqlite:///{path}")
    yield store
    await store.aclose()


async def requests(store: Store) -> int:
    return sum(one.requests for one in await store.usage(EVER))


@contextmanager
def without_roots_rights() -> Iterator[None]:
    """Root may write to what is read-only."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that another user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="relay-store-"))
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


@pytest.mark.parametrize("folder_mode", [0o555, 0o777])
async def test_a_read_only_file_is_read_and_written_once_it_can_be(folder: Path, folder_mode: int):
    path = folder / "relay.db"
    first = open_store(f"sqlite:///{path}")
    await first.put_key(KEY)
    await first.append([row(MONDAY)])
    await first.aclose()
    path.chmod(0o444)
    folder.chmod(folder_mode)

    with without_roots_rights():
        store = open_store(f"sqlite:///{path}")
        for _ in range(2):
            assert [key.id for key in await store.keys()] == ["key-1"]
            assert await requests(store) == 1
            with pytest.raises(StoreUnavailable, match=r"relay.db is read-only: let the relay"):
                await store.append([row(MONDAY + 1)])
    path.chmod(0o666)
    folder.chmod(0o777)
    for log in folder.glob("relay.db-*"):
        log.chmod(0o666)
    with without_roots_rights():
        await store.append([row(MONDAY + 1)])
        assert await requests(store) == 2
        await store.aclose()


async def test_a_read_only_file_of_another_version_is_left_alone(folder: Path):
    path = folder / "relay.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE relay_version (version_num TEXT)")
        connection.execute("INSERT INTO relay_version VALUES ('9999')")
    connection.close()
    folder.chmod(0o555)
    path.chmod(0o444)
    with without_roots_rights():
        store = open_store(f"sqlite:///{path}")
        with pytest.raises(StoreUnavailable, match="newer relay"):
            await store.keys()
        await store.aclose()


async def test_a_disk_without_room_loses_and_doubles_nothing(path: Path, store: Store):
    await store.append([row(MONDAY)])
    batch = [row(MONDAY + second, model_asked="m" * 200) for second in range(2000)]
    with no_file_longer_than(100_000), pytest.raises(StoreUnavailable, match="disk fails or is"):
        await store.append(batch)
    assert await requests(store) == 1
    await store.append(batch)
    assert await requests(store) == 2000


def test_each_fault_of_a_disk_has_its_sentence(path: Path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.Error) as caught:
        connection.execute("CREATE TABLE t AS SELECT zeroblob(100000) AS b")
    connection.close()
    assert str(sqlite_file.unavailable("relay.db", caught.value)) == (
        "The database relay.db cannot grow: the disk is full (SQLITE_FULL)."
    )
    odd = sqlite_file.unavailable("relay.db", sqlite3.ProgrammingError("secret"))
    assert str(odd) == "The database relay.db cannot be used (ProgrammingError)."


async def test_a_lock_is_waited_for_and_then_told(path: Path, store: Store, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.05)
    await store.append([row(MONDAY)])
    await store.aclose()
    store = open_store(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"relay.db is locked by another process"):
        await store.append([row(MONDAY + 1)])
    assert await requests(store) == 1, "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    await store.append([row(MONDAY + 1)])
    assert await requests(store) == 2
    await store.aclose()


async def test_a_new_file_that_is_locked_is_told_too(path: Path, store: Store, monkeypatch):
    monkeypatch.setattr(sqlite_file, "BUSY_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE t (a)")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match=r"relay.db is locked by another process"):
        await store.append([row(MONDAY)])
    other.execute("ROLLBACK")
    other.close()
    await store.append([row(MONDAY)])
    assert await requests(store) == 1


async def test_a_file_that_was_taken_away_is_made_anew(path: Path, store: Store):
    await store.append([row(MONDAY)])
    for file in path.parent.glob("relay.db*"):
        file.unlink()
    await store.append([row(MONDAY + 1), row(MONDAY + 2)])
    assert path.exists()
    assert await requests(store) == 2


async def test_a_folder_that_is_not_there_is_told_and_found_later(tmp_path: Path):
    store = open_store(f"sqlite:///{tmp_path / 'later' / 'relay.db'}")
    with pytest.raises(StoreUnavailable, match=r"relay.db cannot be opened: its folder has to be"):
        await store.keys()
    (tmp_path / "later").mkdir()
    assert await store.keys() == []
    await store.aclose()


async def test_a_damaged_file_is_told(path: Path, store: Store):
    await store.append([row(MONDAY + second) for second in range(2000)])
    await store.aclose()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xee" * (len(content) - 4096)
    path.write_bytes(content)
    store = open_store(f"sqlite:///{path}")
    with pytest.raises(StoreUnavailable, match=r"relay.db is damaged: put a copy in its place"):
        await store.append([row(MONDAY)])
    await store.aclose()


async def test_what_fails_halfway_is_not_kept(path: Path, store: Store):
    await store.append([row(MONDAY)])
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE relay_bodies")
    connection.close()
    body = Bodies(MONDAY, "req", "key-a", b"", b"")
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        await store.append([row(MONDAY + 1)], [body])
    assert await requests(store) == 1
    assert len(await store.recent(limit=10)) == 1


async def test_a_closed_store_says_so(store: Store):
    await store.keys()
    await store.aclose()
    with pytest.raises(StoreUnavailable, match="is closed"):
        await store.keys()


async def test_work_that_fails_in_python_leaves_no_transaction_open(store: Store):
    with pytest.raises(TypeError):
        await store.note(Audit(1.0, "act", "subject", "source", {"odd": object()}))
    await store.append([row(MONDAY)])
    assert await requests(store) == 1


def test_a_new_file_has_large_pages_and_an_older_one_keeps_its_own(path: Path):
    older = path.with_name("older.db")
    with closing(sqlite3.connect(older)) as connection:
        connection.execute("CREATE TABLE something (of_somebody)")
    for file, page_bytes in ((path, sqlite_file.PAGE_BYTES), (older, 4096)):
        with closing(sqlite_file.open_file(str(file))) as connection:
            connection.execute("CREATE TABLE other (columns)")
            assert connection.execute("PRAGMA page_size").fetchone() == (page_bytes,)
