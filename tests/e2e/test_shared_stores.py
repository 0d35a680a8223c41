"""Replicas on one PostgreSQL and one Redis: keys, budgets and the ledger hold over all of them."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from front import in_front
from limited import COST_NANO, ask, ask_all, replicas
from running import chat
from servers import PostgresServer, RedisServer, settle
from waiting import until

from relay.stores import prepare

ADMIN = {"authorization": "Bearer ak-admin-0123456789"}
ANSWER = Script(body=transcripts.chat_body("x"), headers=[(b"content-type", b"application/json")])
UNKNOWN = "rk-" + "A" * 43
IN_FORCE_S = 5.0
"""Within this a revoked key opens nothing anywhere."""


def shared(upstream: FakeUpstream, redis: RedisServer, database_url: str) -> dict[str, Any]:
    return {
        "upstream_url": upstream.url,
        "redis_url": redis.url,
        "database_url": database_url,
        "admin_key": "ak-admin-0123456789",
        "log_level": "warning",
        "ledger_flush_s": 0.2,
    }


@dataclass
class Pair:
    """Two replicas behind nginx, and what they share."""

    upstream: FakeUpstream
    redis: RedisServer
    database_url: str
    roots: list[str]
    front: str

    def make_key(self, **fields: Any) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.roots[0]}/admin/keys", json=fields, headers=ADMIN, trust_env=False
        )
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def rows(self, key_id: str) -> list[Any]:
        return query(
            self.database_url,
            "SELECT status, cost_nano FROM relay_ledger WHERE key_id = $1",
            key_id,
        )


def query(url: str, sql: str, *arguments: Any) -> list[Any]:
    async def ask_it() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    return settle(ask_it())


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, _postgres: PostgresServer, shared_redis: RedisServer
) -> Iterator[Pair]:
    _postgres.start()
    shared_redis.start()
    with shared_redis.client() as client:
        client.flushall()
    url = _postgres.new_database()
    settle(prepare(url))
    with FakeUpstream.in_thread() as upstream:
        upstream.answer(ANSWER)
        settings = shared(upstream, shared_redis, url)
        folder = tmp_path_factory.mktemp("pair")
        with replicas(folder, {}, count=2, **settings) as running:
            roots = [root for _, root in running]
            with in_front(folder, roots) as front:
                pair = Pair(upstream, shared_redis, url, roots, front)
                pair.make_key(name="first")  # with it all of them are closed, when they hear of it
                for root in roots:
                    until(lambda root=root: settle(ask(root, key="none")) == 401)
                yield pair


async def test_of_400_at_once_a_key_of_the_database_has_its_100_and_each_has_its_row(
    pair: Pair,
) -> None:
    made = pair.make_key(name="some", budget_usd=100 * COST_NANO / 1e9, rpm=1000, parallel=1000)
    before, gate = len(pair.upstream.requests), Gate()
    pair.upstream.answer(Script(body=ANSWER.body, headers=ANSWER.headers, gate=gate))

    def heard(found: "Counter[int | str]") -> None:
        if found[429] == 300:
            gate.open()

    found = await ask_all([pair.front], 400, key=made["key"], heard=heard)
    assert found == {200: 100, 429: 300}
    assert len(pair.upstream.requests) - before == 100
    await asyncio.to_thread(until, lambda: len(pair.rows(made["id"])) == 400)
    rows = pair.rows(made["id"])
    assert Counter(row["status"] for row in rows) == {200: 100, 429: 300}
    assert sum(row["cost_nano"] or 0 for row in rows) == 100 * COST_NANO


async def test_a_revoked_key_opens_nothing_anywhere_within_five_seconds(pair: Pair) -> None:
    pair.upstream.answer(ANSWER)
    made = pair.make_key(name="gone", models=["m"])
    for root in pair.roots:
        assert await ask(root, key=made["key"]) == 200
    async with httpx.AsyncClient(headers=ADMIN, trust_env=False) as admin:
        changed = await admin.patch(
            f"{pair.roots[1]}/admin/keys/{made['id']}", json={"models": ["other"]}
        )
        assert changed.status_code == 200
        assert await ask(pair.roots[1], key=made["key"]) == 403
        revoked = await admin.delete(f"{pair.roots[0]}/admin/keys/{made['id']}")
        assert revoked.status_code == 200
        refused = await admin.patch(
            f"{pair.roots[1]}/admin/keys/{made['id']}", json={"name": "alive"}
        )
        assert refused.status_code == 409
    async with asyncio.timeout(IN_FORCE_S):
        for root in pair.roots:
            while await ask(root, key=made["key"]) != 401:
                await asyncio.sleep(0.05)


async def test_wrong_keys_leave_nothing_behind_anywhere(pair: Pair) -> None:
    def kept() -> dict[str, int]:
        tables = query(
            pair.database_url, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'relay_%'"
        )
        counts = {
            name: query(pair.database_url, f"SELECT count(*) FROM {name}")[0][0]
            for (name,) in tables
        }
        with pair.redis.client() as client:
            return counts | {"redis": client.dbsize()}

    made = pair.make_key(name="good")
    secret = made["key"]
    good = {"authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(trust_env=False, headers=good) as client:
        minted = await client.post(f"{pair.front}/v1/client_secrets", json={})
    token = minted.json()["value"]
    until(lambda: kept() == kept())
    before = kept()
    forms: tuple[Callable[[int], str], ...] = (
        lambda n: f"rk-{n:043}",
        lambda n: f"{token[:-8]}{n:08}",
        lambda n: f"sk-{n}",
        lambda n: f"e30.{n:032}.x",
        lambda n: f"{secret}{n}",
    )
    wrong = [form(number) for number in range(100) for form in forms]
    statuses = await asyncio.gather(*(ask(pair.front, key=key) for key in wrong))
    assert Counter(statuses) == {401: 500}
    assert kept() == before


@pytest.mark.parametrize("mode", ["open", "closed"])
async def test_both_databases_may_go_and_come_back_and_no_answer_is_missing(
    tmp_path: Path,
    upstream: FakeUpstream,
    redis_server: RedisServer,
    postgres_server: PostgresServer,
    postgres_url: str,
    mode: str,
) -> None:
    upstream.answer(ANSWER)
    await asyncio.to_thread(settle, prepare(postgres_url))
    settings = shared(upstream, redis_server, postgres_url) | {"limits_without_redis": mode}
    answered: dict[str, int] = {}
    stopping = False

    async def load(number: int, root: str, key: str) -> None:
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(trust_env=False, timeout=30, headers=headers) as client:
            for turn in itertools.count():
                if stopping:
                    return
                id_ = f"call-{number}-{turn}"
                answer = await client.post(
                    f"{root}/v1/chat/completions", json=chat(), headers={"x-request-id": id_}
                )
                answered[id_] = answer.status_code

    async def more(status: int, calls: int = 40) -> None:
        def there() -> int:
            return sum(one == status for one in answered.values())

        before = there()
        async with asyncio.timeout(30):
            while there() < before + calls:
                await asyncio.sleep(0.01)

    away = 200 if mode == "open" else 503
    with replicas(tmp_path, {}, count=2, **settings) as two:
        roots = [root for _, root in two]
        async with httpx.AsyncClient(headers=ADMIN, trust_env=False, timeout=30) as admin:
            made = await admin.post(
                f"{roots[0]}/admin/keys", json={"name": "busy", "rpm": 1_000_000, "parallel": 500}
            )
        key = made.json()["key"]
        for root in roots:  # all of them have read the keys
            await asyncio.to_thread(until, lambda root=root: settle(ask(root, key=UNKNOWN)) == 401)
        callers = [asyncio.create_task(load(n, roots[n % 2], key)) for n in range(8)]
        await more(200)
        await asyncio.to_thread(postgres_server.stop)
        await more(200)
        await asyncio.to_thread(redis_server.stop)
        await more(away)
        assert await ask(roots[0], key=UNKNOWN) == 401
        await asyncio.to_thread(postgres_server.start)
        await more(away)
        await asyncio.to_thread(redis_server.start)
        await more(200)
        stopping = True
        await asyncio.gather(*callers)
        for relay, _ in two:
            relay.terminate()
        for relay, _ in two:
            assert await asyncio.to_thread(relay.wait, 20) == 0
    assert set(answered.values()) == {200, away}
    key_id = made.json()["id"]
    sql = "SELECT request_id, status FROM relay_ledger WHERE key_id = $1"
    rows = query(postgres_url, sql, key_id)
    assert {row["request_id"]: row["status"] for row in rows} == answered
    assert len(rows) == len(answered), "once each"
    sql = "SELECT sum(requests) FROM relay_hours WHERE key_id = $1"
    [(hours,)] = query(postgres_url, sql, key_id)
    assert hours == len(answered)
