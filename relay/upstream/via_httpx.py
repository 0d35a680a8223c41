"""The upstream client on httpx: complete, not fast; the reference for the others.

It does what ours does not: proxies, HTTP/2, transports of somebody else's.

What httpx does not give us is done here: a first-byte limit apart from the idle limit (its `read`
covers both), a total limit, and slots of our own, because its pool may lose some on cancellation.

    phase of a call          limit           failure
    waiting for a slot       connect_s       Overloaded
    connecting, TLS          connect_s       ConnectTimeout, UpstreamUnreachable
    sending the request      total_s         UpstreamTimeout
    until the first bytes    first_byte_s    UpstreamTimeout, UpstreamProtocol
    between two pieces       idle_s          UpstreamTimeout, UpstreamProtocol
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx

from relay.errors import (
    BackendError,
    ConnectTimeout,
    Overloaded,
    UpstreamAuth,
    UpstreamProtocol,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from relay.settings import Timeouts, UpstreamSettings
from relay.types import Call, Completion, RawHeaders
from relay.upstream.headers import downward
from relay.upstream.limits import KEEP_ALIVE_S, MAX_BODY_BYTES
from relay.upstream.request import PromisedBody
from relay.upstream.tls import tls_context

ERRORS: dict[type[Exception], tuple[type[BackendError], str]] = {
    httpx.ConnectTimeout: (ConnectTimeout, "did not accept a connection in time"),
    httpx.PoolTimeout: (Overloaded, "has no free connection"),
    httpx.TimeoutException: (UpstreamTimeout, "did not answer in time"),
    httpx.ConnectError: (UpstreamUnreachable, "cannot be reached"),
    httpx.ProxyError: (UpstreamUnreachable, "cannot be reached through its proxy"),
    httpx.UnsupportedProtocol: (UpstreamUnreachable, "has an address of an unknown kind"),
    httpx.RemoteProtocolError: (UpstreamProtocol, "ended its answer early or broke HTTP"),
    httpx.TransportError: (UpstreamProtocol, "broke the connection"),
    httpx.HTTPError: (UpstreamProtocol, "gave an answer that cannot be read"),
    httpx.StreamError: (UpstreamProtocol, "gave an answer that cannot be read"),
    httpx.InvalidURL: (UpstreamUnreachable, "has an address that cannot be read"),
}
"""httpx's errors and ours, the more special ones first."""


