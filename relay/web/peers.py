"""The other processes of a relay with several workers: who has met the wrong one is read to.

    process that was asked    CALL: event's id, owner, whether to stop
    process that has it       HEAD: status, PIECE …, END     what follows; or FAILURE, at any time
    process that was asked    closes the connection: its client has left

Each listens on a unix socket in the folder of their parent, named as it is named in the ids of its
events. Frames are those in which workers ask for the local model.
"""

import asyncio
from abc import ABC, abstractmethod
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from relay.errors import RelayError
from relay.local import frames
from relay.web.shelf import Owner, Shelf, not_found
from relay.web.tape import taken

ENDING_S = 1.0
"""What answers have to go out when a relay stops: by then their streams have ended."""


class Peers:
    """The shelves of all workers; `folder` is where only this user can enter."""

    def __init__(self, shelf: Shelf, folder: Path) -> None:
        self._shelf = shelf
        self._folder = folder
        self._server: asyncio.AbstractServer | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Be there for the others."""
        path = self._path(self._shelf.process)
        self._server = await asyncio.start_unix_server(self._serve, path)

    async def aclose(self) -> None:
        """Be there no more."""
        if self._server is not None:
            self._server.close()
        await end(self._serving)

    @asynccontextmanager
    async def ask(
        self, process: str, event_id: bytes, owner: Owner, *, stop: bool
    ) -> AsyncIterator[AsyncIterator[bytes] | None]:
        """What follows that event, from the process that has it; None when there is no more.

        Raises:
            StreamNotFound, EventsGone, StreamTaken: as that process says.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(self._path(process))
        except OSError:
            raise not_found() from None
        try:
            asked = {"id": event_id.decode(), "owner": owner, "stop": stop}
            writer.write(frames.of_json(frames.CALL, asked))
            lines = _Socket(reader)
            more = await lines.next(frames.HEAD)
            yield pieces_of(lines) if more == b"true" else None
        finally:
            writer.close()

    def _path(self, process: str) -> Path:
        return self._folder / f"resume-{process}"

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # the server has made one
        self._serving.add(task)

        async def send(kind: bytes, content: bytes) -> None:
            writer.write(frames.frame(kind, content))
            await writer.drain()

        try:
            _, content = await frames.read(reader)
            reading = asyncio.create_task(read_to(self._shelf, orjson.loads(content), send))
            leaving = asyncio.create_task(reader.read())
            try:
                await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in (reading, leaving):
                    one.cancel()
                await asyncio.wait({reading, leaving})
        except frames.Lost:
            pass
        finally:
            self._serving.discard(task)
            writer.close()


async def end(answers: Collection[asyncio.Task[None]]) -> None:
    """Let answers go out, which have ended when a relay stops, and cut what does not."""
    for limit_s in (ENDING_S, None):
        if answers := [task for task in answers if not task.done()]:
            await asyncio.wait(answers, timeout=limit_s)
        for task in answers:
            task.cancel()


class Lines(ABC):
    """Where the frames of an answer come from."""

    @abstractmethod
    async def read(self) -> tuple[bytes, bytes]:
        """The next frame: its kind and what is in it. Raises: frames.Lost."""

    async def next(self, wanted: bytes) -> bytes | None:
        """What is in the next frame, None at the end. Raises: RelayError: what it tells."""
        try:
            kind, content = await self.read()
        except frames.Lost:
            raise not_found() from None
        if kind == frames.FAILURE:
            raise frames.failure_of(content)
        return content if kind == wanted else None


class _Socket(Lines):
    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader

    async def read(self) -> tuple[bytes, bytes]:
        return await frames.read(self._reader)


async def pieces_of(lines: Lines) -> AsyncIterator[bytes]:
    """The pieces of an answer, to its end. Raises: RelayError: as it ends."""
    while (piece := await lines.next(frames.PIECE)) is not None:
        yield piece


async def read_to(
    shelf: Shelf, asked: Mapping[str, Any], send: Callable[[bytes, bytes], Awaitable[None]]
) -> None:
    """Answer another process: what follows that event, frame by frame."""
    try:
        tape, number = shelf.find(asked["id"].encode(), tuple(asked["owner"]))
        if asked["stop"]:
            tape.give_up()
        if asked["stop"] or tape.is_over(number):
            await send(frames.HEAD, b"false")
            return
        with tape.take(number) as reader:
            await send(frames.HEAD, b"true")
            if not await reader.follow(lambda piece: send(frames.PIECE, piece)):
                raise taken()
        await send(frames.END, b"")
    except RelayError as error:
        await send(frames.FAILURE, frames.of_failure(error)[frames.PREFIX_BYTES :])
