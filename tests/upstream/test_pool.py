"""The connections of one upstream: which one is used, who waits, what is closed."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from fake_upstream import FakeUpstream

from relay.errors import ConnectTimeout, Overloaded, UpstreamUnreachable
from relay.settings import Timeouts, UpstreamSettings
from relay.upstream.dial import Dialer
from relay.upstream.http1 import Connection
from relay.upstream.pool import Pool

HEAD = b"GET /v1/models HTTP/1.1\r\n\r\n"
Open = Callable[..., Pool]


@pytest.fixture
async def open_pool(fake: FakeUpstream) -> AsyncIterator[Open]:
    pools = []

    def open_pool(base_url: str = fake.url, **limits) -> Pool:
        settings = UpstreamSettings(name="u", base_url=base_url, timeouts=Timeouts(connect_s=0.5))
        chosen = {"max_open": 10, "max_idle": 10, "max_queued": 9, "max_wait_s": 20.0} | limits
        pools.append(Pool("u", Dialer(settings).dial, **chosen))
        return pools[-1]

    yield open_pool
    for pool in pools:
        await pool.aclose()


async def use(connection: Connection) -> Connection:
    total_at = asyncio.get_running_loop().time() + 20
    connection.send(HEAD, b"", total_at=total_at, whole=True, bodiless=False)
    while not connection.ready:
        await connection.more()
    return connection


async def waiting(pool: Pool, count: int) -> list[asyncio.Task[Connection]]:
    tasks = [asyncio.create_task(pool.take()) for _ in range(count)]
    await asyncio.sleep(0)  # one turn of the loop, in which each of them queues up
    return tasks


async def test_the_connection_that_was_used_last_is_used_next(open_pool: Open):
    pool = open_pool()
    one, two, three = [await use(await pool.take()) for _ in range(3)]
    for connection in (two, three, one):
        pool.give_back(connection)
    assert [pool.take_idle() for _ in range(4)] == [one, three, two, None]
    for connection in (one, two, three):
        pool.give_back(connection)


async def test_whoever_waits_longest_is_next_and_gets_the_connection(open_pool: Open):
    pool = open_pool(max_open=1)
    connection = await pool.take()
    queue = await waiting(pool, 3)
    for task in queue:
        assert not task.done()
        pool.give_back(await use(connection))
        assert await task is connection
    assert not pool.take_idle()
    pool.give_back(await use(connection))
    assert pool.take_idle() is connection
    pool.give_back(connection)


async def test_a_slot_without_a_connection_lets_the_next_make_one(
    fake: FakeUpstream, open_pool: Open
):
    pool = open_pool(max_open=1)
    connection = await pool.take()
    [task] = await waiting(pool, 1)
    pool.give_back(connection)  # nothing was asked on it, so it cannot be trusted
    assert connection.closed
    fresh = await task
    assert fresh is not connection
    assert len(fake.connections) == 2
    pool.give_back(fresh)


async def test_a_connection_that_dies_on_its_way_to_the_next_is_replaced(open_pool: Open):
    pool = open_pool(max_open=1)
    connection = await use(await pool.take())
    [task] = await waiting(pool, 1)
    pool.give_back(connection)
    connection.close()
    fresh = await task
    assert fresh is not connection
    pool.give_back(fresh)


async def test_a_slot_that_comes_as_its_taker_is_cancelled_goes_to_the_next(open_pool: Open):
    pool = open_pool(max_open=1)
    connection = await use(await pool.take())
    first, second = await waiting(pool, 2)
    pool.give_back(connection)
    first.cancel()
    assert await second is connection
    assert first.cancelled()
    pool.give_back(connection)


async def test_no_more_wait_than_may(open_pool: Open):
    pool = open_pool(max_open=1, max_queued=1)
    connection = await pool.take()
    [task] = await waiting(pool, 1)
    with pytest.raises(Overloaded) as caught:
        await pool.take()
    assert caught.value.headers == [(b"retry-after", b"1")]
    task.cancel()
    await asyncio.wait([task])
    [task] = await waiting(pool, 1)  # the one that left has made room
    pool.give_back(await use(connection))
    pool.give_back(await task)


async def test_who_waits_too_long_gives_up_and_takes_nothing(open_pool: Open):
    pool = open_pool(max_open=1, max_wait_s=0.05)
    connection = await pool.take()
    with pytest.raises(Overloaded):
        await pool.take()
    pool.give_back(await use(connection))
    assert pool.take_idle() is connection
    pool.give_back(connection)


async def test_a_slot_comes_back_when_no_connection_can_be_made(
    open_pool: Open, silent_listener: str
):
    pool = open_pool(f"https://{silent_listener}", max_open=1)
    for _ in range(2):
        with pytest.raises(ConnectTimeout):
            await pool.take()


async def test_only_so_many_are_kept_idle(fake: FakeUpstream, open_pool: Open):
    pool = open_pool(max_idle=1)
    for connection in [await use(await pool.take()) for _ in range(3)]:
        pool.give_back(connection)
    await fake.until(lambda: len(fake.open_connections) == 1)


async def test_idle_connections_expire_the_oldest_first(fake: FakeUpstream, open_pool: Open):
    pool = open_pool(keep_alive_s=0.2)
    old, young = [await use(await pool.take()) for _ in range(2)]
    pool.give_back(old)
    loop = asyncio.get_running_loop()
    half_time = loop.create_future()
    loop.call_later(0.1, half_time.set_result, None)
    await half_time
    pool.give_back(young)
    await fake.until(lambda: len(fake.open_connections) == 1)
    assert old.closed
    assert not young.closed
    await fake.until(lambda: not fake.open_connections)
    assert pool.take_idle() is None


async def test_closing_ends_idle_ones_busy_ones_and_whoever_waits(
    fake: FakeUpstream, open_pool: Open
):
    pool = open_pool(max_open=2)
    idle, busy = [await use(await pool.take()) for _ in range(2)]
    [task] = await waiting(pool, 1)
    pool.give_back(idle)
    assert await task is idle
    [task] = await waiting(pool, 1)
    await pool.aclose()
    with pytest.raises(UpstreamUnreachable):
        await task
    with pytest.raises(UpstreamUnreachable):
        await pool.take()
    pool.give_back(busy)
    pool.give_back(idle)
    await fake.until(lambda: not fake.open_connections)
