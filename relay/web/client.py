"""The other side of one request: where its body comes from, and where its answer goes.

Exchange     on a connection of ours (web/connection.py): bytes, straight
AsgiClient   under any other server, or behind a layer that speaks ASGI
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.types import Message, Receive, Scope, Send

from relay.header_lines import pairs_of
from relay.types import RawHeaders
from relay.web.heads import Headers

Wait = Awaitable[None] | None
"""What writing gives back: something to await before more is written, or None when there is room.

An await costs more than most writes, and nearly always there is room.
"""


class Client(Protocol):
    """One request's client. After `begin` come `write`s and one `end`; or all at once, `answer`.

    `lines` are more headers, as they stand on the wire.
    """

    on_leave: Callable[[], None] | None
    """Called when the client has left before its answer was out; see `attend`."""

    @property
    def scope(self) -> Scope: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def headers(self) -> RawHeaders: ...
    @property
    def head(self) -> Headers:
        """The headers once more, and what was made of them."""
        ...

    @property
    def task(self) -> asyncio.Task[None]: ...
    @property
    def started(self) -> bool: ...
    @property
    def answered(self) -> bool: ...
    @property
    def gone(self) -> bool:
        """Whether the client is known to have left."""
        ...

    def peer(self) -> str:
        """The address of the other end; "" when it has none."""
        ...

    def take(self) -> bytes | None:
        """The request's body, if all of it is here; else None: it has to be received."""
        ...

    def receive(self) -> Awaitable[Message]: ...
    def send(self, message: Message) -> Awaitable[None]: ...
    def answer(self, status: int, headers: RawHeaders, body: bytes, lines: bytes = b"") -> Wait: ...
    def begin(self, status: int, headers: RawHeaders, lines: bytes = b"") -> Wait: ...
    def write(self, piece: bytes) -> Wait: ...
    def end(self, piece: bytes = b"") -> Wait: ...

    def attend(self) -> asyncio.Task[None] | None:
        """Listen for the client's leaving, in a task where nobody else tells of it."""
        ...


class AsgiClient:
    """A client as ASGI shows it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: RawHeaders = scope["headers"]
        self.head = Headers(self.headers)
        self.receive = receive
        self.started = False
        self.answered = False
        self.gone = False
        self.on_leave: Callable[[], None] | None = None
        self._send = send

    @property
    def task(self) -> "asyncio.Task[None]":
        """The task that answers."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # ASGI applications run in one
        return task

    def peer(self) -> str:
        """The address of the other end, as the server tells it."""
        return peer(self.scope)

    def take(self) -> None:
        """Nobody knows before receiving."""

    async def send(self, message: Message) -> None:
        """ASGI's `send`."""
        if message["type"] == "http.response.start":
            self.started = True
        else:
            self.answered = not message.get("more_body")
        await self._send(message)

    async def answer(
        self, status: int, headers: RawHeaders, body: bytes, lines: bytes = b""
    ) -> None:
        """The whole answer; its length is told here."""
        await self.begin(status, [*headers, (b"content-length", b"%d" % len(body))], lines)
        await self.end(b"" if self.method == "HEAD" else body)

    async def begin(self, status: int, headers: RawHeaders, lines: bytes = b"") -> None:
        """The head of an answer."""
        headers = [*headers, *pairs_of(lines)]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, piece: bytes) -> None:
        """A piece of its body."""
        await self.send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, piece: bytes = b"") -> None:
        """The last piece of it."""
        await self.send({"type": "http.response.body", "body": piece})

    def attend(self) -> asyncio.Task[None]:
        """Receive until the client leaves; nothing else may be received from then on."""
        return asyncio.get_running_loop().create_task(self._attend())

    async def _attend(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self.on_leave is not None and not self.answered:  # after the last byte it comes, too
            self.on_leave()


def peer(scope: Scope) -> str:
    """The address of whoever calls; "" when there is none, as on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""
