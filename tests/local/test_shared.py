"""One backend behind a unix socket, as several workers have it."""

import asyncio
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from local.calls import body, chat_call, events, text, until
from relay.errors import (
    BackendError,
    InternalError,
    InvalidRequest,
    NoUpstream,
    Overloaded,
    PromptTooLong,
    UpstreamStatus,
)
from relay.local import LocalBackend, Prompt
from relay.local.frames import FAILURE, frame, of_failure
from relay.local.host import Host
from relay.local.shared import AWAY, SharedBackend
from relay.local.threaded import ThreadedBackend
from relay.types import Answer, Call, Completion


class Words:
    name = "words"

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.running = 0

    def generate(self, prompt: Prompt) -> Iterator[str]:
        self.running += 1
        try:
            if prompt.query == "for ever":
                while True:
                    yield "again ü "
            if prompt.query == "fail":
                yield "fine "
                raise RuntimeError
            yield from ("You said: ", prompt.query)
        finally:
            self.running -= 1
            self.closed.set()


class Refusing(ThreadedBackend):
    """Fails in the ways that it was made with."""

    def __init__(self, failure: Exception) -> None:
        super().__init__(Words(), parallel=1)
        self.failure = failure
        self.told = "loading"
        self.paths = {"embeddings", "chat/completions"}

    def state(self) -> str:
        return self.told

    async def complete(self, call: Call) -> Completion:
        raise self.failure

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        raise self.failure
        yield  # what makes it a generator


@pytest.fixture
def path() -> Iterator[Path]:
    """A place for a socket; the usual directories of tests have too long a name."""
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        yield Path(folder) / "model"


def listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    listener.bind(str(path))
    listener.listen()
    return listener


@asynccontextmanager
async def hosted(path: Path, backend: LocalBackend) -> AsyncIterator[SharedBackend]:
    """What a worker has of that backend."""
    host, shared, serving = Host(backend), SharedBackend(path), asyncio.Event()
    task = asyncio.create_task(host.serve(listen(path), serving.set))
    await serving.wait()
    try:
        yield shared
    finally:
        await shared.aclose()
        host.end()
        await task


async def test_an_answer_is_the_backends_own_in_both_forms(path: Path) -> None:
    async with hosted(path, ThreadedBackend(Words(), parallel=2)) as shared:
        chunks = await events(shared, chat_call("ü", stream=True))
        assert text(chunks) == "You said: ü"
        answer = await body(shared, chat_call("ü"))
        assert answer["choices"][0]["message"]["content"] == "You said: ü"
        assert answer["model"] == "asked"


