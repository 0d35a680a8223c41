"""A scriptable OpenAI-format server on bare sockets: what tests put upstream of the relay.

    async with FakeUpstream() as fake:             in the test's own event loop
    with FakeUpstream.in_thread() as fake:         in a thread with a loop of its own
        fake.answer(Script(status=429, headers=[(b"retry-after", b"1")]), times=1)
        ...                                        something that calls fake.url
        await fake.until(lambda: fake.requests)    or, in a thread: fake.wait_for(...)

Unscripted it is polite: chat (plain, or streamed) says the last user text again, `/v1/models` has
two models, the rest is 404. As a program: `python tests/fake_upstream.py --port 9000 [--key K]`.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from fake_script import PATIENCE_S, Bell, Gate, Script
from transcripts import chat_body, chat_stream, error_body, model_card, models_body, to_json

__all__ = ["FakeUpstream", "Gate", "Received", "Script"]  # what tests need, in one import

MODELS = ("fake-1", "fake-2")
JSON = (b"content-type", b"application/json")
EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time to linger: close() sends RST
MAX_HEAD_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class Connection:
    """One TCP connection; times are `time.monotonic()`.

    `heard_at`: its first byte came, be that HTTP or not. `closed_at` is set whoever ended it,
    `peer_closed_at` only when that was the peer.
    """

    id: int
    writer: asyncio.StreamWriter
    opened_at: float = field(default_factory=time.monotonic)
    heard_at: float | None = None
    closed_at: float | None = None
    peer_closed_at: float | None = None


@dataclass(slots=True)
class Received:
    """One request, recorded once its body was read; what becomes of its answer is added."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    connection: Connection
    started_at: float
    body_read_at: float
    head_sent: bool = False
    pieces_sent: int = 0
    answered: bool = False

    @property
    def connection_id(self) -> int:
        return self.connection.id

    @property
    def closed_at(self) -> float | None:
        """When the peer closed the connection."""
        return self.connection.peer_closed_at

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """The header's values, joined with a comma; None when it was not sent."""
        wanted = name.lower().encode()
        values = [value.decode("latin-1") for key, value in self.headers if key.lower() == wanted]
        return ", ".join(values) if values else None


Reply = Script | Callable[[Received], Script]


