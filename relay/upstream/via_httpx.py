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
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

import httpx

from relay.errors import (
    BackendError,
    ConnectTimeout,
    Overloaded,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from relay.events import Observer, ignore
from relay.settings import UpstreamSettings
from relay.types import Call, Completion, RawHeaders, TimeLimits
from relay.upstream.credentials import open_keys
from relay.upstream.headers import downward
from relay.upstream.key import Key
from relay.upstream.limits import KEEP_ALIVE_S, MAX_BODY_BYTES
from relay.upstream.paths import path_of
from relay.upstream.reasons import cannot_be_reached
from relay.upstream.refusal import refuse
from relay.upstream.request import PromisedBody, own_headers
from relay.upstream.slots import Slots
from relay.upstream.sockets import UpstreamSockets
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


def _wants_tls(settings: UpstreamSettings) -> bool:
    return any(urlsplit(url or "").scheme == "https" for url in (settings.base_url, settings.proxy))


def _trusting_nobody() -> ssl.SSLContext:
    """For those who need none: the system's trust takes 50 ms to read."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class HttpxUpstream:
    """One upstream, as a `Backend`."""

    def __init__(
        self,
        settings: UpstreamSettings,
        observe: Observer = ignore,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = settings.name
        self._base_url = settings.base_url
        self._path_of = path_of(settings)
        self._limits = TimeLimits(**settings.timeouts.model_dump())
        self._slots = Slots(settings)
        self._keys = open_keys(settings, observe)
        self.sockets = UpstreamSockets(settings, self._keys)
        self._headers = own_headers(settings)
        # Our own slots bound the connections; httpx's pool only keeps the idle ones.
        limits = httpx.Limits(
            max_connections=None,
            max_keepalive_connections=settings.max_idle,
            keepalive_expiry=KEEP_ALIVE_S,
        )
        self._open_client = partial(
            httpx.AsyncClient,
            verify=tls_context(settings) if _wants_tls(settings) else _trusting_nobody(),
            proxy=settings.proxy,
            http2=settings.http2,
            limits=limits,
            timeout=None,
            trust_env=False,
            follow_redirects=False,
        )
        self._transport = transport
        self._connections = _Connections(self._open_client(transport=transport))
        self._closing: set[asyncio.Task[None]] = set()

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
        limits = call.limits or self._limits
        clock = _Clock(limits, self.name)
        key = self._keys.take() or await self._keys.fetch()
        await self._slots.take(min(limits.connect_s, limits.total_s))
        connections = self._connections
        connections.calls += 1
        response: httpx.Response | None = None
        try:
            async with clock.phases() as trace:
                response = await self._send(connections.client, call, trace, key)
                # Not `aiter_raw`, which refuses the answers that a transport made of one piece.
                pieces = aiter(cast(httpx.AsyncByteStream, response.stream))
                first = await _next(pieces, self.name)
            answer = HttpxAnswer(response, pieces, first, clock)
            if answer.status >= 300:
                rest = partial(_read, answer, self.name)
                await refuse(self.name, answer, rest, keys=self._keys, key=key)
            if key.on_trial:
                self._keys.accepted(key)
            yield answer
        finally:
            try:
                if response is not None:
                    await response.aclose()
            finally:
                self._slots.give_back()
                connections.calls -= 1
                if connections is not self._connections and not connections.calls:
                    self._close(connections.client)

    async def probe(self, limit_s: float) -> None:
        """See whether a connection can be made, by the proxy if there is one; one is, and closed.

        A transport of somebody else's cannot be asked that, and is taken to be well.

        Raises:
            UpstreamUnreachable, ConnectTimeout: it cannot, or not within `limit_s`.
        """
        if self._transport is not None:
            return
        clock = _Clock(replace(self._limits, connect_s=limit_s), self.name)
        async with self._open_client() as client:
            try:
                async with clock.phases() as trace:
                    extensions = {"trace": partial(_until_it_stands, trace)}
                    await client.get(f"{self._base_url}/", extensions=extensions)
            except _Stands:
                return
            except httpx.HTTPError as exc:
                failure = translate(exc, self.name)
                if not isinstance(failure, UpstreamUnreachable | ConnectTimeout):
                    failure = UpstreamUnreachable(failure.message)
                raise failure from _loggable(exc)

    def drop_idle(self) -> None:
        """Use no connection again that is idle now: httpx can only be given up as a whole.

        A transport of somebody else's stays.
        """
        if self._transport is not None:
            return
        old, self._connections = self._connections, _Connections(self._open_client())
        if not old.calls:
            self._close(old.client)

    def waiting(self) -> int:
        """How many calls wait for a slot."""
        return self._slots.queued

    def keys(self) -> list[dict[str, object]]:
        """The state of each key; see `Keys.states`."""
        return self._keys.states()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._keys.aclose()
        await self._connections.client.aclose()
        await asyncio.gather(*self._closing)

    def _close(self, client: httpx.AsyncClient) -> None:
        task = asyncio.get_running_loop().create_task(client.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _send(
        self, client: httpx.AsyncClient, call: Call, trace: Any, key: Key
    ) -> httpx.Response:
        own = dict([key.header] if key.header else []) | self._headers
        headers = [
            *(pair for pair in call.headers if pair[0] not in own),
            *own.items(),
            (b"accept-encoding", b"identity"),
        ]
        body: bytes | PromisedBody | None = call.body or None
        if call.content is not None:
            body = PromisedBody(call.content, call.content_length, self.name)
            if call.content_length is not None:
                headers.append((b"content-length", b"%d" % call.content_length))
        try:
            request = httpx.Request(
                call.method,
                f"{self._base_url}/{self._path_of(call)}",
                headers=headers,
                content=body,
                extensions={"trace": trace},
            )
            return await client.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise translate(exc, self.name) from _loggable(exc)


@dataclass(slots=True, eq=False)
class _Connections:
    """httpx's client and pool, and how many calls use them."""

    client: httpx.AsyncClient
    calls: int = 0


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

    def __init__(self, limits: TimeLimits, upstream: str) -> None:
        self.upstream = upstream
        self._limits = limits
        self._now = asyncio.get_running_loop().time
        self._deadline = self._now() + limits.total_s

    @asynccontextmanager
    async def phases(self) -> AsyncIterator[Any]:
        """Limits everything up to the first bytes; gives httpx's trace hook, which moves it on."""
        phase = "connect_s"
        connection: Any = None
        try:
            async with asyncio.timeout(self._limits.connect_s) as limit:

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
                        first_byte = self._now() + self._limits.first_byte_s
                        if first_byte > self._deadline:
                            phase, first_byte = "total_s", self._deadline
                        limit.reschedule(first_byte)

                yield trace
        except TimeoutError as exc:
            raise self._too_late(phase) from exc

    @asynccontextmanager
    async def idle(self) -> AsyncIterator[None]:
        """Limits the wait for one piece."""
        idle = self._now() + self._limits.idle_s
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
            f"({getattr(self._limits, phase):g} s)."
        )


class _Stands(Exception):
    """A connection stands, and nothing was asked on it yet."""


async def _until_it_stands(trace: Any, event: str, info: dict[str, Any]) -> None:
    """A trace hook that ends a call as its request is about to leave."""
    await trace(event, info)
    if event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
        raise _Stands


def translate(exc: Exception, upstream: str) -> BackendError:
    """One of httpx's errors as one of ours; the text holds nothing of the request."""
    kind, what = next(found for known, found in ERRORS.items() if isinstance(exc, known))
    told = cannot_be_reached(exc) if isinstance(exc, httpx.ConnectError) else what
    return kind(f"The upstream '{upstream}' {told}.")


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