class HttpxUpstream:
    """One upstream, as a `Backend`."""

    def __init__(
        self, settings: UpstreamSettings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.name = settings.name
        self._base_url = settings.base_url
        self._timeouts = settings.timeouts
        self._slots = asyncio.Semaphore(settings.max_parallel)
        self._keys = itertools.cycle(
            [b"Bearer " + key.get_secret_value().encode() for key in settings.api_keys] or [b""]
        )
        self._headers = [
            (name.lower().encode(), value.get_secret_value().encode())
            for name, value in settings.headers.items()
        ]
        # Our own slots bound the connections; httpx's pool only keeps the idle ones.
        limits = httpx.Limits(
            max_connections=None,
            max_keepalive_connections=settings.max_idle,
            keepalive_expiry=KEEP_ALIVE_S,
        )
        self._client = httpx.AsyncClient(
            verify=tls_context(settings),
            proxy=settings.proxy,
            http2=settings.http2,
            transport=transport,
            limits=limits,
            timeout=httpx.Timeout(None, connect=settings.timeouts.connect_s),
            trust_env=False,
            follow_redirects=False,
        )

    async def complete(self, call: Call) -> Completion:
        """The upstream's whole answer.

        Raises:
            BackendError: as the table above says; an error status is an `UpstreamStatus`.
        """
        async with self.stream(call) as answer:
            body = await _read(answer, self.name)
            return Completion(answer.status, answer.headers, body)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator["HttpxAnswer"]:
        """The upstream's answer, once its status and its first bytes are there.

        Raises:
            BackendError: as the table above says; an error status is an `UpstreamStatus`.
        """
        clock = _Clock(self._timeouts, self.name)
        await self._take_slot()
        response: httpx.Response | None = None
        try:
            async with clock.phases() as trace:
                response = await self._send(call, trace)
                # Not `aiter_raw`, which refuses the answers that a transport made of one piece.
                pieces = aiter(cast(httpx.AsyncByteStream, response.stream))
                first = await _next(pieces, self.name)
            answer = HttpxAnswer(response, pieces, first, clock)
            await self._check(answer)
            yield answer
        finally:
            try:
                if response is not None:
                    await response.aclose()
            finally:
                self._slots.release()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _take_slot(self) -> None:
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                await self._slots.acquire()
        except TimeoutError:
            raise Overloaded(
                f"The upstream '{self.name}' has as many calls open as it may; try again.",
                headers=[(b"retry-after", b"1")],
            ) from None

    async def _send(self, call: Call, trace: Any) -> httpx.Response:
        headers = [
            *((name, value) for name, value in call.headers if name not in self._own_names()),
            *self._headers,
            (b"accept-encoding", b"identity"),
        ]
        if key := next(self._keys):
            headers.append((b"authorization", key))
        body: bytes | PromisedBody | None = call.body or None
        if call.content is not None:
            body = PromisedBody(call.content, call.content_length, self.name)
            if call.content_length is not None:
                headers.append((b"content-length", b"%d" % call.content_length))
        try:
            request = httpx.Request(
                call.method,
                f"{self._base_url}/{call.path}",
                headers=headers,
                content=body,
                extensions={"trace": trace, "timeout": self._client.timeout.as_dict()},
            )
            return await self._client.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise translate(exc, self.name) from _loggable(exc)

    def _own_names(self) -> set[bytes]:
        return {name for name, _ in self._headers}

    async def _check(self, answer: "HttpxAnswer") -> None:
        status = answer.status
        if status < 300:
            return
        if status < 400:
            raise UpstreamProtocol(
                f"The upstream '{self.name}' redirects (status {status}), which is not followed; "
                "its base URL is probably wrong."
            )
        if status in (401, 403):
            raise UpstreamAuth(f"The upstream '{self.name}' refuses the relay's key.")
        raise UpstreamStatus(status, headers=answer.headers, body=await _read(answer, self.name))


class HttpxAnswer:
    """An answer that has begun; iterating gives its bytes as they arrive."""

    def __init__(
        self,
        response: httpx.Response,
        pieces: AsyncIterator[bytes],
        first: bytes | None,
        clock: "_Clock",
    ) -> None:
        self.status = response.status_code
        self.headers: RawHeaders = downward(response.headers.raw)
        self._pieces = pieces
        self._first = first
        self._clock = clock

    def __aiter__(self) -> "HttpxAnswer":
        return self

    async def __anext__(self) -> bytes:
        piece, self._first = self._first, b""
        if piece is None:
            raise StopAsyncIteration
        while not piece:
            async with self._clock.idle():
                more = await _next(self._pieces, self._clock.upstream)
            if more is None:
                raise StopAsyncIteration
            piece = more
        return piece


class _Clock:
    """The four limits of one call. Times are the event loop's, in seconds."""

    def __init__(self, timeouts: Timeouts, upstream: str) -> None:
        self.upstream = upstream
        self._timeouts = timeouts
        self._now = asyncio.get_running_loop().time
        self._deadline = self._now() + timeouts.total_s

    @asynccontextmanager
    async def phases(self) -> AsyncIterator[Any]:
        """Limits everything up to the first bytes; gives httpx's trace hook, which moves it on."""
        phase = "connect_s"
        connection: Any = None
        try:
            async with asyncio.timeout(self._timeouts.connect_s) as limit:

                async def trace(event: str, info: dict[str, Any]) -> None:
                    nonlocal phase, connection
                    if event == "connection.connect_tcp.complete":
                        connection = info["return_value"]
                    elif event == "connection.start_tls.failed":
                        await connection.aclose()  # httpcore leaves it open when cancelled here
                    elif event.endswith("send_request_headers.started"):
                        phase = "total_s"
                        limit.reschedule(self._deadline)
                    elif event.endswith("send_request_body.complete"):
                        phase = "first_byte_s"
                        first_byte = self._now() + self._timeouts.first_byte_s
                        if first_byte > self._deadline:
                            phase, first_byte = "total_s", self._deadline
                        limit.reschedule(first_byte)

                yield trace
        except TimeoutError as exc:
            raise self._too_late(phase) from exc

    @asynccontextmanager
    async def idle(self) -> AsyncIterator[None]:
        """Limits the wait for one piece."""
        idle = self._now() + self._timeouts.idle_s
        phase, when = ("idle_s", idle) if idle < self._deadline else ("total_s", self._deadline)
        try:
            async with asyncio.timeout_at(when):
                yield
        except TimeoutError as exc:
            raise self._too_late(phase) from exc

    def _too_late(self, phase: str) -> UpstreamTimeout:
        kind = ConnectTimeout if phase == "connect_s" else UpstreamTimeout
        return kind(
            f"The upstream '{self.upstream}' took longer than {phase} allows "
            f"({getattr(self._timeouts, phase):g} s)."
        )


def translate(exc: Exception, upstream: str) -> BackendError:
    """One of httpx's errors as one of ours; the text holds nothing of the request."""
    kind, what = next(found for known, found in ERRORS.items() if isinstance(exc, known))
    return kind(f"The upstream '{upstream}' {what}.")


def _loggable(exc: Exception) -> Exception | None:
    """The cause to show, unless it quotes what was sent or received: that may hold our key."""
    return None if isinstance(exc, httpx.ProtocolError) else exc


async def _next(pieces: AsyncIterator[bytes], upstream: str) -> bytes | None:
    try:
        return await anext(pieces, None)
    except (httpx.HTTPError, httpx.StreamError) as exc:
        raise translate(exc, upstream) from _loggable(exc)


async def _read(answer: HttpxAnswer, upstream: str) -> bytes:
    body = bytearray()
    async for piece in answer:
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise UpstreamProtocol(f"The answer of the upstream '{upstream}' is too large.")
    return bytes(body)
