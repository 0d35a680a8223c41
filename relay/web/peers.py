"""The other processes of a relay with several workers: who has met the wrong one is read to.

    process that was asked    CALL: event's id, owner, whether to stop
    process that has it       HEAD: status, PIECE …, END     what follows; or FAILURE, at any time
    process that was asked    closes the connection: its client has left

Each listens on a unix socket in the folder of their parent, named as it is named in the ids of its
events. Frames are those in which workers ask for the local model.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

from relay.errors import RelayError
from relay.local import frames
from relay.web.shelf import Owner, Shelf, not_found
from relay.web.tape import taken


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
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

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
            more = await _next(reader, frames.HEAD)
            yield _pieces(reader) if more == b"true" else None
        finally:
            writer.close()

    def _path(self, process: str) -> Path:
        return self._folder / f"resume-{process}"

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # the server has made one
        self._serving.add(task)
        try:
            _, content = await frames.read(reader)
            reading = asyncio.create_task(self._read_to(writer, content))
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

    async def _read_to(self, writer: StreamWriter, content: bytes) -> None:
        async def write(piece: bytes) -> None:
            writer.write(frames.frame(frames.PIECE, piece))
            await writer.drain()

        asked = orjson.loads(content)
        try:
            tape, number = self._shelf.find(asked["id"].encode(), tuple(asked["owner"]))
            if asked["stop"]:
                tape.give_up()
            more = not (asked["stop"] or tape.is_over(number))
            if more:
                with tape.take(number) as mine:
                    writer.write(frames.of_json(frames.HEAD, more))
                    if not await mine.follow(write):
                        raise taken()
                writer.write(frames.frame(frames.END))
            else:
                writer.write(frames.of_json(frames.HEAD, more))
        except RelayError as error:
            writer.write(frames.of_failure(error))
        await writer.drain()


async def _pieces(reader: StreamReader) -> AsyncIterator[bytes]:
    while (piece := await _next(reader, frames.PIECE)) is not None:
        yield piece


async def _next(reader: StreamReader, wanted: bytes) -> bytes | None:
    """What is in the next frame, None at the end. Raises: RelayError: what it tells."""
    try:
        kind, content = await frames.read(reader)
    except frames.Lost:
        raise not_found() from None
    if kind == frames.FAILURE:
        raise frames.failure_of(content)
    return content if kind == wanted else None
