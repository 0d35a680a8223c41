"""Backends whose calls are attempts of a trace: each call that is traced goes out in its own span.

    sampled                     `traceparent` of the attempt, `tracestate` as it came
    not sampled, by the client  as it came: the client's own headers
    not sampled, by us          `traceparent` of the request, which says so

So a relay that does not trace has no such thing between its engine and its backends.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import urlsplit

from relay.settings import LOCAL, UpstreamSettings
from relay.telemetry.traces import Attempt, NoTraces, Peer, Trace, Traces, current
from relay.types import Answer, Backend, Call, Completion

_BY_KIND = {"azure": "azure.ai.openai", "anthropic": "anthropic", "openai": "openai"}
_BY_HOST = {
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
}
"""Servers of OpenAI's format that OpenTelemetry has a name for; any other one is `openai`."""


class Opens(Protocol):
    """Opens the WebSockets of an upstream."""

    async def open(self, call: Call, subprotocols: Sequence[str]) -> Any: ...


def traced(
    backends: Mapping[str, Backend],
    upstreams: Sequence[UpstreamSettings],
    traces: Traces | NoTraces,
) -> dict[str, Backend]:
    """Those backends, by name, with their calls noted; themselves where nothing is."""
    if isinstance(traces, NoTraces):
        return dict(backends)
    peers = {one.name: peer_of(one) for one in upstreams}
    local = Peer(LOCAL, "local")
    return {name: TracedBackend(one, peers.get(name, local)) for name, one in backends.items()}


def peer_of(upstream: UpstreamSettings) -> Peer:
    """What is told of an upstream."""
    url = urlsplit(upstream.base_url)
    host = url.hostname or ""
    provider = _BY_HOST.get(host) or _BY_KIND.get(upstream.kind, upstream.kind)
    return Peer(upstream.name, provider, host, url.port or {"https": 443}.get(url.scheme, 80))


class TracedBackend:
    """A backend of which each call is an attempt; see `Backend`."""

    def __init__(self, backend: Backend, peer: Peer) -> None:
        self.name = backend.name
        self.aclose = backend.aclose
        self._backend = backend
        self._peer = peer
        if sockets := getattr(backend, "sockets", None):
            self.sockets = TracedSockets(sockets, peer)

    def __getattr__(self, name: str) -> Any:
        """What else it tells of itself, as the paths that a local model answers."""
        return getattr(self._backend, name)

    async def complete(self, call: Call) -> Completion:
        """Answer with one body. Raises: as the backend does."""
        call, attempt = _begun(self._peer, call)
        if attempt is None:
            return await self._backend.complete(call)
        try:
            answer = await self._backend.complete(call)
        except BaseException as exc:
            attempt.end(exc)
            raise
        attempt.answered(answer.status)
        attempt.end()
        return answer

    def stream(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """Answer piece by piece. Raises: as the backend does."""
        call, attempt = _begun(self._peer, call)
        context = self._backend.stream(call)
        return context if attempt is None else _TracedStream(context, attempt)


class _TracedStream(AbstractAsyncContextManager[Answer]):
    """From its first bytes to its end; the answer itself is the backend's own."""

    __slots__ = ("_attempt", "_context")

    def __init__(self, context: AbstractAsyncContextManager[Answer], attempt: Attempt) -> None:
        self._context = context
        self._attempt = attempt

    async def __aenter__(self) -> Answer:
        try:
            answer = await self._context.__aenter__()
        except BaseException as exc:
            self._attempt.end(exc)
            raise
        self._attempt.answered(answer.status)
        return answer

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return await self._context.__aexit__(kind, exc, traceback)
        finally:
            self._attempt.end(exc)


class TracedSockets:
    """An upstream's WebSockets; opening one is an attempt."""

    def __init__(self, sockets: Opens, peer: Peer) -> None:
        self._sockets = sockets
        self._peer = peer

    async def open(self, call: Call, subprotocols: Sequence[str]) -> Any:
        """A socket at the call's path. Raises: as the upstream does."""
        call, attempt = _begun(self._peer, call)
        if attempt is None:
            return await self._sockets.open(call, subprotocols)
        attempt.asked = attempt.asked._replace(method="GET")  # on the wire it is one
        try:
            socket = await self._sockets.open(call, subprotocols)
        except BaseException as exc:
            attempt.end(exc)
            raise
        attempt.answered(101)
        attempt.end()
        return socket


def _begun(peer: Peer, call: Call) -> tuple[Call, Attempt | None]:
    """The call as it goes out, and its attempt if that is sampled."""
    trace: Trace | None = current()
    if trace is None:
        return call, None
    if trace.sampled:
        attempt = trace.begin(peer, call)
        return replace(call, headers=trace.headers(call.headers, attempt.span)), attempt
    if trace.parent is None:
        return replace(call, headers=trace.headers(call.headers, trace.span)), None
    return call, None
