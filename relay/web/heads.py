"""Heads of requests: what they say, and how to know the same one again without parsing it.

Most clients send one head over and over on a connection; only its `content-length` differs. What
was found out about it once, strictly, holds for the next one that has the same bytes.

    POST /v1/chat/completions HTTP/1.1 … content-length: 181 … accept: */*
    |---------------- before --------------------------| |---| |- after -|    then the body
"""

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote

import httptools

from relay.types import RawHeaders

MOST_DIGITS = 12
"""Of a length that is read here; longer ones are the parser's business."""

LENGTH = b"content-length"

Made = TypeVar("Made")

Line = tuple[str, bytes, str, str]


class Headers:
    """A request's headers: `pairs` as they came, names in lower case; `named`, the last of each."""

    __slots__ = ("_made", "named", "pairs")

    def __init__(self, pairs: RawHeaders) -> None:
        self.pairs = pairs
        self.named = dict(pairs)
        self._made: dict[Callable[[RawHeaders], Any], Any] = {}

    def made(self, function: Callable[[RawHeaders], Made]) -> Made:
        """What the function makes of the pairs; it is asked once, also when the head comes again.

        So it must not look at the length, which may be another then.
        """
        try:
            known: Made = self._made[function]
        except KeyError:
            known = self._made[function] = function(self.pairs)
        return known

    def with_length(self, digits: bytes) -> "Headers":
        """The same with another length."""
        headers = Headers.__new__(Headers)
        headers.pairs = [(n, digits) if n == LENGTH else (n, value) for n, value in self.pairs]
        headers.named = {**self.named, LENGTH: digits}
        headers._made = self._made
        return headers


class KnownHead:
    """The head of the last request that came whole, with its body, as one piece of data.

    `line` is its method, target, path and version; `headers` are those of what was read last.
    """

    __slots__ = ("_after", "_before", "_digits", "headers", "line")

    def __init__(
        self, before: bytes, digits: bytes, after: bytes, line: Line, headers: Headers
    ) -> None:
        self._before = before
        self._digits = digits
        self._after = after
        self.line = line
        self.headers = headers

    @classmethod
    def learn(cls, data: bytes, line: Line, headers: Headers) -> "KnownHead | None":
        """The head at the beginning of what was just read as one request; None without a length."""
        end = data.find(b"\r\n\r\n") + 4
        at = data[:end].lower().find(b"\r\n%b:" % LENGTH)
        if at < 0:
            return None
        digits = headers.named[LENGTH]
        start = data.find(digits, at)
        stop = start + len(digits)
        return cls(data[:start], digits, data[stop:end], line, headers)

    def read(self, data: bytes) -> bytes | None:
        """The body, if data is that head again and a whole body."""
        before = self._before
        if not data.startswith(before):
            return None
        start = len(before)
        stop = data.find(b"\r", start, start + MOST_DIGITS + 1)
        digits = data[start:stop]
        if stop < 0 or not (digits.isdigit() and data.startswith(self._after, stop)):
            return None
        body = data[stop + len(self._after) :]
        if len(body) != int(digits):
            return None
        if digits != self._digits:
            self._digits = digits
            self.headers = self.headers.with_length(digits)
        return body


def divide(url: bytes) -> tuple[str, bytes, bytes]:
    """A request's target as path, the same as it was written, and query."""
    parts = httptools.parse_url(url)
    raw_path = parts.path or b"/"
    return unquote(raw_path.decode("ascii")), raw_path, parts.query or b""


def wants_websocket(headers: RawHeaders) -> bool:
    """Whether a head that asks for another protocol asks for that one."""
    named = dict(headers)
    options = named.get(b"connection", b"").lower().split(b",")
    return (
        b"upgrade" in [option.strip() for option in options]
        and named.get(b"upgrade", b"").lower() == b"websocket"
    )
