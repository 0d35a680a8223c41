"""What only Redis does: leases that end, being away and coming back, losing what it knew."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from counting import Clock, ask, granted, holder, passes, reserve
from servers import RedisServer

from relay.errors import Overloaded
from relay.stores.counters import Granted, Recorded, Refused
from relay.stores.counters import link as links
from relay.stores.counters import redis as redis_counters
from relay.stores.counters.redis import RedisCounters


@asynccontextmanager
async def replica(
    server: RedisServer, *, clock: Callable[[], float] | None = None, **options: Any
) -> AsyncIterator[RedisCounters]:
    usual = {"timeout_s": 2.0, "local": False, "lease_s": 10.0}
    counters = RedisCounters(server.url, clock=clock, **{**usual, **options})
    try:
        yield counters
    finally:
        await counters.aclose()


def killed(counters: RedisCounters) -> None:
    """From here on it says nothing any more, as if its process had been killed."""
    counters._link._first._pump.cancel()  # type: ignore[union-attr]
    if counters._prolonging is not None:
        counters._prolonging.cancel()
    counters._open.clear()


async def until_up(counters: RedisCounters, up: bool) -> None:
    async with asyncio.timeout(20):
        while counters._link.up != up or (up and counters._link._first._unsent):
            await asyncio.sleep(0.01)


async def test_replicas_count_together(redis_server: RedisServer) -> None:
    key, team = holder(parallel=30, rpm=40), holder("team", parallel=25)
    call = ask(key, team)
    async with replica(redis_server) as one, replica(redis_server) as other:
        both = [one, other] * 100
        outcomes = await asyncio.gather(*(reserve(counters, call) for counters in both))
        running = [
            (counters, outcome)
            for counters, outcome in zip(both, outcomes, strict=True)
            if isinstance(outcome, Granted)
        ]
        assert len(running) == 25
        for counters, outcome in running:
            counters.settle(outcome, tokens=0, cost_nano=0)
        await until_up(one, True)
        await until_up(other, True)
        assert await passes(one, call, times=30) == 15


async def test_what_a_killed_replica_held_comes_back(redis_server: RedisServer) -> None:
    clock, key = Clock(), holder(parallel=3, budget_nano=300)
    call = ask(key, cost_nano=100)
    async with (
        replica(redis_server, clock=clock) as victim,
        replica(redis_server, clock=clock) as other,
    ):
        assert await passes(victim, call, times=3) == 3
        killed(victim)
        clock.now += 9.9
        assert await passes(other, call) == 0
        clock.now += 0.2
        assert await passes(other, call, times=9) == 3


async def test_who_runs_for_long_keeps_what_he_holds(redis_server: RedisServer) -> None:
    clock, call = Clock(), ask(holder(parallel=1))
    async with replica(redis_server, clock=clock, lease_s=0.4) as counters:
        running = await granted(counters, call)
        with redis_server.client() as client:
            for pause_s in (0.3, 0.3, 0.3):
                before = client.zscore("relay:{group}:key_a:leases", f"l{running.id}")  # type: ignore[attr-defined]
                clock.now += pause_s
                while client.zscore("relay:{group}:key_a:leases", f"l{running.id}") == before:  # type: ignore[attr-defined]
                    await asyncio.sleep(0.01)
        assert await passes(counters, call) == 0


async def test_a_call_whose_lease_has_ended_is_settled_all_the_same(
    redis_server: RedisServer,
) -> None:
    clock, key = Clock(), holder(parallel=1, budget_nano=300)
    call = ask(key, cost_nano=100)
    async with replica(redis_server, clock=clock) as counters:
        late = await granted(counters, call)
        clock.now += 11  # it was stopped for a while, so nobody prolonged
        second = await granted(counters, call)
        counters.settle(late, tokens=0, cost_nano=150)
        assert await passes(counters, call) == 0, "the slot is the second's"
        counters.settle(second, tokens=0, cost_nano=50)
        assert await passes(counters, call) == 1
        assert isinstance(await reserve(counters, ask(key, cost_nano=1)), Refused)


async def test_nothing_stays_of_holders_who_do_not_call(redis_server: RedisServer) -> None:
    async with replica(redis_server) as counters:
        limits = {"rpm": 5, "tpm": 50, "parallel": 5, "budget_nano": 500, "requests": 5}
        for number in range(5):
            running = await granted(counters, ask(holder(f"key_{number}", **limits), cost_nano=5))
            counters.settle(running, tokens=0, cost_nano=0)
        await until_up(counters, True)
    with redis_server.client() as client:
        keys = client.keys("*")
        assert len(keys) == 5, "no lease is left, so no list of them"
        assert all(0 < client.ttl(key) <= 86_400 for key in keys)


async def test_a_script_that_was_flushed_is_loaded_again(redis_server: RedisServer) -> None:
    async with replica(redis_server) as counters:
        call = ask(holder(rpm=2))
        assert await passes(counters, call) == 1
        with redis_server.client() as client:
            client.script_flush()
        assert await passes(counters, call, times=3) == 1


async def test_what_redis_refuses_is_logged_and_counts_as_away(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server.client() as client:
        client.set("relay:{group}:key_a:counts", "not ours")
    async with replica(redis_server) as counters:
        with pytest.raises(Overloaded):
            await reserve(counters, ask(holder(rpm=2)))
    assert caplog.records[0].message == "redis_refused"
    assert "WRONGTYPE" in str(caplog.records[0].__dict__["fields"])


async def test_closed_refuses_at_once_and_opens_by_itself(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    call = ask(holder(parallel=2))
    async with replica(redis_server) as counters:
        running = await granted(counters, call)
        redis_server.stop()
        with pytest.raises(Overloaded) as raised:
            await reserve(counters, call)
        assert raised.value.headers == [(b"retry-after", b"1")]
        await until_up(counters, False)
        counters.settle(running, tokens=0, cost_nano=0)
        redis_server.start()
        await until_up(counters, True)
        assert await passes(counters, call, times=5) == 2
    messages = [record.message for record in caplog.records]
    assert messages == ["redis_is_away", "redis_is_back"]
    assert str(redis_server.port) not in str([record.__dict__ for record in caplog.records])


async def test_open_goes_on_with_what_was_used_of_a_minute(redis_server: RedisServer) -> None:
    clock, team = Clock(), holder("team", rpm=100, tpm=1000)
    call, other_call = ask(holder(rpm=30), team, tokens=10), ask(holder("key_b"), team, tokens=10)
    async with (
        replica(redis_server, clock=clock) as elsewhere,
        replica(redis_server, clock=clock, local=True, timeout_s=0.3) as counters,
    ):
        assert await passes(elsewhere, other_call, times=60) == 60
        assert await passes(counters, call, times=20) == 20
        redis_server.hold()
        assert await passes(counters, call, times=30) == 10, "of 30 a minute 20 are used"
        assert await passes(counters, other_call, times=30) == 10, "of 1000 tokens 900"
        # When it was used is not known: it leaves as evenly as a minute does.
        clock.now += 30
        assert await passes(counters, call, times=30) == 10
        clock.now += 31
        assert await passes(counters, call, times=30) == 20
        redis_server.go_on()
        await until_up(counters, True)
        clock.now += 61
        assert await passes(counters, call, times=40) == 30


async def test_open_counts_here_meanwhile_and_tells_redis_later(redis_server: RedisServer) -> None:
    key = holder(parallel=5, budget_nano=1000)
    call = ask(key, cost_nano=100)
    async with replica(redis_server, local=True, timeout_s=0.3) as counters:
        first = await granted(counters, call)
        redis_server.hold()  # it keeps what it knows, and says nothing
        alone = [await granted(counters, call, spent=100) for _ in range(3)]
        assert not counters._link.up
        assert await passes(counters, call, times=9) == 2, "five at once here"
        assert alone[0].used
        for one in (first, *alone):
            counters.settle(one, tokens=0, cost_nano=100)
            counters.settle(one, tokens=0, cost_nano=100)
        assert counters.unrecorded() == {"key_a": 400}
        redis_server.go_on()
        await until_up(counters, True)
        # 400 are spent; those two that still run are settled when they end.
        assert await passes(counters, ask(key, cost_nano=601)) == 0
        assert await passes(counters, ask(key, cost_nano=600)) == 1


async def test_a_settlement_that_is_said_twice_counts_once(redis_server: RedisServer) -> None:
    key = holder(budget_nano=1000)
    async with replica(redis_server, timeout_s=0.2) as counters:
        running = await granted(counters, ask(key, cost_nano=100))
        redis_server.hold()
        counters.settle(running, tokens=0, cost_nano=100)  # it will hear that, and then once more
        await until_up(counters, False)
        redis_server.go_on()
        await until_up(counters, True)
        assert await passes(counters, ask(key, cost_nano=901)) == 0
        assert await passes(counters, ask(key, cost_nano=900)) == 1


async def test_limits_hold_as_they_are_now(redis_server: RedisServer) -> None:
    async with replica(redis_server) as counters:
        assert await passes(counters, ask(holder(parallel=2)), times=3) == 2
        assert await passes(counters, ask(holder(parallel=3)), times=3) == 1


async def test_what_redis_cannot_be_told_harms_nobody_else(redis_server: RedisServer) -> None:
    async with replica(redis_server) as counters:
        with pytest.raises(UnicodeEncodeError):
            await reserve(counters, ask(holder("half of a pair: \ud800", rpm=1)))
        assert await passes(counters, ask(holder(rpm=1))) == 1


async def test_what_is_remembered_of_keys_is_bounded(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_counters, "MAX_LAID_OUT", 5)
    async with replica(redis_server) as counters:
        for number in range(12):
            call = ask(holder(f"key_{number}", parallel=1))
            assert await passes(counters, call, times=2) == 1
        assert len(counters._layouts) <= 5


async def test_a_call_waits_for_redis_no_longer_than_it_may(redis_server: RedisServer) -> None:
    call = ask(holder(parallel=100))
    async with replica(redis_server, local=True, timeout_s=0.2) as counters:
        assert await passes(counters, call) == 1
        redis_server.hold()
        async with asyncio.timeout(5):  # without a limit they would wait for as long as it holds
            await asyncio.gather(*(reserve(counters, call) for _ in range(50)))
        redis_server.go_on()
        await until_up(counters, True)
        # What Redis did for those who had given up was undone.
        assert await passes(counters, call, times=200) == 99


async def test_a_loop_that_comes_round_late_does_not_take_redis_for_away(
    redis_server: RedisServer,
) -> None:
    call = ask(holder(parallel=2))
    async with replica(redis_server, timeout_s=0.4) as counters:
        assert await passes(counters, call) == 1
        redis_server.hold()
        asking = asyncio.create_task(reserve(counters, call))
        await asyncio.sleep(0.02)  # it is on its way
        redis_server.go_on()
        time.sleep(1)  # the loop is busy, and the answer waits for it
        assert isinstance(await asking, Granted)


async def test_data_that_is_lost_is_asked_of_the_ledger_again(redis_server: RedisServer) -> None:
    key = holder(budget_nano=1000)
    call = ask(key, cost_nano=100)
    async with replica(redis_server) as one, replica(redis_server) as other:
        for counters in (one, other):
            for _ in range(2):
                ended = await granted(counters, call)
                counters.settle(ended, tokens=0, cost_nano=100)
        running = await granted(other, call)
        await until_up(one, True)
        await until_up(other, True)
        one.recorded([Recorded(key.id, 0.0, 100)])
        redis_server.stop()
        redis_server.start()
        for counters in (one, other):
            with pytest.raises(Overloaded):
                await reserve(counters, call)
            await until_up(counters, True)
        # The ledger has 100; `one` knows of 100 more, `other` of 200, and one call runs there.
        ended = await granted(one, call, spent=100)
        one.settle(ended, tokens=0, cost_nano=0)
        ended = await granted(other, call)
        other.settle(ended, tokens=0, cost_nano=0)
        other.settle(running, tokens=0, cost_nano=100)
        await until_up(one, True)
        await until_up(other, True)
        assert await passes(one, ask(key, cost_nano=501)) == 0
        assert await passes(one, ask(key, cost_nano=500)) == 1


async def test_what_ended_meanwhile_and_is_in_the_ledger_is_not_added_to_lost_data(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = holder(budget_nano=1000)
    call = ask(key, cost_nano=100)
    async with replica(redis_server) as other:
        running = await granted(other, call)
        monkeypatch.setattr(links, "FIRST_PAUSE_S", 1.0)  # it comes back last
        redis_server.stop()
        with pytest.raises(Overloaded):
            await reserve(other, call)
        other.settle(running, tokens=0, cost_nano=100)
        other.recorded([Recorded(key.id, 0.0, 100)])
        redis_server.start()
        async with replica(redis_server) as one:
            ended = await granted(one, call, spent=100)
            one.settle(ended, tokens=0, cost_nano=0)
            await until_up(other, True)
            await until_up(one, True)
            assert await passes(one, ask(key, cost_nano=901)) == 0
            assert await passes(one, ask(key, cost_nano=900)) == 1


async def test_what_waits_for_redis_is_bounded(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "MAX_UNSENT", 10)
    call = ask(holder(parallel=100))
    async with replica(redis_server) as counters:
        running = [await granted(counters, call) for _ in range(30)]
        redis_server.stop()
        for one in running:
            counters.settle(one, tokens=0, cost_nano=0)
        assert len(counters._link._first._unsent) == 10


async def test_what_still_runs_is_given_back_at_the_end(redis_server: RedisServer) -> None:
    call = ask(holder(parallel=2))
    async with replica(redis_server) as counters:
        assert await passes(counters, call, times=3) == 2
    async with replica(redis_server) as counters:
        assert await passes(counters, call, times=3) == 2


async def test_a_cluster_finds_all_of_a_call_in_one_slot() -> None:
    server = RedisServer("--cluster-enabled", "yes")
    server.start()
    try:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            while client.cluster("INFO")["cluster_state"] != "ok":  # type: ignore[no-untyped-call]
                await asyncio.sleep(0.01)
        async with replica(server) as counters:
            call = ask(holder(parallel=2), holder("team", budget_nano=50), cost_nano=5)
            running = await granted(counters, call)
            counters.settle(running, tokens=0, cost_nano=5)
            assert await passes(counters, call, times=3) == 2
    finally:
        server.remove()
