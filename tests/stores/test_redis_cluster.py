"""Counters, the mode and letters in a real Redis Cluster of three servers."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from counting import ask, granted, holder, passes, reserve
from redis.crc import key_slot
from servers import RedisServer, free_port
from waiting import until

from relay.errors import Overloaded
from relay.stores.counters import Ask, Granted
from relay.stores.counters.redis import RedisCounters
from relay.stores.redis_post import RedisPost
from relay.stores.redis_word import RedisWord

SLOTS = 16384
SERVERS = 3
BUS = 10_000
"""How far above its port a server listens for the others."""

OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
PARTLY = ("--cluster-require-full-coverage", "no")


def cluster_server(*options: str) -> RedisServer:
    server = RedisServer(*OPTIONS, *options)
    while not fits(server.port):
        server.port = free_port()
    return server


def fits(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port + BUS)):
            return True
    except (OSError, OverflowError):
        return False


def owner(slot: int) -> int:
    """The number of the server that has it at first."""
    return slot * SERVERS // SLOTS


class Cluster:
    """Three servers, each of which has a third of the slots."""

    def __init__(self) -> None:
        self.servers = [cluster_server(*PARTLY) for _ in range(SERVERS)]

    def start(self) -> None:
        for server in self.servers:
            server.start()
        for number, server in enumerate(self.servers):
            slots = [slot for slot in range(SLOTS) if owner(slot) == number]
            self.tell(number, "SET-CONFIG-EPOCH", number + 1)
            self.tell(number, "ADDSLOTS", *slots)
            self.tell(0, "MEET", "127.0.0.1", server.port)
        self.wait()

    def wait(self) -> None:
        """Until all know of all."""
        until(lambda: all(self.knows_all(number) for number in range(SERVERS)))

    def tell(self, number: int, *words: Any) -> Any:
        with self.servers[number].client() as client:
            return client.execute_command("CLUSTER", *words)

    def knows_all(self, number: int) -> bool:
        with self.servers[number].client() as client:
            info = client.cluster("info")
            return info["cluster_state"] == "ok" and int(info["cluster_slots_ok"]) == SLOTS

    def move(self, number: int, other: int) -> None:
        """Everything that the one has, to the other."""
        with self.servers[number].client() as client:
            keys = client.keys("*")
            assert keys
            where = "127.0.0.1", self.servers[other].port
            client.execute_command("MIGRATE", *where, "", 0, 5000, "KEYS", *keys)

    def name(self, number: int) -> str:
        return str(self.tell(number, "MYID"))

    def empty(self) -> None:
        for server in self.servers:
            server.start()
            with server.client() as client:
                client.flushall()
        self.wait()

    def remove(self) -> None:
        for server in self.servers:
            server.remove()


@pytest.fixture(scope="module")
def whole_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture
def cluster(whole_cluster: Cluster) -> Cluster:
    whole_cluster.empty()
    return whole_cluster


@asynccontextmanager
async def replica(server: RedisServer, *, local: bool = False) -> AsyncIterator[RedisCounters]:
    counters = RedisCounters(server.url, timeout_s=5, local=local)
    yield counters
    await counters.aclose()


def group_at(number: int) -> str:
    """A group whose counts that server has."""
    return next(
        name
        for name in map("team-{}".format, count())
        if owner(key_slot(f"{{{name}}}".encode())) == number
    )


def call_of(group: str, **limits: Any) -> Ask:
    return ask(holder(group, **limits))._replace(group=group)


async def test_all_servers_count_and_replicas_count_together(cluster: Cluster) -> None:
    calls = [call_of(f"team-{number}", parallel=5) for number in range(12)]
    async with replica(cluster.servers[0]) as one, replica(cluster.servers[2]) as other:
        wanted = [(counters, call) for call in calls for counters in (one, other)] * 4
        outcomes = await asyncio.gather(*(reserve(counters, call) for counters, call in wanted))
        for call in calls:
            assert (
                sum(
                    isinstance(outcome, Granted) and asked is call
                    for outcome, (_, asked) in zip(outcomes, wanted, strict=True)
                )
                == 5
            )
        for outcome, (counters, _) in zip(outcomes, wanted, strict=True):
            if isinstance(outcome, Granted):
                counters.settle(outcome, tokens=0, cost_nano=0)
        for server in cluster.servers:
            with server.client() as client:
                assert client.dbsize() > 0
                await asyncio.to_thread(until, lambda: not client.keys("*:leases"))
        for call in calls:
            assert await passes(one, call, times=7) == 5


async def test_a_slot_may_move_to_another_server(cluster: Cluster) -> None:
    call = call_of(group_at(0), parallel=3)
    slot = key_slot(f"{{{call.group}}}".encode())
    async with replica(cluster.servers[0]) as counters:
        await granted(counters, call)
        cluster.tell(1, "SETSLOT", slot, "IMPORTING", cluster.name(0))
        cluster.tell(0, "SETSLOT", slot, "MIGRATING", cluster.name(1))
        cluster.move(0, 1)
        await granted(counters, call)  # by ASK
        for number in (1, 0, 2):
            cluster.tell(number, "SETSLOT", slot, "NODE", cluster.name(1))
        assert await passes(counters, call, times=5) == 1  # by MOVED
        cluster.empty()
        for number in (0, 1, 2):
            cluster.tell(number, "SETSLOT", slot, "NODE", cluster.name(0))
        cluster.wait()


async def test_a_server_that_is_gone_takes_only_its_slots_along(cluster: Cluster) -> None:
    here, there = call_of(group_at(0), parallel=2), call_of(group_at(2), parallel=2)
    async with (
        replica(cluster.servers[0], local=True) as one,
        replica(cluster.servers[1], local=True) as other,
    ):
        for counters in (one, other):
            await granted(counters, there)
            await granted(counters, here)
        cluster.servers[2].stop()
        assert await passes(one, there, times=3) == 2  # by itself, and so does the other
        assert await passes(other, there, times=3) == 2
        assert await passes(one, here, times=3) == 0
        cluster.servers[2].start()
        async with asyncio.timeout(30):
            while await passes(one, there) == 0:  # it had nothing any more
                await asyncio.sleep(0.05)


async def test_a_cluster_without_slots_is_away() -> None:
    server = cluster_server()
    server.start()
    async with replica(server) as counters:
        with pytest.raises(Overloaded):
            await reserve(counters, call_of("team", parallel=1))
    server.remove()


async def test_the_mode_and_letters_find_their_server(cluster: Cluster) -> None:
    post = RedisPost(cluster.servers[1].url, "test:")
    boxes = [f"box-{number}" for number in range(9)]
    for box in boxes:
        await post.send(box, box.encode(), ttl_s=60)
        await post.mark(f"mark-{box}", ttl_s=60)
    assert [await post.next(box) for box in boxes] == [box.encode() for box in boxes]
    assert all([await post.is_marked(f"mark-{box}") for box in boxes])
    await post.remove(*(f"mark-{box}" for box in boxes))
    assert not any([await post.is_marked(f"mark-{box}") for box in boxes])
    await post.aclose()
    for number in range(SERVERS):
        word = RedisWord(cluster.servers[0].url, f"{{{group_at(number)}}}:mode")
        assert await word.begin("local")
        assert not await word.begin("remote")
        await word.set("auto")
        assert await word.get() == "auto"
        await word.aclose()
