"""Which headers travel: up from the client, down from the upstream. By name or by prefix.

up      everything but credentials, cookies, the connection's own headers, what tells who and
        where the client is, and what picks an account (organisation and project belong to the key)
down    everything but the connection's own headers, cookies, the upstream's CORS and what tells
        whose account it is; its request id comes as `x-upstream-request-id`
"""

import math
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime

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

_USUAL_OPTIONS = frozenset({b"", b"close", b"keep-alive"})
"""What a `connection` header says nearly always: it names no header."""

_FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})


class Upward(list[tuple[bytes, bytes]]):
    """Headers that go on to an upstream, and as one upstream has `written` them.

    Calls of one connection usually have the same headers: they are written out once.
    """

    __slots__ = ("written",)

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__(pairs)
        self.written: tuple[object, bytes] | None = None


class _Travelling(dict[bytes, bytes | None]):
    """By the name of a header, the one under which it travels.

    It is empty for one that stays, and None for one that stays and has to be looked at. Deciding
    costs half a microsecond, and the same twenty names come with every call: so the first short
    names that are asked for are remembered.
    """

    REMEMBERED = 1000
    LONGEST = 64

    def __init__(
        self,
        stays: frozenset[bytes],
        prefixes: tuple[bytes, ...],
        renamed: Mapping[bytes, bytes],
    ) -> None:
        super().__init__()
        self._stays = stays
        self._prefixes = prefixes
        self._renamed = renamed

    def __missing__(self, name: bytes) -> bytes | None:
        lowered = name.lower()
        travels: bytes | None
        if lowered in _FRAMING:
            travels = None
        elif lowered in self._stays or lowered.startswith(self._prefixes):
            travels = b""
        else:
            travels = self._renamed.get(lowered, lowered)
        if len(self) < self.REMEMBERED and len(name) <= self.LONGEST:
            self[name] = travels
        return travels


_UP = _Travelling(_STAYS_HERE, _STAYS_HERE_PREFIXES, {})
_DOWN = _Travelling(_STAYS_THERE, _STAYS_THERE_PREFIXES, _RENAMED)


def upward(headers: Iterable[tuple[bytes, bytes]]) -> Upward:
    """The client's headers that go on to an upstream; names are in lower case, as in ASGI."""
    return Upward(_divide(headers, _UP)[0])


def downward(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """The upstream's headers that come back to the client, names in lower case."""
    return _divide(headers, _DOWN)[0]


def divide_downward(
    headers: Iterable[tuple[bytes, bytes]],
) -> tuple[RawHeaders, list[tuple[bytes, bytes]]]:
    """The upstream's headers that come back to the client, and those that frame the answer.

    Names in lower case.
    """
    return _divide(headers, _DOWN)


def retry_after_s(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """In how many seconds an upstream wants to be asked again; None when it does not say.

    Source: RFC 9110, 10.2.3 (seconds or a date); `retry-after-ms` as OpenAI sends it.
    """
    told = dict(headers)
    after, after_ms = told.get(b"retry-after", b""), told.get(b"retry-after-ms")
    try:
        if after_ms is not None:
            seconds = float(after_ms) / 1000
        elif after.strip().isdigit():
            seconds = float(after)
        else:
            seconds = parsedate_to_datetime(after.decode("latin-1")).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _divide(
    headers: Iterable[tuple[bytes, bytes]], names: _Travelling
) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
    travelling = []
    framing = []
    for name, value in headers:
        travels = names[name]
        if travels:
            travelling.append((travels, value))
        elif travels is None:
            lowered = name.lower()
            if lowered != b"connection":
                framing.append((lowered, value))
            elif value.lower() not in _USUAL_OPTIONS:
                return _without_options(headers, names)
    return travelling, framing


def _without_options(
    headers: Iterable[tuple[bytes, bytes]], names: _Travelling
) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
    """The same, less the headers that a `connection` header declares to be of this hop only.

    Source: RFC 9110, 7.6.1.
    """
    others = [pair for pair in headers if pair[0].lower() != b"connection"]
    travelling, framing = _divide(others, names)
    options = {
        option.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for option in value.split(b",")
    }
    options |= {_RENAMED.get(option, option) for option in options}
    return [pair for pair in travelling if pair[0] not in options], framing
