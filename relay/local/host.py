"""The process that has the local model: it answers the calls of all workers on one unix socket.

    connection    WATCH              STATE now, and again whenever it has changed
                  CALL, BODY         the backend's answer, frame by frame
                  closed             the call is cancelled

Asked to end, it goes on until the last connection is closed: the workers that still hold one may
have answers open, and close it when these are over.
"""

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable

from relay.errors import InternalError, RelayError
from relay.local import frames
from relay.local.model import LocalBackend, paths_of

LOOK_S = 0.1
"""How often a model that is not ready yet is looked at."""

CALM_LOOK_S = 1.0
"""The same once it is ready: it may be unloaded, or fail."""


class Host:
    """Serves one local backend to whoever connects."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self._started = False
        self._watchers: dict[StreamWriter, bytes] = {}
        self._open: set[StreamWriter] = set()
        self._ending = asyncio.Event()
        self._left = asyncio.Event()

    async def serve(self, listener: socket.socket, on_serving: Callable[[], None]) -> None:
        """Until `end` was called and the last connection is closed; then the backend is, too."""
        server = await asyncio.start_unix_server(
            self._serve, sock=listener, limit=frames.BUFFER_BYTES
        )
        looking = asyncio.create_task(self._look())
        on_serving()
        try:
            await self._ending.wait()
            while self._open:
                self._left.clear()
                await self._left.wait()
        finally:
            server.close()
            looking.cancel()
            await asyncio.wait([looking])
            await self._backend.aclose()

    def end(self) -> None:
        """End as soon as nobody is connected any more."""
        self._ending.set()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._open.add(writer)
        try:
            kind, content = await frames.read(reader)
            if kind == frames.WATCH:
                self._begin()
                self._tell(writer)
                await reader.read()
            else:
                _, body = await frames.read(reader)
                await self._answer_while_open(reader, writer, content, body)
        except (frames.Lost, OSError):
            pass
        finally:
            self._watchers.pop(writer, None)
            writer.close()
            self._open.discard(writer)
            self._left.set()

    def _begin(self) -> None:
        if not self._started:
            self._started = True
            self._backend.start()

    async def _answer_while_open(
        self, reader: StreamReader, writer: StreamWriter, head: bytes, body: bytes
    ) -> None:
        answering = asyncio.create_task(self._answer(writer, head, body))
        leaving = asyncio.create_task(reader.read())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.wait({answering, leaving})

    async def _answer(self, writer: StreamWriter, head: bytes, body: bytes) -> None:
        try:
            call, whole = frames.call_of(head, body)
            if whole:
                answer = await self._backend.complete(call)
                writer.write(frames.of_answer(answer.status, answer.headers))
                writer.write(frames.frame(frames.PIECE, answer.body))
            else:
                async with self._backend.stream(call) as stream:
                    writer.write(frames.of_answer(stream.status, stream.headers))
                    async for piece in stream:
                        writer.write(frames.frame(frames.PIECE, piece))
                        await writer.drain()
            writer.write(frames.frame(frames.END))
        except RelayError as exc:
            writer.write(frames.of_failure(exc))
        except (OSError, asyncio.CancelledError):
            raise
        except Exception:
            # A backend of somebody else's may raise anything; the worker must hear of an end.
            writer.write(frames.of_failure(InternalError("The local model failed.")))
            raise
        await writer.drain()

    async def _look(self) -> None:
        """Tell the watchers what has changed."""
        while True:
            for writer in list(self._watchers):
                self._tell(writer)
            await asyncio.sleep(CALM_LOOK_S if self._backend.state() == "ready" else LOOK_S)

    def _tell(self, writer: StreamWriter) -> None:
        backend = self._backend
        cards = [card.model_dump(mode="json", exclude_unset=True) for card in backend.cards()]
        told = frames.of_json(
            frames.STATE,
            {
                "name": backend.name,
                "state": backend.state(),
                "cards": cards,
                "paths": sorted(paths_of(backend)),
            },
        )
        if self._watchers.get(writer) != told:
            self._watchers[writer] = told
            writer.write(told)
