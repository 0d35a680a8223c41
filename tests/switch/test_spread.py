"""A mode set by hand at one replica reaches the others, through a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from servers import RedisServer
from waiting import until

from relay.settings import Mode
from relay.stores import StoreUnavailable
from relay.stores.redis_word import RedisWord
from relay.switch import KeptMode
from relay.switch.spread import Spread


class Replica:
    """One machine: its file, as the workers there read it, and what spreads it."""

    def __init__(self, folder: Path, server: RedisServer, key: str) -> None:
        folder.mkdir()
        self.file = KeptMode(folder / "state.json")
        self.spread = Spread(KeptMode(folder / "state.json"), RedisWord(server.url, key))

    @property
    def mode(self) -> Mode | None:
        return self.file.read()


@pytest.fixture
async def replicas(
    tmp_path: Path, redis_server: RedisServer
) -> AsyncIterator[tuple[Replica, Replica]]:
    here, there = (Replica(tmp_path / name, redis_server, f"{tmp_path}") for name in "ab")
    yield here, there
    for replica in (here, there):
        await replica.spread.aclose()


async def meet(*replicas: Replica) -> None:
    for _ in range(2):
        for replica in replicas:
            await replica.spread.agree()


async def test_what_is_set_at_one_replica_holds_at_all(replicas: tuple[Replica, Replica]) -> None:
    here, there = replicas
    await meet(here, there)
    assert (here.mode, there.mode) == (None, None)
    for setter, mode in ((here, "local"), (there, "remote"), (here, None), (there, "auto")):
        setter.file.write(mode)
        await meet(here, there)
        assert (here.mode, there.mode) == (mode, mode)


async def test_one_that_comes_later_takes_what_holds(replicas: tuple[Replica, Replica]) -> None:
    here, there = replicas
    here.file.write("local")
    await here.spread.agree()
    there.file.write("remote")  # from before it was stopped
    await there.spread.agree()
    assert there.mode == "local"


@pytest.mark.parametrize("first", ["here", "there"])
async def test_two_that_find_no_word_at_once_lose_none(
    replicas: tuple[Replica, Replica], redis_server: RedisServer, tmp_path: Path, first: str
) -> None:
    here, there = replicas
    there.file.write("remote")

    class Slow(RedisWord):
        """A word whose readers have all read before any of them writes."""

        async def get(self) -> str | None:
            word = await super().get()
            await both.wait()
            return word

    both = asyncio.Barrier(2)
    spreads = [
        Spread(replica.file, Slow(redis_server.url, f"{tmp_path}"))
        for replica in (replicas if first == "here" else replicas[::-1])
    ]
    for _ in range(3):
        await asyncio.gather(*(spread.agree() for spread in spreads))
    assert (here.mode, there.mode) == ("remote", "remote")
    for spread in spreads:
        await spread.aclose()


async def test_the_first_mode_holds_when_two_begin_with_different_ones(
    replicas: tuple[Replica, Replica],
) -> None:
    here, there = replicas
    here.file.write("local")
    there.file.write("remote")
    await meet(here, there)
    assert (here.mode, there.mode) == ("local", "local")


async def test_what_no_mode_is_called_is_none(
    replicas: tuple[Replica, Replica], redis_server: RedisServer, tmp_path: Path
) -> None:
    here, _ = replicas
    here.file.write("local")
    await here.spread.agree()
    with redis_server.client() as client:
        client.set(f"{tmp_path}", "sideways")
    await here.spread.agree()
    assert here.mode is None


async def test_the_word_is_spread_again_when_redis_has_lost_it(
    replicas: tuple[Replica, Replica], redis_server: RedisServer, tmp_path: Path
) -> None:
    here, there = replicas
    here.file.write("local")
    await meet(here, there)
    with redis_server.client() as client:
        client.delete(f"{tmp_path}")
        await here.spread.agree()
        assert client.get(f"{tmp_path}") == "local"
    there.file.write("remote")
    await meet(there, here)
    assert (here.mode, there.mode) == ("remote", "remote")


async def test_a_redis_that_is_not_there_is_said_without_its_password(tmp_path: Path) -> None:
    word = RedisWord("redis://:canary@127.0.0.1:1/0", "key")
    for attempt in (word.get(), word.set("local"), word.begin("local")):
        with pytest.raises(StoreUnavailable) as caught:
            await attempt
        assert "canary" not in str(caught.value)
    await word.aclose()


async def test_it_runs_by_itself_until_it_is_closed(replicas: tuple[Replica, Replica]) -> None:
    here, there = replicas
    here.spread.start()
    there.spread.start()
    there.file.write("remote")
    await asyncio.to_thread(until, lambda: here.mode == "remote")


async def test_it_goes_on_while_redis_is_away(tmp_path: Path, redis_server: RedisServer) -> None:
    class Rare:
        """A real word that fails the first time, as one does whose Redis is restarted."""

        def __init__(self) -> None:
            self.word = RedisWord(redis_server.url, f"{tmp_path}")
            self.failed = False

        async def get(self) -> str | None:
            if not self.failed:
                self.failed = True
                raise StoreUnavailable("away")
            return await self.word.get()

        async def set(self, word: str) -> None:
            await self.word.set(word)

        async def begin(self, word: str) -> bool:
            return await self.word.begin(word)

        async def aclose(self) -> None:
            await self.word.aclose()

    file = KeptMode(tmp_path / "state.json")
    file.write("local")
    spread = Spread(KeptMode(tmp_path / "state.json"), Rare())
    spread.start()
    with redis_server.client() as client:
        await asyncio.to_thread(until, lambda: client.get(f"{tmp_path}") == "local")
    await spread.aclose()
