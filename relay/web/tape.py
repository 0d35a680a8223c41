"""The events of one stream, numbered, the newest kept: a client that lost it may have the rest.

    the request's task --write, end--> Tape --Reader.follow--> its client, or who came back

One reads at a time: whoever comes takes it from the one before. While somebody reads, the oldest
events make room for new ones, and the writer waits for a slow reader. While nobody does, everything
is kept, and the writer waits when there is no room; after `keep_s` of that the tape is forsaken.
Once it has ended it stays for another `keep_s`.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import islice

from relay.errors import EventsGone, StreamNotFound, StreamTaken, UpstreamProtocol
from relay.sse import BOM, EVENT, MAX_EVENT_BYTES, WholeEvents
from relay.web.client import Wait
from relay.web.replies import awaited

LAST_EVENT_ID = "last-event-id"

UNREAD_BYTES = 64 * 1024
"""What may wait for a reader before the writer does."""

PING_LINE = b": ping\n"
"""A comment without an empty line behind it: once they have seen an id, some clients take that for
an event without data."""

_DATA = re.compile(rb"(?:^|[\r\n])data[:\r\n]")
_ID = re.compile(rb"(?:^|(?<=[\r\n]))id(?::[^\r\n]*)?(?:\r\n|\n|\r)")


@dataclass(frozen=True, slots=True)
class Room:
    """How long and how much is kept of one stream, and of how many, in all and of one key."""

    keep_s: float
    stream_bytes: int
    streams: int
    streams_per_key: int


class Tape:
    """The stream `name` of `owner`; `last` is the number of its newest event.

    `forsaken` is called when nobody has come for the rest in time, `over` when nothing of it can be
    had any more.
    """

    def __init__(
        self,
        name: str,
        owner: Hashable,
        room: Room,
        *,
        over: Callable[["Tape"], None],
    ) -> None:
        self.name = name
        self.owner = owner
        self.ended = False
        self.forsaken: Callable[[], None] = lambda: None
        self.last = 0
        self._room = room
        self._over = over
        self._whole = WholeEvents(max_bytes=MAX_EVENT_BYTES)
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self.total_bytes = 0
        self._comments = b""
        self._reader: Reader | None = None
        self._news = asyncio.Event()
        self._moved = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    # The writer's side

    def write(self, piece: bytes) -> Wait:
        """The next piece of the stream, or a comment of ours.

        Raises:
            UpstreamProtocol: an event is longer than any that can be kept (when it is awaited).
        """
        if piece is PING_LINE:
            self._comment(piece)
            return None
        self._take(self._whole.push(piece))
        if not self._whole.between:
            return _too_long()
        return None if self._has_room() else self._wait()

    def end(self, piece: bytes = b"") -> None:
        """The last piece of it."""
        if self.ended:
            return
        self._take(self._whole.push(piece))
        if tail := self._whole.tail():
            self._take(tail.rstrip(b"\r\n") + b"\n\n")  # an end is what the last event may lack
        self.ended = True
        self._news.set()
        self._set_timer(self.close)

    def close(self) -> None:
        """Nothing of it can be had any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._over(self)

    def _take(self, events: bytes) -> None:
        for found in EVENT.findall(events):
            event = found.lstrip(b"\r\n").removeprefix(BOM)  # before it, the half of a CRLF
            if event.endswith(b"\r"):
                event += b"\n"
            if not event.startswith(b"data:") and _DATA.search(event) is None:
                self._comment(event.strip(b"\r\n") + b"\n")
                continue
            if b"id" in event:
                event = _ID.sub(b"", event)
            self.last += 1
            numbered = b"id: %b.%d\n%b" % (self.name.encode(), self.last, event)
            self._kept.append(numbered)
            self._kept_bytes += len(numbered)
            self.total_bytes += len(numbered)
        self._forget()
        self._news.set()

    def _comment(self, comment: bytes) -> None:
        if self._reader is not None and comment.startswith(b":"):
            self._comments = (self._comments + comment)[:UNREAD_BYTES]
            self._news.set()

    def _forget(self) -> None:
        """Let go of the oldest events, as far as they have been read and there is no room."""
        reader = self._reader
        while (
            reader is not None
            and self._kept_bytes > self._room.stream_bytes
            and self.last - len(self._kept) < reader.place
        ):
            self._kept_bytes -= len(self._kept.popleft())

    def _has_room(self) -> bool:
        if self._reader is None:
            return self._kept_bytes <= self._room.stream_bytes
        unread_bytes = self.total_bytes - self._reader.had_bytes
        return unread_bytes <= min(UNREAD_BYTES, self._room.stream_bytes)

    async def _wait(self) -> None:
        while not self._has_room():
            self._moved.clear()
            await self._moved.wait()

    # The readers' side

    def is_over(self, after: int) -> bool:
        """Whether nothing will follow the event of that number."""
        return self.ended and after == self.last

    def take(self, after: int) -> "Reader":
        """Have what comes behind the event of that number, from now on; a context manager.

        Raises:
            StreamNotFound: there has been no such event.
            EventsGone: what followed it is not kept any more.
        """
        missing = self.last - after
        if missing < 0:
            raise StreamNotFound("That stream has no such event yet.", param=LAST_EVENT_ID)
        if missing > len(self._kept):
            raise EventsGone(
                "The stream cannot be taken up there: what followed that event is not kept any "
                "more. Ask again from the beginning.",
                param=LAST_EVENT_ID,
            )
        unread_bytes = sum(map(len, self._newest(missing)))
        self._reader = reader = Reader(self, after, self.total_bytes - unread_bytes)
        if self._timer is not None and not self.ended:
            self._timer.cancel()
        self._change()
        return reader

    def give_up(self) -> None:
        """Nobody will have the rest: end what makes it."""
        self.close()
        if not self.ended:
            self.forsaken()

    def is_read_by(self, reader: "Reader") -> bool:
        """Whether nobody has come after that one."""
        return self._reader is reader

    def leave(self, reader: "Reader") -> None:
        """That one reads no more."""
        if self._reader is reader:
            self._reader = None
            self._comments = b""
            self._change()
            if not self.ended:
                self._set_timer(self.give_up)

    def next_for(self, reader: "Reader") -> bytes:
        """What that one has not had; it counts as had."""
        comments, self._comments = self._comments, b""
        if reader.place == self.last:
            return comments
        piece = b"".join(self._newest(self.last - reader.place))
        reader.place, reader.had_bytes = self.last, self.total_bytes
        self._forget()
        self._moved.set()
        return comments + piece

    async def news(self) -> None:
        """Until something has changed."""
        self._news.clear()
        await self._news.wait()

    def _newest(self, number: int) -> Iterator[bytes]:
        return islice(self._kept, len(self._kept) - number, None)

    def _change(self) -> None:
        self._news.set()
        self._moved.set()

    def _set_timer(self, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._room.keep_s, then)


class Reader:
    """Who has a tape: up to the event `place`, which is `had_bytes` of it. Leave it when done."""

    __slots__ = ("_tape", "had_bytes", "place")

    def __init__(self, tape: Tape, place: int, had_bytes: int) -> None:
        self._tape = tape
        self.place = place
        self.had_bytes = had_bytes

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._tape.leave(self)

    async def follow(self, write: Callable[[bytes], Wait]) -> bool:
        """Write what comes until the end; False when another reader has come."""
        tape = self._tape
        while tape.is_read_by(self):
            if piece := tape.next_for(self):
                await awaited(write(piece))
            elif tape.ended:
                return True
            else:
                await tape.news()
        return False


def taken() -> StreamTaken:
    """What the reader before is told."""
    return StreamTaken("Another connection has taken the stream up.")


async def _too_long() -> None:
    raise UpstreamProtocol(f"An event of the stream is longer than {MAX_EVENT_BYTES} bytes.")
