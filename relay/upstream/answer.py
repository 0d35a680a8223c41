"""Reading answers: the bytes of one connection, as heads and bodies, strictly.

`httptools` (llhttp, all its leniencies off) parses. What it lets through and we do not: transfer
codings other than `chunked`, bodies of interim answers, a change of protocol, and anything after an
answer's end, which could pass for the next one.
"""

from collections import deque

import httptools

from relay.types import RawHeaders
from relay.upstream.headers import divide_downward
from relay.upstream.limits import MAX_HEAD_BYTES, MAX_HEADERS

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_WITHOUT_BODY = frozenset({204, 304})


class AnswerReader:
    """The answer that is being read; interim ones (1xx) are passed over.

    `status` is 0 until the head is complete. `pieces` are those of the body that wait to be taken.
    `until_close` says that only the connection's end ends the body, `reusable` that the upstream
    keeps the connection. `weigh_head` is set by who has seen that the head may be larger than
    `MAX_HEAD_BYTES`: it is not weighed for nothing. `feed` takes bytes and raises
    `httptools.HttpParserError`, whose context, if any, says more.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: RawHeaders = ()
        self.pieces: deque[bytes] = deque()
        self.ended = False
        self.until_close = False
        self.reusable = False
        self.weigh_head = False
        self._bodiless = False
        self._fields: list[tuple[bytes, bytes]] = []
        self.on_body = self.pieces.append  # the parser calls it, as it does all on_… below
        self._parser = httptools.HttpResponseParser(self)
        self.feed = self._parser.feed_data

    def begin(self, *, bodiless: bool) -> None:
        """Expect an answer; `bodiless` when it has no body whatever its head says."""
        self._bodiless = bodiless
        self._fields = []
        self.status = 0
        self.ended = self.weigh_head = False
        self.pieces.clear()

    def close(self) -> None:
        """Nothing more is read. Parser and reader refer to each other, which ends here."""
        del self._parser, self.feed, self.on_body

    def on_message_begin(self) -> None:
        if self.ended:
            raise ValueError("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self._pass_over(status)
            return
        if len(self._fields) > MAX_HEADERS:
            raise ValueError("too many headers")
        if self.weigh_head and _size(self._fields) > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")
        self.headers, framing = divide_downward(self._fields)
        if len(framing) > 1:
            raise ValueError("the length is told more than once")
        for name, value in framing:
            if name == b"transfer-encoding" and value.lower() != b"chunked":
                raise ValueError("a transfer coding that nobody asked for")
        self.until_close = not framing and status not in _WITHOUT_BODY
        self.reusable = self._parser.should_keep_alive()
        self.status = status
        if self._bodiless:
            self.ended = True
            self.reusable = False
            raise ValueError("the parser would wait for a body")

    def on_message_complete(self) -> None:
        if self.status:
            self.ended = True

    def _pass_over(self, status: int) -> None:
        if status == 101:
            raise ValueError("a change of protocol that nobody asked for")
        if any(name.lower() in _FRAMING for name, _ in self._fields):
            raise ValueError("an interim answer with a body")
        self._fields = []


def _size(fields: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in fields)
