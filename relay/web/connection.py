"""A client's HTTP/1.1 connection: requests in, one after another, each an `Exchange`.

uvicorn's own protocol costs as much as all that the relay does with a small call: regular
expressions over each header of an answer, two timers and two writes a request. This one stands in
its place, under the same server, and is stricter: heads are bounded in size and time, and what is
no HTTP gets the envelope, too. `httptools` parses, and uvicorn's protocol takes WebSockets.

    idle, or a head that is incomplete    closed after `timeout_keep_alive`
    an answer of which nothing is taken   closed after `write_timeout_s`
    a body that is late                   its exchange's business
    more requests at once (pipelined)     answered in order, read no further meanwhile
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

import httptools
import uvicorn
from starlette.types import Scope
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from relay.errors import InternalError, InvalidRequest, RelayError
from relay.types import RawHeaders
from relay.web.exchange import Exchange, HeadTooLarge, refusal
from relay.web.heads import Headers, KnownHead, divide, wants_websocket
from relay.web.outflow import Outflow

MAX_HEAD_BYTES = 64 * 1024
"""The largest head of a request: its line and its headers."""

MAX_HEADERS = 200
"""How many headers a request may have."""

MAX_PIPELINED = 100
"""How many requests may wait for the answer of the one before."""

MOST_UNLIKE = 3
"""After so many heads in a row that were unlike the one before, no more are kept."""

_ASGI = {"version": "3.0", "spec_version": "2.3"}

_log = logging.getLogger("relay.web")


class ClientConnection(asyncio.Protocol):
    """One connection; what `answer` gives for an exchange runs in a task of its own.

    `beside` tells the headers that go with an answer to what is no request. All arguments but
    these and the second are those with which uvicorn makes its protocols.
    """

    def __init__(
        self,
        answer: Callable[[Exchange], Coroutine[Any, Any, None]],
        write_timeout_s: Callable[[], float],
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        beside: Callable[[RawHeaders], RawHeaders] = lambda _: (),
    ) -> None:
        self.blocked = False
        self._beside = beside
        self._config = config
        self._answer = answer
        self._write_timeout_s = write_timeout_s
        self._state = server_state
        self._app_state = app_state
        self._keep_alive_s = config.timeout_keep_alive
        self._loop = _loop or asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._paused = False
        self._drained: asyncio.Event | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0  # what came, and neither ended a head nor belongs to a body
        self._upgrading = False
        self._exchange: Exchange | None = None  # whose request is being read, or was read last
        self._answering: Exchange | None = None  # whose answer is being written, or was last
        # Pipelined ones until it is their turn, and what was wrong behind them.
        self._queue: deque[Exchange | RelayError] = deque()
        self._known: KnownHead | None = None
        self._unlike = 0  # heads in a row that were not the known one
        self._idle_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def common_headers(self) -> RawHeaders:
        """The headers of every answer: the date."""
        return self._state.default_headers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write
        self._outflow = Outflow(self._transport, self._loop, self._write_timeout_s())
        self._state.connections.add(cast(Any, self))
        self._server = get_local_addr(self._transport)
        self._client = get_remote_addr(self._transport)
        self._scheme = "https" if is_ssl(self._transport) else "http"
        self._rest()

    def data_received(self, data: bytes) -> None:
        before = self._exchange
        fresh = not self._head_bytes and (before is None or (before.answered and not before.unread))
        if fresh and self._known is not None and self._again(data, self._known):
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._upgrade(data[exc.args[0] :])
        except httptools.HttpParserError as exc:
            known = exc.__context__ if isinstance(exc.__context__, RelayError) else None
            self._refuse(known or InvalidRequest("The request is not HTTP/1.1."))
        else:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(_head_too_large())
            elif fresh and self._unlike < MOST_UNLIKE:
                self._learn(data)

    def _again(self, data: bytes, known: KnownHead) -> bool:
        """Take data that has the head of a request before, and a whole body."""
        body = known.read(data)
        if body is None:
            return False
        self._unlike = 0
        self._exchange = exchange = Exchange(self, *known.line, known.headers, True)
        self._start(exchange)
        exchange.feed(body)
        exchange.feed_end()
        return True

    def _learn(self, data: bytes) -> None:
        """Keep the head of a request that data was, and nothing else."""
        exchange = self._exchange
        whole = exchange is not None and exchange is self._answering and not exchange.unread
        self._known = None
        if exchange is not None and whole and exchange.keep_alive:
            self._unlike += 1
            line = (exchange.method, exchange.target, exchange.path, exchange.version)
            self._known = KnownHead.learn(data, line, exchange.head)

    def eof_received(self) -> None:
        """Half a connection is of no use: the transport closes the other half."""

    def connection_lost(self, _: Exception | None) -> None:
        self._state.connections.discard(cast(Any, self))
        if self._timer is not None:
            self._timer.cancel()
        self._outflow.stop()
        self._queue.clear()
        if self._answering is not None:
            self._answering.leave()
        self.resume_writing()
        del self._parser  # it refers to us, as we to it

    def pause_writing(self) -> None:
        self.blocked = True
        self._outflow.watch()

    def resume_writing(self) -> None:
        self.blocked = False
        self._outflow.moved()
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    async def drained(self) -> None:
        """Until the transport takes more, or the client is gone."""
        if not self.blocked:  # any more: whoever writes may come to wait only later
            return
        if self._drained is None:
            self._drained = asyncio.Event()
        await self._drained.wait()

    def pause(self) -> None:
        """Read no further for now."""
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on, unless requests wait that were read already."""
        if self._paused and not self._queue:
            self._paused = False
            self._transport.resume_reading()

    def shutdown(self) -> None:
        """The server stops: close when the open answers are out."""
        if self._exchange is None or not self._busy():
            self._close()
        else:
            self._exchange.keep_alive = False

    def _busy(self) -> bool:
        return self._answering is not None and not self._answering.answered

    # What the parser calls

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers = self._headers
        if len(headers) > MAX_HEADERS or (
            self._head_bytes > MAX_HEAD_BYTES and self._weight() > MAX_HEAD_BYTES
        ):
            raise _head_too_large()
        self._head_bytes = 0
        parser = self._parser
        if parser.should_upgrade():
            self._upgrading = True
            return
        self._headers = []  # what comes behind a body is no header
        version = parser.get_http_version()
        url = self._url
        plain = url.startswith(b"/") and not (b"?" in url or b"%" in url or b"#" in url)
        path = url.decode("ascii") if plain else divide(url)[0]
        method = parser.get_method().decode("ascii")
        keep_alive = version != "1.0" and parser.should_keep_alive()
        self._exchange = exchange = Exchange(
            self, method, url, path, version, Headers(headers), keep_alive
        )
        before = self._answering
        if before is None or before.answered:
            self._start(exchange)
            return
        if len(self._queue) >= MAX_PIPELINED:
            raise InvalidRequest("More requests came at once than are taken.")
        self._queue.append(exchange)
        self.pause()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        exchange = self._exchange
        if exchange is not None and not exchange.answered:
            exchange.feed(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        if self._exchange is not None and not self._upgrading:
            self._exchange.feed_end()

    # What the exchange calls

    def describe(self, exchange: Exchange) -> Scope:
        """The scope of an exchange's ASGI application."""
        path, raw_path, query = divide(exchange.target)
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": exchange.version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "root_path": "",
            "headers": exchange.headers,
            "state": self._app_state.copy(),
            "method": exchange.method,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
        }

    def ended(self, exchange: Exchange) -> None:
        """The answer of that exchange is out; go on with the next."""
        self._state.total_requests += 1
        if not exchange.keep_alive:
            self._close()
        elif self._queue:
            following = self._queue.popleft()
            if isinstance(following, RelayError):
                self._close(following)
            else:
                self._start(following)
                self.resume()
        else:
            self.resume()
            self._rest()

    def _start(self, exchange: Exchange) -> None:
        self._answering = exchange
        # A name, and the way around the loop's own function, save a hundredth of a small call.
        exchange.task = task = asyncio.Task(self._run(exchange), loop=self._loop, name="exchange")
        self._state.tasks.add(task)

    async def _run(self, exchange: Exchange) -> None:
        """Have it answered; when it is not, or not to the end, the client notices."""
        try:
            await self._answer(exchange)
        except Exception:  # applications answer for their own faults; this one is of the frame
            _log.exception("internal_error")
            if not exchange.started:
                error = InternalError("The relay failed; its log has the details.")
                exchange.refuse(error, self._beside(exchange.headers))
        finally:
            self._state.tasks.discard(cast(Any, exchange.task))
            if not (exchange.answered or self._transport.is_closing()):
                self._transport.abort()

    def _rest(self) -> None:
        """Wait for the next request, not for ever."""
        self._idle_since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._keep_alive_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._busy():
            return  # the end of that answer sets the timer anew
        expires_at = self._idle_since + self._keep_alive_s
        if self._loop.time() < expires_at:
            self._timer = self._loop.call_at(expires_at, self._on_timer)
        else:
            self._close()

    def _refuse(self, error: RelayError) -> None:
        """What came is no request, or no more of the one that is being read."""
        exchange = self._exchange
        broken = exchange is not None and exchange.unread  # else it is what came behind it
        if not self._busy():
            self._close(None if broken else error)  # that one has its answer already
        elif exchange is None or exchange is not self._answering or not broken:
            if broken and self._queue[-1] is exchange:
                self._queue.pop()
            self._queue.append(error)  # it is told when the answers before it are out
            self.pause()
        elif exchange.started:
            self._transport.abort()
        else:
            exchange.leave()
            self._headers = [*exchange.headers]
            self._close(error)

    def _close(self, error: RelayError | None = None) -> None:
        """Close the connection behind what was written, and a last word if there is one."""
        if error is not None:
            self.write(refusal(error, self._beside(self._headers)))
        self._transport.close()
        self._outflow.watch()

    def _weight(self) -> int:
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)

    def _upgrade(self, rest: bytes) -> None:
        """Another protocol was asked for: WebSocket, or one that we do not speak."""
        self._upgrading = False
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(InvalidRequest("There is no proxy here."))
        elif not wants_websocket(self._headers):
            # Asked for without its wish it is answered as HTTP/1.1. The parser takes what follows
            # for that other protocol's, the body too.
            self.data_received(self._head(method, without=b"upgrade") + rest)
        elif self._config.ws_protocol_class is None or self._busy():
            self._refuse(InvalidRequest("A WebSocket cannot be opened here."))
        else:
            self._hand_over(self._head(method) + rest)

    def _head(self, method: bytes, *, without: bytes = b"") -> bytes:
        """The head that was read, once more."""
        version = self._parser.get_http_version().encode()
        head = [method, b" ", self._url, b" HTTP/", version, b"\r\n"]
        for name, value in self._headers:
            if name != without:
                head += (name, b": ", value, b"\r\n")
        return b"".join([*head, b"\r\n"])

    def _hand_over(self, data: bytes) -> None:
        """The connection is a WebSocket's from here on."""
        if self._timer is not None:
            self._timer.cancel()
        self._state.connections.discard(cast(Any, self))
        protocol = cast(Any, self._config.ws_protocol_class)(
            config=self._config, server_state=self._state, app_state=self._app_state
        )
        protocol.connection_made(self._transport)
        self._transport.set_protocol(protocol)
        protocol.data_received(data)


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(
        f"The head of the request is larger than {MAX_HEAD_BYTES} bytes, or has more than "
        f"{MAX_HEADERS} headers."
    )
