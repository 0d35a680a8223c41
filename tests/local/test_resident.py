"""A file in memory while it is needed: loaded once, told of, unloaded, tried again."""

import asyncio
import threading
from pathlib import Path

import pytest

from local.calls import no_threads_left, until
from relay.errors import NoUpstream, Overloaded
from relay.local import resident as module
from relay.local.memory import MIB, Memory
from relay.local.resident import Resident, Unloadable
from relay.local.states import in_words


class Opener:
    """Opens engines, which are just objects here; `gate` holds it up, `failure` makes it fail."""

    def __init__(self) -> None:
        self.opened = 0
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self) -> object:
        assert self.gate.wait(timeout=30)
        if self.failure is not None:
            raise self.failure
        self.opened += 1
        return object()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"x" * 1000)
    return path


@pytest.fixture
def opener() -> Opener:
    return Opener()


def resident(
    file: Path,
    opener: Opener,
    *,
    name: str = "m",
    memory: Memory | None = None,
    idle_s: float = 0.0,
    need: int = 60 * MIB,
) -> Resident:
    return Resident(
        name,
        file,
        weigh=lambda: need,
        open_engine=opener,
        memory=memory or Memory(),
        idle_s=idle_s,
    )


async def use(one: Resident) -> None:
    await one.acquire()
    assert one.engine is not None
    one.release()


def told(one: Resident) -> str:
    return in_words(one.status())


async def test_it_is_loaded_on_first_use_and_only_once(file: Path, opener: Opener) -> None:
    one = resident(file, opener)
    assert (one.state(), told(one)) == ("loading", "unloaded")
    opener.gate.clear()
    users = [asyncio.create_task(use(one)) for _ in range(3)]
    await until(lambda: told(one) == "loading 100 %")
    assert one.state() == "loading"
    opener.gate.set()
    await asyncio.gather(*users)
    assert (one.state(), told(one), opener.opened) == ("ready", "loaded", 1)
    one.start()
    assert told(one) == "loaded"
    await one.aclose()


async def test_a_user_that_leaves_does_not_stop_the_loading(file: Path, opener: Opener) -> None:
    one = resident(file, opener)
    opener.gate.clear()
    leaving, staying = (asyncio.create_task(use(one)) for _ in range(2))
    await until(lambda: one.progress == 1.0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    opener.gate.set()
    await staying
    assert opener.opened == 1
    await one.aclose()


async def test_an_unused_one_is_unloaded_and_comes_back(file: Path, opener: Opener) -> None:
    one = resident(file, opener, idle_s=0.001)
    await use(one)
    await until(lambda: not one.loaded)
    assert (one.state(), told(one)) == ("ready", "unloaded")
    await one.acquire()
    assert opener.opened == 2
    one.release()
    await one.acquire()
    passed = asyncio.get_running_loop().time() + 0.01
    await until(lambda: asyncio.get_running_loop().time() > passed)
    assert one.loaded  # in use
    one.release()
    await until(lambda: not one.loaded)
    await one.aclose()


async def test_one_that_was_loaded_and_never_used_is_idle_too(file: Path, opener: Opener) -> None:
    one = resident(file, opener, idle_s=0.001)
    one.start()
    await until(lambda: one.state() == "ready")
    await until(lambda: not one.loaded)
    await one.aclose()


async def test_an_idle_one_makes_room_for_another_which_waits_while_it_is_busy(
    file: Path, opener: Opener
) -> None:
    memory = Memory(100)
    first = resident(file, opener, name="first", memory=memory)
    second = resident(file, opener, name="second", memory=memory)
    await first.acquire()
    waiting = asyncio.create_task(use(second))
    await until(lambda: told(second).startswith("loading"))
    await until(memory.turn.locked)
    assert first.loaded
    first.release()
    await waiting
    assert (first.loaded, second.loaded) == (False, True)
    for one in (first, second):
        await one.aclose()


async def test_one_that_found_no_room_is_no_failure_and_tries_again(
    file: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.local.memory.WAITING_LIMIT_S", 0.01)
    memory = Memory(100)
    first = resident(file, opener, name="first", memory=memory)
    second = resident(file, opener, name="second", memory=memory)
    await first.acquire()
    for refused in await asyncio.gather(use(second), use(second), return_exceptions=True):
        assert isinstance(refused, Overloaded)
    assert told(second) == "unloaded"
    first.release()
    await use(second)
    for one in (first, second):
        await one.aclose()


async def test_closing_one_that_waits_for_room_does_not_wait_for_it(
    file: Path, opener: Opener
) -> None:
    memory = Memory(100)
    first = resident(file, opener, name="first", memory=memory)
    second = resident(file, opener, name="second", memory=memory)
    await first.acquire()
    waiting = asyncio.create_task(use(second))
    await until(memory.turn.locked)
    async with asyncio.timeout(5):
        await second.aclose()
    with pytest.raises(NoUpstream, match="closed"):
        await waiting
    first.release()
    await first.aclose()


async def test_a_failure_is_told_for_a_while_and_then_tried_again(
    file: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = resident(file, opener)
    opener.failure = Unloadable("It is broken.")
    for _ in range(2):
        with pytest.raises(NoUpstream, match="It is broken"):
            await one.acquire()
    assert one.state() == "It is broken."
    opener.failure = None
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    await use(one)
    assert one.state() == "ready"
    await one.aclose()


@pytest.mark.parametrize("failure", [OSError("secret"), ImportError("secret"), ValueError("x")])
async def test_what_an_engine_raises_is_one_sentence_without_its_words(
    file: Path, opener: Opener, failure: Exception
) -> None:
    one = resident(file, opener)
    opener.failure = failure
    with pytest.raises(NoUpstream, match="could not be loaded") as refused:
        await one.acquire()
    assert "secret" not in refused.value.message
    await one.aclose()


async def test_a_file_that_has_gone_meanwhile_is_a_failure(file: Path, opener: Opener) -> None:
    one = resident(file, opener)
    file.unlink()
    with pytest.raises(NoUpstream, match="could not be loaded"):
        await one.acquire()
    await one.aclose()


async def test_closing_waits_for_the_loading_and_lets_nobody_in(file: Path, opener: Opener) -> None:
    one = resident(file, opener)
    opener.gate.clear()
    one.start()
    await until(lambda: one.progress == 1.0)
    closing = asyncio.create_task(one.aclose())
    await asyncio.sleep(0)
    opener.gate.set()
    await closing
    assert not one.loaded
    one.start()
    with pytest.raises(NoUpstream, match="shutting down"):
        await one.acquire()
    assert no_threads_left("relay-load")


async def test_one_that_is_stuck_is_left_in_memory(file: Path, opener: Opener) -> None:
    one = resident(file, opener)
    await use(one)
    await one.aclose(free=False)
    assert one.loaded


def test_a_thread_whose_event_loop_is_gone_ends(file: Path, opener: Opener) -> None:
    opener.gate.clear()

    async def abandon() -> None:
        one = resident(file, opener)
        one.start()
        await until(lambda: one.progress == 1.0)

    asyncio.run(abandon())
    opener.gate.set()
    assert no_threads_left("relay-load")
