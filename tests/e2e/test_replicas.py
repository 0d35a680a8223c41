"""Four relays behind nginx and one Redis, three workers: exactly as many calls as there may be."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from front import in_front
from limited import COST_NANO, KEY, ask, ask_all, replicas
from servers import RedisServer

ANSWER = Script(body=transcripts.chat_body("x"), headers=[(b"content-type", b"application/json")])
SETTINGS: dict[str, Any] = {
    "database_url": "none",
    "log_level": "warning",
}


@pytest.fixture
def settings(upstream: FakeUpstream) -> dict[str, Any]:
    upstream.answer(ANSWER)
    return {**SETTINGS, "upstream_url": upstream.url}


def held(gate: Gate) -> Script:
    return replace(ANSWER, gate=gate)


def opens(gate: Gate, refusals: int) -> Callable[["Counter[int | str]"], None]:
    """Opens it when so many calls were refused: the others wait in front of it."""

    def heard(found: "Counter[int | str]") -> None:
        if found[429] == refusals:
            gate.open()

    return heard


@dataclass
class Four:
    """Four replicas, what they share, and where the calls go."""

    upstream: FakeUpstream
    redis: RedisServer
    settings: dict[str, Any]
    roots: list[str]


KEYS = {
    "rk-budget": {"budget_nano": 100 * COST_NANO},
    "rk-rpm": {"rpm": 100},
    "rk-parallel": {"parallel": 100, "team": {"parallel": 1000}},
    "rk-killed": {"parallel": 40, "budget_nano": 100 * COST_NANO},
}


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer) -> Iterator[Four]:
    shared_redis.start()
    with shared_redis.client() as client:
        client.flushall()
    with FakeUpstream.in_thread() as upstream:
        upstream.answer(ANSWER)
        shared = {**SETTINGS, "upstream_url": upstream.url, "redis_url": shared_redis.url}
        with replicas(tmp_path_factory.mktemp("four"), KEYS, count=4, **shared) as running:
            yield Four(upstream, shared_redis, shared, [root for _, root in running])


async def test_four_replicas_let_in_exactly_as_many_as_there_may_be(
    four: Four, tmp_path: Path
) -> None:
    with in_front(tmp_path, four.roots) as front:
        for key in ("rk-budget", "rk-rpm", "rk-parallel"):
            before, gate = len(four.upstream.requests), Gate()
            four.upstream.answer(held(gate))
            found = await ask_all([front], 400, key=key, heard=opens(gate, 300))
            assert found == {200: 100, 429: 300}, key
            assert len(four.upstream.requests) - before == 100
        assert await ask_all([front], 20, key="rk-budget") == {429: 20}
        assert await ask_all([front], 20, key="rk-parallel") == {200: 20}


async def test_nothing_stays_taken_of_a_replica_that_is_killed(four: Four, tmp_path: Path) -> None:
    before, gate = len(four.upstream.requests), Gate()
    four.upstream.answer(held(gate))
    ask_some = partial(ask_all, key="rk-killed")
    with replicas(tmp_path, KEYS, **four.settings) as [(victim, root)]:
        running = asyncio.create_task(ask_some([root, *four.roots], 40))
        await four.upstream.until(lambda: len(four.upstream.requests) == before + 40)
        assert await ask_some(four.roots, 8) == {429: 8}
        victim.kill()
        victim.wait()
        gate.open()
        assert await running == {200: 32, "cut": 8}
    # The leases of its eight calls end: slots and money for them are there again.
    four.upstream.answer(ANSWER)
    passed = 32
    while passed < 100:
        found = await ask_some(four.roots, 15)
        assert set(found) <= {200, 429}
        passed += found[200]
    assert passed == 100
    assert await ask_some(four.roots, 15) == {429: 15}
    with four.redis.client() as client:
        counts = client.hgetall("relay:{key_killed}:key_killed:counts")
    assert (counts["p"], counts["bs"], counts["br"]) == ("0", str(100 * COST_NANO), "0")


@pytest.mark.parametrize("mode", ["open", "closed"])
async def test_redis_may_go_and_come_back_under_load(
    tmp_path: Path, redis_server: RedisServer, settings: dict[str, Any], mode: str
) -> None:
    keys = {KEY: {"parallel": 500, "rpm": 100_000}}
    settings |= {
        "redis_url": redis_server.url,
        "limits_without_redis": mode,
        "redis_timeout_s": 0.25,
    }
    found: Counter[int | str] = Counter()
    stopping = False

    async def load(root: str) -> None:
        while not stopping:
            found[await ask(root)] += 1

    async def more(status: int, calls: int = 50) -> None:
        before = found[status]
        async with asyncio.timeout(20):
            while found[status] < before + calls:
                await asyncio.sleep(0.01)

    def counted() -> int:
        with redis_server.client() as client:
            return int(client.hget("relay:{key_limited}:key_limited:counts", "r") or 0)

    away = 200 if mode == "open" else 503
    with replicas(tmp_path, keys, count=2, **settings) as two:
        callers = [asyncio.create_task(load(two[number % 2][1])) for number in range(16)]
        await more(200)
        redis_server.stop()
        await more(away)
        redis_server.start()
        await more(200)
        async with asyncio.timeout(20):
            while not counted():
                await asyncio.sleep(0.05)
        redis_server.hold()
        await more(away)
        redis_server.go_on()
        await more(200)
        stopping = True
        await asyncio.gather(*callers)
    assert set(found) == {200, away}, "nobody is told anything else"


async def test_three_workers_let_in_exactly_as_many_as_one(
    tmp_path: Path, upstream: FakeUpstream, settings: dict[str, Any]
) -> None:
    keys = {
        "rk-budget": {"budget_nano": 30 * COST_NANO},
        "rk-rpm": {"rpm": 30},
        "rk-parallel": {"parallel": 30},
    }
    with replicas(tmp_path, keys, workers=3, **settings) as [(relay, root)]:
        while len(workers := workers_of(relay.pid)) < 3:
            await asyncio.sleep(0.02)
        for key in keys:
            gate = Gate()
            upstream.answer(held(gate))
            found = await ask_all([root], 150, key=key, heard=opens(gate, 120))
            assert found == {200: 30, 429: 120}, key
        upstream.answer(held(Gate()))
        running = asyncio.create_task(ask_all([root], 30, key="rk-parallel"))
        await upstream.until(lambda: len(upstream.requests) == 120)
        assert await ask(root, key="rk-parallel") == 429
        for worker in workers:  # one after another, while others take over
            os.kill(worker, signal.SIGKILL)
        assert await running == {"cut": 30}
        upstream.answer(ANSWER)
        assert await ask_all([root], 30, key="rk-parallel") == {200: 30}
        relay.terminate()
        assert await asyncio.to_thread(relay.wait, 20) == 0


def workers_of(parent: int) -> list[int]:
    """The processes that serve, among the children of that one."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            status = (place / "stat").read_text().rpartition(")")[2].split()
            if int(status[1]) == parent and b"spawn_main" in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


async def test_what_ran_when_a_relay_was_killed_counts_as_spent(
    tmp_path: Path, upstream: FakeUpstream, settings: dict[str, Any]
) -> None:
    keys = {KEY: {"budget_nano": 10 * COST_NANO}}
    settings["database_url"] = "sqlite:///relay.db"
    with replicas(tmp_path, keys, **settings) as [(relay, root)]:
        assert await ask_all([root], 2) == {200: 2}
        upstream.answer(held(Gate()))
        running = asyncio.create_task(ask_all([root], 3))
        await upstream.until(lambda: len(upstream.requests) == 5)
        relay.kill()
        assert await running == {"cut": 3}
    upstream.answer(ANSWER)
    with replicas(tmp_path, keys, **settings) as [(_, root)]:
        assert await ask_all([root], 20) == {200: 5, 429: 15}
