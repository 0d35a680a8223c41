"""One request and its answer on a client's connection: a `Client`, and what an ASGI server gives.

The head of an answer is held until the first bytes of its body, and both leave in one write: that
is a system call, and a wake-up of the other side, less.
"""

import asyncio
import http
from collections.abc import Callable, Coroutine
from operator import itemgetter
from typing import Any, Protocol

from starlette.types import Message, Scope

from relay.errors import RelayError
from relay.header_lines import BREAK
from relay.types import RawHeaders
from relay.web.client import Wait, peer
from relay.web.heads import Headers
from relay.web.replies import new_request_id

HIGH_WATER_BYTES = 64 * 1024
"""While more than this of a request's body waits to be received, no more of it is read."""

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b" % (status, status.phrase.encode()) for status in http.HTTPStatus
}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
_END = (b"", b"")
_WITHOUT_BODY = frozenset({204, 304})
_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})
_NAME = itemgetter(0)
_header_line = b": ".join
_UNTIL_CLOSE, _CHUNKED, _NONE = -1, -2, -3
_DISCONNECT: Message = {"type": "http.disconnect"}


class Line(Protocol):
    """What an exchange needs of its connection."""

    @property
    def common_headers(self) -> RawHeaders: ...
    @property
    def blocked(self) -> bool:
        """Whether it has yet to send what it was given."""
        ...

    def write(self, data: bytes, /) -> None: ...
    def drained(self) -> Coroutine[Any, Any, None]: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def ended(self, exchange: "Exchange") -> None: ...
    def describe(self, exchange: "Exchange") -> Scope: ...