async def test_a_body_that_was_not_read_yet_is_sent_along(path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"input"'
        yield b": 1}"

    seen: list[Call] = []

    class Seeing(ThreadedBackend):
        async def complete(self, call: Call) -> Completion:
            seen.append(call)
            return Completion(200, (), b"")

    call = replace(chat_call(path="embeddings"), payload={}, content=pieces())
    async with hosted(path, Seeing(Words(), parallel=1)) as shared:
        await shared.complete(call)
    assert (seen[0].path, seen[0].body, seen[0].payload) == ("embeddings", b'{"input": 1}', {})


async def test_it_tells_its_name_models_and_state_and_what_changes(path: Path) -> None:
    backend = Refusing(RuntimeError())
    async with hosted(path, backend) as shared:
        assert (shared.state(), shared.cards()) == ("loading", ())
        shared.start()
        await until(lambda: bool(shared.cards()))
        [card] = shared.cards()
        assert (shared.name, card.id, card.owned_by) == ("words", "words", "relay")
        assert shared.paths == {"chat/completions", "embeddings"}
        backend.told = "ready"
        await until(lambda: shared.state() == "ready")


@pytest.mark.parametrize("way", ["complete", "stream"])
@pytest.mark.parametrize(
    "failure",
    [
        InvalidRequest("no such thing", param="messages"),
        PromptTooLong("too long", param="messages"),
        Overloaded("full", headers=[(b"retry-after", b"5")]),
        BackendError("it failed", code="local_model_failed"),
        UpstreamStatus(429, headers=[(b"retry-after", b"1")], body=b"its own"),
    ],
)
async def test_failures_are_the_backends_own(path: Path, way: str, failure: BackendError) -> None:
    async with hosted(path, Refusing(failure)) as shared:
        with pytest.raises(type(failure)) as raised:
            call = chat_call()
            await (shared.complete(call) if way == "complete" else events(shared, call))
    assert raised.value.envelope() == failure.envelope()
    assert list(raised.value.headers) == list(failure.headers)
    assert raised.value.status == failure.status


async def test_what_a_backend_should_not_raise_is_a_fault_without_its_words(path: Path) -> None:
    async with hosted(path, Refusing(RuntimeError("quotes the prompt"))) as shared:
        with pytest.raises(InternalError, match=r"^The local model failed\.$"):
            await shared.complete(chat_call())


async def test_a_failure_in_the_middle_comes_out_of_the_answer(path: Path) -> None:
    async with hosted(path, ThreadedBackend(Words(), parallel=1)) as shared:
        async with shared.stream(chat_call("fail", stream=True)) as answer:
            with pytest.raises(BackendError) as raised:
                _ = [event async for event in answer]
        assert raised.value.code == "local_model_failed"


@pytest.mark.parametrize("way", ["complete", "stream"])
async def test_who_leaves_ends_the_work(path: Path, way: str) -> None:
    model = Words()
    async with hosted(path, ThreadedBackend(model, parallel=1)) as shared:
        call = chat_call("for ever")
        ask = shared.complete(call) if way == "complete" else events(shared, call)
        task = asyncio.create_task(ask)
        await until(lambda: model.running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(model.closed.is_set)


async def test_it_ends_after_the_last_answer_and_not_before(path: Path) -> None:
    host, shared, serving = (
        Host(ThreadedBackend(Words(), parallel=1)),
        SharedBackend(path),
        asyncio.Event(),
    )
    task = asyncio.create_task(host.serve(listen(path), serving.set))
    await serving.wait()
    async with shared.stream(chat_call("for ever", stream=True)) as answer:
        received = aiter(answer)
        await anext(received)
        host.end()
        for _ in range(20):
            assert b"data: {" in await anext(received)
        assert not task.done()
    await shared.aclose()
    await task


@asynccontextmanager
async def dying(path: Path, when: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[None]:
    """A process that does that to whoever connects, and is gone."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        when(writer)
        writer.close()

    async with await asyncio.start_unix_server(serve, sock=listen(path)):
        yield


async def test_while_the_process_is_away_calls_fail_at_once_and_go_on_when_it_is_back(
    path: Path,
) -> None:
    shared = SharedBackend(path)
    async with dying(path, lambda _: None):
        with pytest.raises(NoUpstream, match=AWAY) as raised:
            await shared.complete(chat_call())
        assert raised.value.headers == [(b"retry-after", b"1")]
        await until(lambda: shared.state() == AWAY)
        with pytest.raises(NoUpstream):
            await events(shared, chat_call())
    await shared.aclose()
    shared = SharedBackend(path)
    with pytest.raises(NoUpstream):  # nobody listens there at all
        await shared.complete(chat_call())
    await until(lambda: shared.state() == AWAY)
    async with hosted(path, ThreadedBackend(Words(), parallel=1)):
        await until(lambda: shared.state() == "ready")
        assert await body(shared, chat_call())
        await shared.aclose()


async def test_a_process_that_dies_in_the_middle_is_a_failure_of_the_answer(path: Path) -> None:
    def half(writer: asyncio.StreamWriter) -> None:
        writer.write(frame(b"h", b"[200, []]") + frame(b"p", b"data: 1\n\n"))

    shared = SharedBackend(path)
    async with dying(path, half):
        received = []
        async with shared.stream(chat_call()) as answer:
            with pytest.raises(BackendError, match="in the middle"):
                async for piece in answer:
                    received.append(piece)
        assert received == [b"data: 1\n\n"]
        await shared.aclose()


async def test_a_model_that_cannot_be_opened_is_said_to_watchers_and_callers(path: Path) -> None:
    told = of_failure(NoUpstream("no such disk"))
    assert told.startswith(FAILURE)
    shared = SharedBackend(path)
    async with dying(path, lambda writer: writer.write(told)):
        with pytest.raises(NoUpstream, match="no such disk"):
            await shared.complete(chat_call())
        await until(lambda: shared.state() == "no such disk")
        with pytest.raises(NoUpstream, match="no such disk"):
            await shared.complete(chat_call())
        await shared.aclose()
