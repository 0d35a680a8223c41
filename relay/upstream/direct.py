"""The upstream client of our own: HTTP/1.1, straight to the upstream, at little cost.

    phase of a call          limit           failure
    waiting for a slot       connect_s       Overloaded
    connecting, TLS          connect_s       ConnectTimeout, UpstreamUnreachable
    sending the request      total_s         UpstreamTimeout
    until the first bytes    first_byte_s    UpstreamTimeout, UpstreamProtocol
    between two pieces       idle_s          UpstreamTimeout, UpstreamProtocol

A connection that the upstream closed while it was idle may be noticed only when the next request
is on its way: that one is sent once more, on a new connection, if nothing was heard on the old. A
streamed body cannot be sent once more, so it goes out on a new connection at once.
"""

import asyncio
from collections.abc import Awaitable

from relay.errors import UpstreamProtocol
from relay.events import Observer, ignore
from relay.settings import UpstreamSettings
from relay.types import Call, Completion, RawHeaders
from relay.upstream.credentials import open_keys
from relay.upstream.dial import Dialer
from relay.upstream.http1 import Connection, Sink
from relay.upstream.pool import Pool
from relay.upstream.refusal import refuse
from relay.upstream.request import PromisedBody, RequestHead
from relay.upstream.sockets import UpstreamSockets


class DirectUpstream:
    """One upstream, as a `Backend`."""

    def __init__(self, settings: UpstreamSettings, observe: Observer = ignore) -> None:
        self.name = settings.name
        self._total_s = settings.timeouts.total_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keys = open_keys(settings, observe)
        self.sockets = UpstreamSockets(settings, self._keys)
        self._head = RequestHead(settings)
        self._dialer = Dialer(settings)
        self._pool = Pool(
            settings.name,
            self._dialer.dial,
            max_open=settings.max_parallel,
            max_idle=settings.max_idle,
            max_queued=settings.max_queued,
            max_wait_s=settings.timeouts.connect_s,
        )

    async def complete(self, call: Call) -> Completion:
        """The upstream's whole answer.

        Raises:
            BackendError: as the table above says; an error status is an `UpstreamStatus`.
        """
        connection = await self.ask(call, whole=True)
        answer = connection.answer
        body = b"".join(answer.pieces)
        self._pool.give_back(connection)
        return Completion(answer.status, answer.headers, body)

    def stream(self, call: Call) -> "DirectAnswer":
        """The upstream's answer, once its status and its first bytes are there.

        Raises:
            BackendError: as the table above says; an error status is an `UpstreamStatus`.
        """
        return DirectAnswer(self, call)

    async def probe(self, limit_s: float) -> None:
        """See whether a connection can be made; one is, and closed.

        Raises:
            UpstreamUnreachable, ConnectTimeout: it cannot, or not within `limit_s`.
        """
        await self._dialer.probe(limit_s)

    def drop_idle(self) -> None:
        """Close the connections that are idle now."""
        self._pool.drop_idle()

    def waiting(self) -> int:
        """How many calls wait for a connection."""
        return self._pool.waiting

    def keys(self) -> list[dict[str, object]]:
        """The state of each key; see `Keys.states`."""
        return self._keys.states()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._keys.aclose()
        await self._pool.aclose()

    async def ask(self, call: Call, *, whole: bool) -> Connection:
        """A connection on which the answer has begun, or ended when it was to be `whole`.

        It has to be given back. Raises: as `complete` does.
        """
        if self._loop is None:  # asked for once: in Python 3.11 it costs a system call
            self._loop = asyncio.get_running_loop()
        limits = call.limits
        total_s = self._total_s if limits is None else limits.total_s
        connect_s = None if limits is None else min(limits.connect_s, total_s)
        total_at = self._loop.time() + total_s
        key = self._keys.take() or await self._keys.fetch()
        head = self._head.write(call, key)
        bodiless = call.method == "HEAD"
        connection = self._pool.take_idle() or await self._pool.take(connect_s)
        if call.content is not None and connection.used:
            connection = await self._pool.replace(connection, connect_s)
        while True:
            try:
                connection.send(
                    head,
                    call.body,
                    total_at=total_at,
                    whole=whole,
                    bodiless=bodiless,
                    limits=limits,
                )
                if call.content is not None:
                    length = call.content_length
                    body = PromisedBody(call.content, length, self.name)
                    connection.send_streamed(body, length)
                while not connection.ready:
                    await connection.more()
                if connection.answer.status >= 300:
                    await refuse(
                        self.name, connection.answer, connection.rest, keys=self._keys, key=key
                    )
            except BaseException as exc:
                if not (connection.stale and isinstance(exc, UpstreamProtocol)):
                    self._pool.give_back(connection)
                    raise
            else:
                if key.on_trial:
                    self._keys.accepted(key)
                return connection
            connection = await self._pool.replace(
                connection, connect_s
            )  # a new one cannot be stale

    def give_back(self, connection: Connection) -> None:
        """What `ask` gave has been read, or will not be."""
        self._pool.give_back(connection)


class DirectAnswer:
    """An answer, from entering to leaving; iterating gives its bytes as they arrive."""

    __slots__ = ("_call", "_connection", "_upstream", "headers", "status")

    status: int
    headers: RawHeaders

    def __init__(self, upstream: DirectUpstream, call: Call) -> None:
        self._upstream = upstream
        self._call = call
        self._connection: Connection | None = None

    async def __aenter__(self) -> "DirectAnswer":
        self._connection = connection = await self._upstream.ask(self._call, whole=False)
        self.status = connection.answer.status
        self.headers = connection.answer.headers
        return self

    async def __aexit__(self, *_: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._upstream.give_back(connection)

    def __aiter__(self) -> "DirectAnswer":
        return self

    async def __anext__(self) -> bytes:
        connection = self._connection
        if connection is None:
            raise StopAsyncIteration
        answer = connection.answer
        while not answer.pieces:
            if answer.ended:
                raise StopAsyncIteration
            await connection.more()
        return connection.take()

    def pour(self, sink: Sink) -> Awaitable[bytes]:
        """Give the body to `sink`, each piece as it comes; see `Connection.pour`."""
        return _no_more() if self._connection is None else self._connection.pour(sink)


async def _no_more() -> bytes:
    return b""
