"""The upstream client: one OpenAI-format server, behind the `Backend` protocol.

    transport                    client
    direct                       direct.DirectUpstream: HTTP/1.1 at little cost
    httpx                        via_httpx.HttpxUpstream: proxies, HTTP/2; the reference
    package.module:attribute     HttpxUpstream over that `httpx.AsyncBaseTransport`
    auto                         httpx where a proxy or HTTP/2 is asked for, else direct

Around either stands `anthropic.AnthropicUpstream` when that is what the server speaks.

One contract suite runs over both clients; both keep to `headers.py`, `limits.py` and `tls.py`.

    direct.py   the client         request.py   the bytes of a request
    pool.py     its connections    http1.py     one connection
    dial.py     making one         answer.py    the bytes of an answer
    paths.py    where a call goes  refusal.py   the error for a refused call
    resolver.py its addresses      reasons.py   why it cannot be reached

    credentials.py   what a call shows: one of the keys (keypool.py), or a token that a program
                     prints (token_command.py) or a file holds (token_file.py)

    sockets.py       WebSockets to it
    slots.py         the places of the client on httpx, in the order of asking
    fetching.py      one document of another server, such as an identity provider's keys
"""

from relay.events import Observer, ignore
from relay.settings import UpstreamSettings
from relay.upstream.anthropic import AnthropicUpstream
from relay.upstream.direct import DirectUpstream
from relay.upstream.fetching import fetch
from relay.upstream.headers import upward
from relay.upstream.server import Upstream
from relay.upstream.sockets import NO_STATUS, SocketClosed, UpstreamSocket, UpstreamSockets

__all__ = [
    "NO_STATUS",
    "SocketClosed",
    "Upstream",
    "UpstreamSocket",
    "UpstreamSockets",
    "fetch",
    "open_upstream",
    "upward",
]


def open_upstream(settings: UpstreamSettings, observe: Observer = ignore) -> Upstream:
    """A client for that upstream. Opens nothing until it is called.

    `observe` is told of keys that the upstream refuses.

    Raises:
        SettingsError: a certificate, a key, the token command or the transport cannot be loaded.
    """
    client = _open_client(settings, observe)
    return AnthropicUpstream(client) if settings.kind == "anthropic" else client


def _open_client(settings: UpstreamSettings, observe: Observer) -> Upstream:
    transport = settings.transport
    if transport == "auto":
        transport = "httpx" if settings.proxy or settings.http2 else "direct"
    if transport == "direct":
        return DirectUpstream(settings, observe)
    # httpx takes a tenth of a second to load, which only its users spend.
    from relay.upstream.transports import load_transport  # noqa: PLC0415
    from relay.upstream.via_httpx import HttpxUpstream  # noqa: PLC0415

    if transport == "httpx":
        return HttpxUpstream(settings, observe)
    return HttpxUpstream(settings, observe, transport=load_transport(settings))
