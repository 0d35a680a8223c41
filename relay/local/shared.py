"""The local model as a worker sees it: a backend in another process, which all workers share.

    start()      watches: the process tells how the model does, and is noticed when it dies
    a call       one connection; closing it cancels

While the process is away calls fail at once (503); it is started again by the workers' parent, and
heard of as soon as it accepts.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import orjson

from relay.errors import BackendError, NoUpstream
from relay.local import frames
from relay.local.model import USUAL_PATHS
from relay.schema import ModelCard
from relay.types import Answer, Call, Completion, RawHeaders

AWAY = "The process of the local model has ended; it is being started again."
RETRY_AFTER_S = 1
"""When those who came while it was away should come back."""

CONNECT_AGAIN_S = 0.2
"""Between two attempts when the socket itself is not there."""


class SharedBackend:
    """Answers from the process behind that socket."""

    name = "local"

    def __init__(self, path: Path) -> None:
        self._path = path
        self.paths = frozenset(USUAL_PATHS)
        self._state = "loading"
        self._cards: tuple[ModelCard, ...] = ()
        self._watching: asyncio.Task[None] | None = None
        self._away = False

    def cards(self) -> Sequence[ModelCard]:
        """The models it has told of; none before it did."""
        return self._cards

    def start(self) -> None:
        """Have the model loaded there."""
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    def state(self) -> str:
        """`loading` until the process has told; what it told last; or that it is away."""
        return self._state

    async def complete(self, call: Call) -> Completion:
        """The whole answer.

        Raises:
            RelayError: as the backend in the process does.
            NoUpstream: the process is away.
        """
        async with self._ask(call, whole=True) as (status, headers, reader):
            pieces = [piece async for piece in _pieces(reader)]
            return Completion(status, headers, b"".join(pieces))

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        """The answer once it has begun; leaving cancels it.

        Raises:
            As `complete`; later on, BackendError out of the answer when the process has died.
        """
        async with self._ask(call, whole=False) as (status, headers, reader):
            yield SharedAnswer(status, headers, reader)

    async def aclose(self) -> None:
        """Watch no longer; the process ends when nobody does."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    @asynccontextmanager
    async def _ask(
        self, call: Call, *, whole: bool
    ) -> AsyncIterator[tuple[int, RawHeaders, StreamReader]]:
        self.start()
        if self._away:
            raise _away(self._state)
        try:
            reader, writer = await self._connect()
        except OSError as exc:
            raise _away() from exc
        try:
            if call.content is not None:
                body = b"".join([piece async for piece in call.content])
                call = replace(call, body=body, content=None)
            writer.write(frames.of_call(call, whole=whole))
            try:
                kind, content = await frames.read(reader)
            except frames.Lost as exc:
                raise _away() from exc
            if kind == frames.FAILURE:
                raise frames.failure_of(content)
            yield *frames.answer_of(content), reader
        finally:
            writer.close()

    async def _watch(self) -> None:
        while True:
            try:
                reader, writer = await self._connect()
            except OSError:
                self._lose(AWAY)
                await asyncio.sleep(CONNECT_AGAIN_S)
                continue
            try:
                # Accepted or not yet: while the process is away this waits for the next one.
                writer.write(frames.frame(frames.WATCH))
                problem = AWAY
                with suppress(frames.Lost):
                    while True:
                        kind, content = await frames.read(reader)
                        if kind == frames.FAILURE:
                            problem = frames.failure_of(content).message
                        else:
                            self._hear(content)
                self._lose(problem)
            finally:
                writer.close()

    def _hear(self, content: bytes) -> None:
        told = orjson.loads(content)
        self.name, self._state = told["name"], told["state"]
        self.paths = frozenset(told["paths"])
        self._cards = tuple(ModelCard.model_validate(card) for card in told["cards"])
        self._away = False

    def _lose(self, problem: str) -> None:
        self._away = True
        self._state = problem

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        return await asyncio.open_unix_connection(str(self._path), limit=frames.BUFFER_BYTES)


class SharedAnswer:
    """An answer that has begun in the other process."""

    def __init__(self, status: int, headers: RawHeaders, reader: StreamReader) -> None:
        self.status = status
        self.headers = headers
        self._reader = reader

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _pieces(self._reader)

    async def pour(self, sink: Callable[[bytes], Awaitable[None] | None]) -> bytes:
        """Give each piece to `sink`; see `Answer`."""
        async for piece in self:
            if (wait := sink(piece)) is not None:
                await wait
        return b""


async def _pieces(reader: StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            kind, content = await frames.read(reader)
        except frames.Lost as exc:
            raise BackendError(
                "The process of the local model ended in the middle of the answer.",
                code="local_model_failed",
            ) from exc
        if kind == frames.END:
            return
        if kind == frames.FAILURE:
            raise frames.failure_of(content)
        yield content


def _away(problem: str = AWAY) -> NoUpstream:
    return NoUpstream(problem, headers=[(b"retry-after", b"%d" % RETRY_AFTER_S)])
