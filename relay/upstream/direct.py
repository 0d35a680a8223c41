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

from relay.errors import UpstreamAuth, UpstreamProtocol, UpstreamStatus
from relay.settings import UpstreamSettings
from relay.types import Call, Completion, RawHeaders
from relay.upstream.dial import Dialer
from relay.upstream.http1 import Connection, Sink
from relay.upstream.pool import Pool
from relay.upstream.request import PromisedBody, RequestHead


class DirectUpstream:
    """One upstream, as a `Backend`."""

    def __init__(self, settings: UpstreamSettings) -> None:
        self.name = settings.name
        self._total_s = settings.timeouts.total_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._head = RequestHead(settings)
        self._pool = Pool(
            settings.name,
            Dialer(settings).dial,
            max_open=settings.max_parallel,
            max_idle=settings.max_idle,
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

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def ask(self, call: Call, *, whole: bool) -> Connection:
        """A connection on which the answer has begun, or ended when it was to be `whole`.

        It has to be given back. Raises: as `complete` does.
        """
        head = self._head.write(call)
        if self._loop is None:  # asked for once: in Python 3.11 it costs a system call
            self._loop = asyncio.get_running_loop()
        total_at = self._loop.time() + self._total_s
        bodiless = call.method == "HEAD"
        connection = self._pool.take_idle() or await self._pool.take()
        if call.content is not None and connection.used:
            connection = await self._pool.replace(connection)
        while True:
            try:
                connection.send(head, call.body, total_at=total_at, whole=whole, bodiless=bodiless)
                if call.content is not None:
                    length = call.content_length
                    body = PromisedBody(call.content, length, self.name)
                    connection.send_streamed(body, length)
                while not connection.ready:
                    await connection.more()
                if connection.answer.status >= 300:
                    await self._refuse(connection)
            except BaseException as exc:
                if not (connection.stale and isinstance(exc, UpstreamProtocol)):
                    self._pool.give_back(connection)
                    raise
            else:
                return connection
            connection = await self._pool.replace(connection)  # a new one cannot be stale

    def give_back(self, connection: Connection) -> None:
        """What `ask` gave has been read, or will not be."""
        self._pool.give_back(connection)

    async def _refuse(self, connection: Connection) -> None:
        answer = connection.answer
        if answer.status < 400:
            raise UpstreamProtocol(
                f"The upstream '{self.name}' redirects (status {answer.status}), which is not "
                "followed; its base URL is probably wrong."
            )
        if answer.status in (401, 403):
            raise UpstreamAuth(f"The upstream '{self.name}' refuses the relay's key.")
        body = await connection.rest()
        raise UpstreamStatus(answer.status, headers=answer.headers, body=body)


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

    async def pour(self, sink: Sink) -> None:
        """Give the body to `sink`, each piece as it comes; see `Connection.pour`."""
        if self._connection is not None:
            await self._connection.pour(sink)
