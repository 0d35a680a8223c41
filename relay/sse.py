"""Server-sent events as bytes: reading them, cutting between them, writing them.

    EventParser   what an observer reads: the data of every event
    WholeEvents   what a relay writes: bytes as they came, cut only between events
    EVENT         what cuts whole events apart
    event, comment, DONE   what we say ourselves

Lines end with LF, CRLF or CR; an empty line ends an event.

Source: WHATWG HTML, "Server-sent events", parsing and interpreting an event stream.
"""

import re

from relay.types import RawHeaders

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""What a parser holds of one event at most."""
MAX_HELD_BYTES = 64 * 1024
"""An incomplete event longer than this is let through as it is."""

DONE = b"data: [DONE]\n\n"
BOM = b"\xef\xbb\xbf"

_LINE_END = rb"(?>\r\n|\n|\r)"
EVENT = re.compile(rb".*?" + _LINE_END + _LINE_END + rb"|.+", re.DOTALL)
"""One event with its empty line, or what is left."""


def event(data: str | bytes) -> bytes:
    """One event with that data; every line of it becomes a `data:` line."""
    return _field(b"data: ", data)


def comment(text: str) -> bytes:
    """A comment, which readers skip: it keeps a connection alive."""
    return _field(b": ", text)


def is_plain_stream(headers: RawHeaders) -> bool:
    """Whether an answer with that head is a stream of events, and in plain bytes."""
    named = dict(headers)
    kind = named.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return kind == b"text/event-stream" and b"content-encoding" not in named


def _field(prefix: bytes, value: str | bytes) -> bytes:
    if isinstance(value, str):
        value = value.encode("utf-8", "replace")  # a lone surrogate has no bytes
    if b"\n" in value or b"\r" in value:
        value = value.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        value = value.replace(b"\n", b"\n" + prefix)
    return prefix + value + b"\n\n"


class EventParser:
    """Reads a stream piece by piece, cut anywhere; holds one event, and never more than a bound."""

    def __init__(self, *, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._line = bytearray()  # the line that has not ended yet
        self._data: list[bytes] = []  # the data lines of the event that has not ended yet
        self._data_bytes = 0
        self._at_start = True
        self._after_cr = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of every event that this piece completes.

        Raises:
            ValueError: an event is longer than `max_bytes`; the parser is of no use any more.
        """
        if (
            # One event of one line, as nearly every piece is.
            piece.startswith(b"data:")
            and piece.find(b"\n") == len(piece) - 2
            and piece.endswith(b"\n\n")
            and not (self._line or self._data)
            and b"\r" not in piece
            and len(piece) <= self._max_bytes
        ):
            self._at_start = self._after_cr = False
            return [piece[6:-2] if piece[5:6] == b" " else piece[5:-2]]
        return self._read(piece)

    def _read(self, piece: bytes) -> list[bytes]:
        if not piece:
            return []
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r")
        lines = piece.splitlines()
        rest = b"" if piece.endswith((b"\n", b"\r")) or not lines else lines.pop()
        events: list[bytes] = []
        for ending in lines:
            line = ending
            if self._line:
                self._line += ending
                line = bytes(self._line)
                self._line.clear()
            self._end_line(line, events)
        self._line += rest
        self._check_size()
        return events

    def _end_line(self, line: bytes, events: list[bytes]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(BOM)
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data = []
                self._data_bytes = 0
            return
        name, _, value = line.partition(b":")
        if name != b"data":
            return
        self._data.append(value.removeprefix(b" "))
        self._data_bytes += len(line)
        self._check_size()

    def _check_size(self) -> None:
        if self._data_bytes + len(self._line) > self._max_bytes:
            raise ValueError(f"an event is longer than {self._max_bytes} bytes")


class WholeEvents:
    """Holds back the beginning of an event until its end has come, so that only whole ones go out.

    Whatever was pushed comes out again, byte for byte: all that `push` returned, then `tail`.
    """

    def __init__(self, *, max_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held = bytearray()
        self.at_rest = True
        """What went out ends with a whole event, and nothing is held."""
        self._last = b"\n"  # the byte before the next piece; between events any line end will do

    @property
    def between(self) -> bool:
        """Whether what went out ends with a whole event: a comment may be put there."""
        return self.at_rest or bool(self._held)

    def push(self, piece: bytes) -> bytes:
        """The bytes up to the last end of an event; `b""` while there is none.

        An event longer than `max_bytes` is not held back: its bytes go out as they come.
        """
        if self.at_rest and piece.endswith(b"\n\n"):
            return piece
        return self._cut(piece)

    def tail(self) -> bytes:
        """What is held: the incomplete event at the end of a stream."""
        return bytes(self._held)

    def _cut(self, piece: bytes) -> bytes:
        if not piece:
            return b""
        passing = not (self.at_rest or self._held)
        end = _end_of_last_event(self._last + piece) - 1
        self.at_rest = end == len(piece)
        self._last = b"\n" if self.at_rest else piece[-1:]
        if end < 0:
            self._held += piece
            if passing or len(self._held) > self._max_bytes:
                return self._release()
            return b""
        self._held += piece[:end]
        out = self._release()
        self._held += piece[end:]
        if len(self._held) > self._max_bytes:
            return out + self._release()
        return out

    def _release(self) -> bytes:
        out = bytes(self._held)
        self._held.clear()
        return out


def _end_of_last_event(data: bytes) -> int:
    """The offset behind the last empty line; 0 without one.

    Two line ends in a row always hold one of these pairs; `\\r\\n` is a single one.
    """
    end = max(data.rfind(b"\n\n"), data.rfind(b"\n\r"), data.rfind(b"\r\r")) + 2
    if end < 2:
        return 0
    return end + 1 if data[end - 1 : end + 1] == b"\r\n" else end
