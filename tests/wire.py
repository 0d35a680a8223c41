"""Both ends of a client's connection for tests: a server around one function, and a raw socket."""

import json
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import uvicorn
from fake_script import Bell, Gate
from starlette.types import ASGIApp, Receive, Scope, Send

from relay.web.connection import ClientConnection
from relay.web.exchange import Exchange

PATIENCE_S = 20
REASONS = {status.value: status.phrase for status in HTTPStatus}

Answer = Callable[[Exchange], Coroutine[Any, Any, None]]


@dataclass
class Served:
    """A server that runs in a thread."""

    server: uvicorn.Server
    thread: threading.Thread
    port: int

    @property
    def connections(self) -> set[Any]:
        return cast(set[Any], self.server.server_state.connections)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


@contextmanager
def serving(
    answer: Answer,
    *,
    app: ASGIApp | None = None,
    write_timeout_s: float = PATIENCE_S * 2,
    **config: Any,
) -> Iterator[Served]:
    """Connections of ours around `answer`, under uvicorn's server; `app` takes the WebSockets."""
    listener = socket.create_server(("127.0.0.1", 0))
    settings: dict[str, Any] = {
        "loop": "uvloop",
        "http": partial(ClientConnection, answer, lambda: write_timeout_s),
        "ws": "websockets-sansio" if app is not None else "none",
        "interface": "asgi3",
        "lifespan": "off",
        "log_config": None,
        "timeout_keep_alive": PATIENCE_S * 2,
        "timeout_graceful_shutdown": 1,
    }
    server = uvicorn.Server(uvicorn.Config(cast(Any, app or _nothing), **settings | config))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    served = Served(server, thread, listener.getsockname()[1])
    try:
        yield served
    finally:
        served.stop()


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None: ...


@dataclass
class Reply:
    """One answer as it came."""

    version: str
    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A client that is free to break every rule."""

    def __init__(self, port: int, *, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(("127.0.0.1", port))
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes, *, method: str = "GET") -> Reply:
        """Send a request and read what is answered."""
        self.send(data)
        return self.read(method=method)

    def head(self) -> tuple[str, int, dict[str, str]]:
        """The next head."""
        version, status, reason = self._line().split(" ", 2)
        assert reason == REASONS.get(int(status), "")
        headers = {}
        while line := self._line():
            name, _, value = line.partition(": ")
            assert name not in headers
            headers[name] = value
        return version, int(status), headers

    def read(self, *, method: str = "GET") -> Reply:
        """The next answer; one without a length reaches to the end of the connection."""
        version, status, headers = self.head()
        return Reply(version, status, headers, self._body(method, status, headers))

    def _body(self, method: str, status: int, headers: dict[str, str]) -> bytes:
        if method == "HEAD" or status in (100, 204, 304):
            return b""
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(self.chunks())
        if "content-length" in headers:
            length = int(headers["content-length"])
            body = self._file.read(length)
            assert len(body) == length
            return body
        return self._file.read()

    def chunks(self) -> Iterator[bytes]:
        """The chunks of a body, to the last."""
        while size := int(self._line(), 16):
            yield self._file.read(size)
            assert self._line() == ""
        assert self._line() == ""

    def take(self, count: int) -> bytes:
        """That many bytes, whatever they are."""
        return self._file.read(count)

    def rest(self) -> bytes:
        """All that comes until the server closes, however it does."""
        received = b""
        try:
            while piece := self._file.read1():
                received += piece
        except ConnectionResetError:
            pass
        return received

    def _line(self) -> str:
        line = self._file.readline()
        assert line.endswith(b"\r\n"), f"not a line: {line!r}"
        return line[:-2].decode("latin-1")


async def body_of(exchange: Exchange) -> bytes:
    body = b""
    while True:
        message = await exchange.receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            return body


async def tell(exchange: Exchange) -> None:
    """Answers with what was asked."""
    body = await body_of(exchange)
    exchange.answer(200, [], f"{exchange.method} {exchange.path} ".encode() + body)


class Stage(Bell):
    """Answers like `tell`, but not before `gate` opens; knows who came and who left."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.came: list[str] = []
        self.left: list[str] = []

    async def answer(self, exchange: Exchange) -> None:
        self.came.append(exchange.path)
        exchange.on_leave = lambda: self.note(exchange.path)
        self.ring()
        await self.gate.passed()
        exchange.answer(200, [], exchange.path.encode())

    def note(self, path: str) -> None:
        self.left.append(path)
        self.ring()


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: h", *headers, "", ""]).encode()


def post(body: bytes, *headers: str, path: str = "/") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: h", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


CHUNKED = b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"


def check_refusal(wire: Wire, status: int = 400) -> dict[str, Any]:
    """An error's envelope, and the end of the connection."""
    reply = wire.read()
    assert (reply.status, reply.headers["connection"]) == (status, "close")
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"].startswith("req_")
    assert wire.rest() == b""
    error = json.loads(reply.body)["error"]
    assert error["type"] == "invalid_request_error"
    return dict(error)
