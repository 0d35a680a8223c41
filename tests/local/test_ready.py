"""A backend with nothing but the three methods of the protocol serves as a local one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from running import StartRelay

from local.calls import body, chat_call
from relay.local import as_backend
from relay.settings import Settings
from relay.types import Answer, Call, Completion


class Fixed:
    """Answers everything with the same body."""

    name = "fixed"
    closed = False

    async def complete(self, call: Call) -> Completion:
        return Completion(200, ((b"content-type", b"application/json"),), b'{"choices":[]}')

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        yield Events()

    async def aclose(self) -> None:
        self.closed = True


class Events:
    status = 200
    headers = ((b"content-type", b"text/event-stream; charset=utf-8"),)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"data: [DONE]\n\n"


async def test_it_is_a_model_of_its_name_and_always_ready() -> None:
    fixed = Fixed()
    backend = as_backend(fixed, Settings())
    assert [card.id for card in backend.cards()] == ["fixed"]
    backend.start()
    assert backend.state() == "ready"
    assert await body(backend, chat_call()) == {"choices": []}
    await backend.aclose()
    assert fixed.closed


def test_it_answers_over_http(start_relay: StartRelay) -> None:
    relay = start_relay(local=Fixed())
    assert relay.ask().json() == {"choices": []}
    assert relay.ask(stream=True).text == "data: [DONE]\n\n"
