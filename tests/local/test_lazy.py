"""A backend that takes long to make: loading, failing, closing."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from local.calls import body, chat_call, events, no_threads_left, text, until
from relay.errors import NoUpstream
from relay.local import LocalBackend, Prompt
from relay.local.feed import CLOSED
from relay.local.lazy import CannotLoad, LazyBackend
from relay.local.threaded import ThreadedBackend


class Words:
    def generate(self, prompt: Prompt) -> Iterator[str]:
        yield from ("one ", "two")


class Loading:
    """Makes a backend once it may."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.may = threading.Event()
        self.times = 0
        self.failure = failure

    def __call__(self) -> LocalBackend:
        self.times += 1
        assert self.may.wait(30)
        if self.failure is not None:
            raise self.failure
        return ThreadedBackend(Words(), parallel=2)


async def test_calls_wait_until_it_is_loaded_which_is_done_once() -> None:
    loading = Loading()
    backend = LazyBackend("words", loading)
    assert [card.id for card in backend.cards()] == ["words"]
    assert backend.state() == "loading"
    assert loading.times == 0
    asked = [
        asyncio.create_task(body(backend, chat_call())),
        asyncio.create_task(events(backend, chat_call(stream=True))),
    ]
    await until(lambda: loading.times == 1)
    backend.start()
    loading.may.set()
    answer, chunks = await asyncio.gather(*asked)
    assert answer["choices"][0]["message"]["content"] == text(chunks) == "one two"
    assert backend.state() == "ready"
    assert loading.times == 1
    await backend.aclose()
    assert no_threads_left("relay-load")


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (CannotLoad("It has no chat template."), "It has no chat template."),
        (
            RuntimeError("quotes a path"),
            "The model words could not be loaded (RuntimeError); the relay's log says why.",
        ),
    ],
)
async def test_one_that_cannot_be_loaded_says_why(failure: Exception, said: str) -> None:
    loading = Loading(failure)
    loading.may.set()
    backend = LazyBackend("words", loading)
    backend.start()
    await until(lambda: backend.state() != "loading")
    assert backend.state() == said
    for _ in range(2):
        with pytest.raises(NoUpstream) as raised:
            await backend.complete(chat_call())
        assert raised.value.message == said
    assert loading.times == 1
    await backend.aclose()


async def test_closing_waits_for_what_is_being_loaded() -> None:
    loading = Loading()
    backend = LazyBackend("words", loading)
    waiting = asyncio.create_task(backend.complete(chat_call()))
    await until(lambda: loading.times == 1)
    closing = asyncio.create_task(backend.aclose())
    loading.may.set()
    await closing
    assert backend.state() == CLOSED
    with pytest.raises(NoUpstream):
        await waiting
    assert no_threads_left("relay-load")


async def test_one_that_was_never_loaded_closes_at_once() -> None:
    backend = LazyBackend("words", Loading())
    await backend.aclose()
    assert backend.state() == CLOSED


def test_a_loop_that_has_gone_is_no_trouble_for_the_thread() -> None:
    loading = Loading()
    backend = LazyBackend("words", loading)

    async def begin() -> None:
        backend.start()

    asyncio.run(begin())
    loading.may.set()
    assert no_threads_left("relay-load")
    assert backend.state() == "loading"
