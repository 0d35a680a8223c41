"""Which headers travel: up from the client, down from the upstream. By name or by prefix.

up      everything but credentials, cookies, the connection's own headers, what tells who and
        where the client is, and what picks an account (organisation and project belong to the key)
down    everything but the connection's own headers, cookies, the upstream's CORS and what tells
        whose account it is; its request id comes as `x-upstream-request-id`
"""

from collections.abc import Iterable

from relay.types import RawHeaders

_CONNECTION = frozenset(
    {
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_STAYS_HERE = _CONNECTION | {
    b"accept-encoding",
    b"api-key",
    b"authorization",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-unmodified-since",
    b"last-event-id",
    b"openai-organization",
    b"openai-project",
    b"origin",
    b"referer",
    b"via",
    b"x-api-key",
    b"x-goog-api-key",
    b"x-real-ip",
    b"x-request-id",
}
_STAYS_HERE_PREFIXES = (b"access-control-", b"cf-", b"sec-", b"x-forwarded-", b"x-relay-")
_STAYS_THERE = _CONNECTION | {
    b"alt-svc",
    b"date",
    b"openai-organization",
    b"openai-project",
    b"server",
    b"server-timing",
    b"set-cookie",
    b"strict-transport-security",
    b"vary",
    b"www-authenticate",
}
_STAYS_THERE_PREFIXES = (b"access-control-", b"cf-", b"x-relay-")
_RENAMED = {b"x-request-id": b"x-upstream-request-id"}


def upward(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """The client's headers that go on to an upstream; names are in lower case, as in ASGI."""
    named = _connection_options(headers := list(headers))
    return [
        (name, value)
        for name, value in headers
        if name not in _STAYS_HERE
        and not name.startswith(_STAYS_HERE_PREFIXES)
        and name not in named
    ]


def downward(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """The upstream's headers that come back to the client, names in lower case."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = _connection_options(lowered)
    return [
        (_RENAMED.get(name, name), value)
        for name, value in lowered
        if name not in _STAYS_THERE
        and not name.startswith(_STAYS_THERE_PREFIXES)
        and name not in named
    ]


def _connection_options(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """Headers that a `connection` header declares to be of this hop only (RFC 9110, 7.6.1)."""
    return {
        option.strip().lower()
        for name, value in headers
        if name == b"connection"
        for option in value.split(b",")
    }