class Exchange:
    """From a request's head to the last byte of its answer.

    `target` is what stands in the request line, `keep_alive` whether the connection may serve
    another request afterwards, `unread` whether a part of the request has yet to come.
    """

    __slots__ = (
        "_body",
        "_continued",
        "_event",
        "_head",
        "_left",
        "_line",
        "_news",
        "_scope",
        "_waiting_bytes",
        "answered",
        "gone",
        "head",
        "headers",
        "keep_alive",
        "method",
        "on_leave",
        "path",
        "started",
        "target",
        "task",
        "unread",
        "version",
    )

    task: asyncio.Task[None]

    def __init__(  # noqa: PLR0917  # keywords would cost as much as a system call
        self,
        line: Line,
        method: str,
        target: bytes,
        path: str,
        version: str,
        head: Headers,
        keep_alive: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.path = path
        self.version = version
        self.head = head
        self.headers = head.pairs
        self.keep_alive = keep_alive
        self.on_leave: Callable[[], None] | None = None
        self.unread = True
        self.started = False
        self.answered = False
        self.gone = False
        self._line = line
        self._scope: Scope | None = None
        self._body: list[bytes] = []
        self._waiting_bytes = 0
        self._news = False
        self._event: asyncio.Event | None = None
        self._continued = False
        self._head = b""
        self._left = _UNTIL_CLOSE

    # What the connection tells

    def feed(self, piece: bytes) -> None:
        """A piece of the request's body."""
        self._body.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes > HIGH_WATER_BYTES:
            self._line.pause()
        self._tell()

    def feed_end(self) -> None:
        """The request's body is whole."""
        self.unread = False
        self._tell()

    def leave(self) -> None:
        """The client is gone: nothing more is received or sent."""
        self.gone = True
        self.keep_alive = False
        self._tell()
        if self.on_leave is not None and not self.answered:
            self.on_leave()

    def _tell(self) -> None:
        self._news = True
        if self._event is not None:
            self._event.set()

    # The request

    @property
    def scope(self) -> Scope:
        """The same as ASGI describes it; made when it is asked for."""
        if self._scope is None:
            self._scope = self._line.describe(self)
        return self._scope

    def peer(self) -> str:
        """The address of the other end of the connection."""
        return peer(self.scope)

    def take(self) -> bytes | None:
        """The whole body, if it is here."""
        if self.unread or self.gone:
            return None
        self._news = False
        return self._take()

    def _take(self) -> bytes:
        pieces = self._body
        if not pieces:
            return b""
        self._body = []
        if self._waiting_bytes > HIGH_WATER_BYTES:
            self._line.resume()  # behind the last piece, too: only who reads hears a client leave
        self._waiting_bytes = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def receive(self) -> Message:
        """ASGI's `receive`."""
        if not (self._news or self.gone or self.answered):
            await self._wait()
        if self.gone or self.answered:
            return _DISCONNECT
        self._news = False
        return {"type": "http.request", "body": self._take(), "more_body": self.unread}

    async def _wait(self) -> None:
        if self.unread and not (self._continued or self.started):
            self._continued = True
            expected = [value.lower() for name, value in self.headers if name == b"expect"]
            if expected == [b"100-continue"]:
                self._line.write(_CONTINUE)
        self._line.resume()
        if self._event is None:
            self._event = asyncio.Event()
        self._event.clear()
        await self._event.wait()

    def attend(self) -> None:
        """Nobody has to listen: the connection tells when it is lost."""

    # The answer

    def answer(self, status: int, headers: RawHeaders, body: bytes, lines: bytes = b"") -> Wait:
        """The whole answer; its length is told here."""
        self._begin(status, headers, lines, len(body))
        return self.end(body)

    def begin(self, status: int, headers: RawHeaders, lines: bytes = b"") -> None:
        """The head of an answer; it leaves with what comes next.

        Raises:
            RuntimeError: a header would not be one.
        """
        self._begin(status, headers, lines, _UNTIL_CLOSE)

    def _begin(self, status: int, headers: RawHeaders, more: bytes, left: int) -> None:
        if not _FRAMING.isdisjoint(map(_NAME, headers)):
            headers, left = self._without_framing(headers, left)
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
        lines += map(_header_line, self._line.common_headers)
        lines += map(_header_line, headers)
        if more:
            lines.append(more)
        if left >= 0 and status not in _WITHOUT_BODY:
            lines.append(b"content-length: %d" % left)
        if self.method == "HEAD" or status in _WITHOUT_BODY:
            left = _NONE
        elif left == _UNTIL_CLOSE:
            if self.version == "1.0":
                self.keep_alive = False
            else:
                left = _CHUNKED
                lines.append(b"transfer-encoding: chunked")
        if not self.keep_alive:
            lines.append(b"connection: close")
        lines += _END
        head = BREAK.join(lines)
        breaks = len(lines) - 1 + more.count(BREAK)
        if not head.count(b"\r") == head.count(b"\n") == breaks or b"\0" in head:
            raise RuntimeError("a header of the answer holds a line break")
        self.started = True
        self._left = left
        self._head = head

    def _without_framing(self, headers: RawHeaders, left: int) -> tuple[RawHeaders, int]:
        """How an answer is framed is ours to say, but for its length and its connection's end."""
        for name, value in headers:
            if name == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
            elif name == b"content-length":
                left = int(value)
        return [pair for pair in headers if pair[0] not in _FRAMING], left

    def write(self, piece: bytes) -> Wait:
        """A piece of its body, and the head if that is still here.

        Raises:
            RuntimeError: the body does not have the length that the head tells.
        """
        if self._left == _CHUNKED:
            if piece and not (self._head or self.gone):  # as nearly always
                line = self._line
                line.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                return line.drained() if line.blocked else None
            data = b"%b%x\r\n%b\r\n" % (self._head, len(piece), piece) if piece else self._head
        else:
            data = self._plain(piece)
        self._head = b""
        return self._write(data)

    def end(self, piece: bytes = b"") -> Wait:
        """The last piece of it.

        Raises:
            RuntimeError: as `write` does.
        """
        if self.answered:  # an error that came behind the last byte has nobody to go to
            return None
        if self._left == _CHUNKED:
            start = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
            data = b"%b%b%b" % (self._head, start, _LAST_CHUNK)
        else:
            data = self._plain(piece)
            if self._left > 0:
                raise _wrong_length()
        self._head = b""
        self.answered = True
        wait = self._write(data)
        self._tell()
        self._line.ended(self)
        return wait

    def _plain(self, piece: bytes) -> bytes:
        if self._left == _NONE:
            return self._head
        if self._left != _UNTIL_CLOSE:
            if len(piece) > self._left:
                raise _wrong_length()
            self._left -= len(piece)
        return self._head + piece if self._head else piece

    def _write(self, data: bytes) -> Wait:
        if self.gone or not data:
            return None
        line = self._line
        line.write(data)
        return line.drained() if line.blocked else None

    async def send(self, message: Message) -> None:
        """ASGI's `send`.

        Raises:
            RuntimeError: that would not be an HTTP answer.
        """
        if not self.started:
            self.begin(message["status"], message.get("headers", ()))
            # Whoever tells no length may take his time with the body.
            wait = None if self._left > 0 else self.write(b"")
        elif self.answered:
            raise RuntimeError("the answer has ended")
        else:
            take = self.write if message.get("more_body") else self.end
            wait = take(message.get("body", b""))
        if wait is not None:
            await wait

    def refuse(self, error: RelayError, headers: RawHeaders = ()) -> None:
        """Answer with an error, after which the connection is closed."""
        self.started = self.answered = True
        self.keep_alive = False
        if not self.gone:
            self._line.write(refusal(error, headers))
        self._tell()
        self._line.ended(self)


class HeadTooLarge(RelayError):
    """A request's headers are more than anybody needs."""

    status = 431
    type = "invalid_request_error"
    code = "request_too_large"


def refusal(error: RelayError, headers: RawHeaders = ()) -> bytes:
    """A whole answer to what never became a request: an error, and the connection's end."""
    body = error.envelope()
    return b"\r\n".join(
        [
            _STATUS_LINES[error.status],
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"x-request-id: %b" % new_request_id().encode(),
            *map(_header_line, headers),
            b"connection: close",
            b"",
            body,
        ]
    )


def _wrong_length() -> RuntimeError:
    return RuntimeError("the body does not have the length that its head tells")
