"""A PostgreSQL that cannot be used says why, and is used again as soon as it can be."""

import asyncio
import traceback

import asyncpg
import pytest
from ledger_rows import MONDAY, row
from servers import PASSWORD, PostgresServer, free_port

from relay.stores import Store, StoreUnavailable, UsageQuery, open_store, postgres_pool, prepare

EVER = UsageQuery(begins_at=0, ends_at=2**40)


@pytest.fixture
async def store(postgres_url: str):
    await prepare(postgres_url)
    store = open_store(postgres_url, pool_size=2)
    yield store
    await store.aclose()


async def run(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


async def requests(store: Store) -> int:
    return sum(one.requests for one in await store.usage(EVER))


async def refusal(store: Store) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await store.append([row(MONDAY)])
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


async def test_a_server_that_went_is_told_and_found_again(
    store: Store, postgres_server: PostgresServer
):
    await store.append([row(MONDAY)])
    postgres_server.stop()
    for _ in range(2):
        assert "cannot be reached" in await refusal(store)
    postgres_server.start()
    await store.append([row(MONDAY), row(MONDAY + 1)])
    assert await requests(store) == 2


async def test_a_connection_that_is_cut_while_it_works_is_told(store: Store, postgres_url: str):
    await store.append([row(MONDAY)])
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("LOCK TABLE relay_ledger")
        waiting = asyncio.create_task(refusal(store))
        end_it = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while not await other.fetchval(end_it):
            await asyncio.sleep(0)
    await other.close()
    assert "cannot be reached" in await waiting
    assert await requests(store) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace(PASSWORD, f"wrong-{PASSWORD}"), "refuses the user or the"),
        (lambda url: url.replace("relay:", "nobody:"), "refuses the user or the password"),
        (lambda url: f"{url}_none", "is not there: create it first"),
        (lambda url: f"{url}?sslmode={PASSWORD}", "is the rest of its URL right?"),
        (lambda url: f"postgresql:///relay?host=127.0.0.1&port={PASSWORD}", "is the rest of its"),
        (lambda url: f"{url}?sslmode=verify-full", "needs sslrootcert=FILE"),
        (lambda url: f"{url}?sslmode=verify-full&sslrootcert=/no", "a file that its URL names"),
        (lambda url: f"{url}?sslmode=require", "cannot be reached"),
    ],
)
async def test_a_wrong_url_is_told_without_its_password(postgres_url: str, change, said: str):
    url = change(postgres_url)
    store = open_store(url)
    assert said in await refusal(store)
    with pytest.raises(StoreUnavailable) as caught:
        await prepare(url)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    await store.aclose()


async def test_nobody_at_the_address_is_told():
    store = open_store(f"postgresql://relay:{PASSWORD}@127.0.0.1:{free_port()}/relay")
    assert "cannot be reached" in await refusal(store)
    await store.aclose()


async def test_a_database_that_may_not_be_written_is_read(store: Store, postgres_url: str):
    await store.append([row(MONDAY)])
    name = postgres_url.rpartition("/")[2]
    await run(postgres_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    reading = open_store(postgres_url)
    assert "is read-only: name the primary" in await refusal(reading)
    assert await requests(reading) == 1
    await reading.aclose()


async def test_a_pool_never_has_more_connections_than_it_may(store: Store, postgres_url: str):
    await asyncio.gather(*(store.append([row(MONDAY + number)]) for number in range(20)))
    connection = await asyncpg.connect(postgres_url)
    ours = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'relay' AND datname = current_database()"
    )
    await connection.close()
    assert 1 <= ours <= 2
    assert await requests(store) == 20


async def test_closing_does_not_wait_for_work_that_hangs(
    store: Store, postgres_url: str, monkeypatch
):
    monkeypatch.setattr(postgres_pool, "CLOSE_S", 0.05)
    await store.append([row(MONDAY)])
    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("LOCK TABLE relay_ledger")
        waiting = asyncio.create_task(refusal(store))
        blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while not await other.fetchval(blocked):
            await asyncio.sleep(0)
        await store.aclose()
        assert "cannot be reached" in await waiting
    await other.close()


async def test_a_closed_store_says_so(store: Store):
    await store.aclose()
    with pytest.raises(StoreUnavailable, match="is closed"):
        await store.keys()
    await store.aclose()