class FakeUpstream(Bell):
    """The server. Waiting for what it sees: `wait_for`, `until`; `requests`, `connections`."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, key: str | None = None) -> None:
        super().__init__()
        self.requests: list[Received] = []
        self.connections: list[Connection] = []
        self._address = (host, port)
        self._key = key
        self._next: list[tuple[str | None, Reply]] = []
        self._always: dict[str | None, Reply] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    @contextlib.contextmanager
    def in_thread(cls, *, port: int = 0, key: str | None = None) -> Iterator[Self]:
        """Serve from a thread: for tests that block, or that use other event loops."""
        fake = cls(port=port, key=key)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="fake-upstream", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(fake.__aenter__(), loop).result(PATIENCE_S)
            try:
                yield fake
            finally:
                asyncio.run_coroutine_threadsafe(fake.__aexit__(), loop).result(PATIENCE_S)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(PATIENCE_S)
            loop.close()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        host, port = self._address
        self._server = await asyncio.start_server(self._accept, host, port, limit=MAX_HEAD_BYTES)
        self._address = self._server.sockets[0].getsockname()[:2]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self.open_connections:
            self._end(connection)
            connection.writer.transport.abort()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        return self._address[1]

    @property
    def root_url(self) -> str:
        return f"http://{self._address[0]}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return f"{self.root_url}/v1"

    @property
    def open_connections(self) -> list[Connection]:
        return [connection for connection in self.connections if connection.closed_at is None]

    def answer(self, reply: Reply, *, path: str | None = None, times: int | None = None) -> None:
        """Answer the next `times` requests (to `path`, such as `/v1/models`) by that script.

        Counted replies are used first, in the order they were given; without `times` it stands
        until another such reply for the same path is given.
        """
        if times is None:
            self._always[path] = reply
        else:
            self._next += [(path, reply)] * times

    def drop_connections(self, *, reset: bool = False) -> None:
        """Close every connection, as a server does with idle ones; safe from any thread."""

        def drop() -> None:
            for connection in self.open_connections:
                self._end(connection, reset=reset)

        self._loop.call_soon_threadsafe(drop)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)  # drained means: with the kernel
        connection = Connection(len(self.connections), writer)
        self.connections.append(connection)
        task = asyncio.get_running_loop().create_task(self._serve(reader, connection))
        self._tasks.append(task)
        self.ring()

    async def _serve(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        waiting: asyncio.Queue[Received] = asyncio.Queue()
        answering = asyncio.create_task(self._answer_all(waiting, connection))
        answering.add_done_callback(lambda _: connection.writer.close())
        try:
            # Reading goes on while an answer is held, so that a peer that leaves is seen at once.
            async for received in self._requests(reader, connection):
                self.requests.append(received)
                waiting.put_nowait(received)
                self.ring()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except (ValueError, IndexError):
            connection.writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            self._end(connection)
        if connection.closed_at is None:
            connection.closed_at = connection.peer_closed_at = time.monotonic()
        answering.cancel()
        self.ring()
        with contextlib.suppress(asyncio.CancelledError):
            await answering  # a fault of a test's own reply surfaces when the fake is left

    async def _requests(
        self, reader: asyncio.StreamReader, connection: Connection
    ) -> AsyncIterator[Received]:
        """The requests of one connection. Raises: ValueError, IndexError for what is not HTTP."""
        while first := await reader.read(1):
            started_at = time.monotonic()
            if connection.heard_at is None:
                connection.heard_at = started_at
                self.ring()
            head = first + await reader.readuntil(b"\r\n\r\n")
            request_line, *lines = head[:-4].split(b"\r\n")
            method, target, _ = request_line.decode("ascii").split(" ")
            headers = [
                (name, value.strip()) for name, _, value in (x.partition(b":") for x in lines)
            ]
            fields = {name.lower(): value for name, value in headers}
            if fields.get(b"transfer-encoding") == b"chunked":
                body = b"".join([piece async for piece in _chunks(reader)])
            else:
                body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
            yield Received(method, target, headers, body, connection, started_at, time.monotonic())

    async def _answer_all(self, waiting: asyncio.Queue[Received], connection: Connection) -> None:
        while True:
            received = await waiting.get()
            script = self._script_for(received)
            # The reading side notices that the peer is gone, and says so.
            with contextlib.suppress(ConnectionError):
                if await self._send(script, received):
                    received.answered = True
                if script.closes or not received.answered:
                    self._end(connection, reset=script.reset_at is not None)
            self.ring()

    def _script_for(self, received: Received) -> Script:
        fits = (None, received.path)
        at = next((at for at, (path, _) in enumerate(self._next) if path in fits), None)
        if at is not None:
            _, reply = self._next.pop(at)
        else:
            reply = self._always.get(received.path) or self._always.get(None) or self._polite
        return reply if isinstance(reply, Script) else reply(received)

    async def _send(self, script: Script, received: Received) -> bool:
        """Write the answer; returns whether it is whole."""
        writer = received.connection.writer
        limit = script.reset_at if script.reset_at is not None else script.close_at
        pieces = script.writes()
        if script.gate:
            await script.gate.passed()
        await asyncio.sleep(script.delay_head_s)
        await _write(writer, script.interim + script.head(sum(map(len, pieces))))
        received.head_sent = True
        self.ring()
        await asyncio.sleep(script.delay_body_s)
        sent = 0
        for index, piece in enumerate(pieces):
            if index == script.stall_after:
                await _until_peer_leaves()
            if gate := script.piece_gates.get(index):
                await gate.passed()
            if index:
                await asyncio.sleep(script.delay_piece_s)
            before, after = (b"%x\r\n" % len(piece), b"\r\n") if script.chunked else (b"", b"")
            if limit is not None and sent + len(piece) >= limit:
                await _write(writer, before + piece[: limit - sent])
                return False
            await _write(writer, before + piece + after)
            sent += len(piece)
            received.pieces_sent += 1
            self.ring()
        if script.stall_after is not None:
            await _until_peer_leaves()
        if gate := script.piece_gates.get(len(pieces)):
            await gate.passed()
        if limit is not None:
            return False
        if script.chunked:
            await _write(writer, b"0\r\n\r\n")
        return True

    def _end(self, connection: Connection, *, reset: bool = False) -> None:
        connection.closed_at = time.monotonic()
        if reset:
            sock: socket.socket = connection.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            connection.writer.transport.abort()
        else:
            connection.writer.close()

    def _polite(self, received: Received) -> Script:
        if self._key and received.header("authorization") != f"Bearer {self._key}":
            return _error(401, "Incorrect API key provided.", code="invalid_api_key")
        _, _, model = received.path.partition("/v1/models/")
        if received.path == "/v1/models":
            return Script(headers=[JSON], body=models_body(*MODELS))
        if model in MODELS:
            return Script(headers=[JSON], body=to_json(model_card(model)))
        if model:
            return _error(404, f"The model '{model}' does not exist.", code="model_not_found")
        if (received.method, received.path) == ("POST", "/v1/chat/completions"):
            return _echo(received.body)
        return _error(404, f"Invalid URL ({received.method} {received.path})")


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if writer.is_closing():  # uvloop would call that a RuntimeError
        raise ConnectionResetError
    writer.write(data)
    await writer.drain()


async def _until_peer_leaves() -> None:
    await asyncio.get_running_loop().create_future()  # the connection's end cancels us


def _echo(body: bytes) -> Script:
    try:
        asked = json.loads(body)
        text = _text([said["content"] for said in asked["messages"] if said["role"] == "user"][-1])
    except (ValueError, LookupError, TypeError):
        return _error(400, "There is no user message in this request.", param="messages")
    model = asked.get("model", MODELS[0])
    words = [word for word in text.replace(" ", " \0").split("\0") if word]
    prompt = sum(len(_text(said.get("content")).split()) for said in asked["messages"])
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": len(words),
        "total_tokens": prompt + len(words),
    }
    if not asked.get("stream"):
        return Script(headers=[JSON], body=chat_body(text, model=model, usage=usage))
    counted = (asked.get("stream_options") or {}).get("include_usage")
    events = chat_stream(words, model=model, usage=usage if counted else None)
    return Script(headers=[EVENT_STREAM], pieces=events)


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _error(
    status: int, message: str, *, code: str | None = None, param: str | None = None
) -> Script:
    body = error_body(message, code=code, param=param)
    return Script(status=status, headers=[JSON], body=body)


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)


async def _main() -> None:
    parser = argparse.ArgumentParser(description="Serve fake OpenAI answers.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--key", help="demand this key; without it nothing is checked")
    given = parser.parse_args()
    async with FakeUpstream(host=given.host, port=given.port, key=given.key) as fake:
        print(f"listening on {fake.url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
