"""The upstream client: one OpenAI-format server, behind the `Backend` protocol.

    transport                    client
    direct                       direct.DirectUpstream: HTTP/1.1 at little cost
    httpx                        via_httpx.HttpxUpstream: proxies, HTTP/2; the reference
    package.module:attribute     HttpxUpstream over that `httpx.AsyncBaseTransport`
    auto                         httpx where a proxy or HTTP/2 is asked for, else direct

One contract suite runs over both clients; both keep to `headers.py`, `limits.py` and `tls.py`.

    direct.py   the client         request.py   the bytes of a request
    pool.py     its connections    http1.py     one connection
    dial.py     making one         answer.py    the bytes of an answer
"""

from relay.settings import UpstreamSettings
from relay.types import Backend
from relay.upstream.direct import DirectUpstream
from relay.upstream.headers import upward
from relay.upstream.transports import load_transport
from relay.upstream.via_httpx import HttpxUpstream

__all__ = ["open_upstream", "upward"]


def open_upstream(settings: UpstreamSettings) -> Backend:
    """A client for that upstream. Opens nothing until it is called.

    Raises:
        SettingsError: a certificate, a key or the transport cannot be loaded.
    """
    transport = settings.transport
    if transport == "auto":
        transport = "httpx" if settings.proxy or settings.http2 else "direct"
    if transport == "direct":
        return DirectUpstream(settings)
    if transport == "httpx":
        return HttpxUpstream(settings)
    return HttpxUpstream(settings, transport=load_transport(settings))
