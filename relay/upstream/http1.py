"""One HTTP/1.1 connection to an upstream, on which one exchange follows another.

    send            the request leaves: at once when it is small, else as fast as the upstream reads
    send_streamed   its body follows, from its source and as fast as the upstream reads
    more            waits until the answer has something new
    finish          the exchange is over; says whether the connection may serve another

    phase                     limit
    sending the request       total_s
    until the first bytes     first_byte_s
    between two pieces        idle_s, while somebody waits for the next

All of it happens in the event loop's callbacks: no task, but for that of a streamed body, and no
timer per wait. One timer belongs to the connection; when it goes off too early, as deadlines have
moved on since, it is set anew.
"""

import asyncio
import math
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import cast

import httptools

from relay.errors import UpstreamProtocol, UpstreamTimeout
from relay.types import TimeLimits
from relay.upstream.answer import AnswerReader
from relay.upstream.limits import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    MAX_UNREAD_BYTES,
    SLICE_BYTES,
)

Sink = Callable[[bytes], Awaitable[None] | None]
"""Takes a piece of a body; what it gives back, if anything, is to be awaited before the next."""

_NOTHING = memoryview(b"")
_LAST_CHUNK = b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection; whoever has called `send` reads the `answer` until `finish`.

    `stale` tells that the connection, used before, had been closed before the upstream can have
    seen the request, so that asking again on another is right.
    """

    def __init__(
        self, upstream: str, limits: TimeLimits, on_lost: Callable[["Connection"], None]
    ) -> None:
        self.answer = AnswerReader()
        self.closed = False
        self.stale = False
        self.idle_since = 0.0
        self._upstream = upstream
        self._usual = limits
        self._limits = limits
        self._on_lost = on_lost
        self._exchanges = 0
        self._busy = False
        self._whole = False
        self._begun = False  # the body has
        self._unread = 0  # bytes that came since the reader last began to wait
        self._unsent = _NOTHING
        self._blocked = False  # the transport wants no more of the request for now
        self._paused = False  # we want no more of the answer for now
        self._sink: Sink | None = None
        self._room: Awaitable[None] | None = None  # what the sink has to be given time for
        self._upload: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = self._total_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def send(
        self,
        head: bytes,
        body: bytes,
        *,
        total_at: float,
        whole: bool,
        bodiless: bool,
        limits: TimeLimits | None = None,
    ) -> None:
        """Begin an exchange, which has to be over at `total_at` (of the loop's time).

        `whole`: the reader is woken when the answer has ended, if it is no error. `bodiless`: the
        answer has no body whatever its head says. `limits` are in place of the connection's own.
        """
        self._limits = limits or self._usual
        self._exchanges += 1
        self._busy = True
        self._whole = whole
        self._begun = False
        self._unread = 0
        self._deadline = self._total_at = total_at
        self.answer.begin(bodiless=bodiless)
        if len(body) <= SLICE_BYTES:
            self._transport.write(head + body)
            self._move_deadline(self._limits.first_byte_s)
        else:
            self._transport.write(head)
            self._unsent = memoryview(body)
            self._send_more()

    def send_streamed(self, content: AsyncIterable[bytes], length: int | None) -> None:
        """Send a body after its head, in chunks when its `length` is not known.

        It has to have that length. What `content` raises ends the exchange, and comes to whoever
        waits for the answer.
        """
        self._deadline = self._total_at
        self._upload = self._loop.create_task(self._feed(content, length))
        self._upload.add_done_callback(self._fed)

    @property
    def used(self) -> bool:
        """Whether an exchange was made on it before."""
        return self._exchanges > 0

    @property
    def ready(self) -> bool:
        """Whether the answer has begun; when it was to be a whole one, whether it has ended."""
        answer = self.answer
        return answer.ended or (bool(answer.pieces) and not self._whole)

    def more(self) -> asyncio.Future[None]:
        """Done as soon as the answer has something new.

        Raises:
            UpstreamTimeout: the limit of this phase has passed.
            UpstreamProtocol: the answer is no HTTP, too large, or was cut.
            Exception: whatever the source of a streamed body raised.
        """
        if self._failure is not None:
            raise self._failure
        if self._begun:
            self._unread = 0
            if self._paused:
                self._resume()
            idle_at = self._loop.time() + self._limits.idle_s
            self._deadline = idle_at if idle_at < self._total_at else self._total_at
        waiter = self._waiter = self._loop.create_future()
        if self._deadline < self._timer_at:
            self._set_timer()
        return waiter

    async def pour(self, sink: Sink) -> bytes:
        """Give the rest of the body to `sink`, each piece as it comes; returns what ends it.

        So that can leave in one write with the end that its reader has to write. The sink is called
        from the event loop's callback: waking a task for each piece would cost more than all else
        that is done with it. Raises: as `more` does.
        """
        answer = self.answer
        while not answer.ended:
            if answer.pieces:
                if (room := sink(self.take())) is not None:
                    await room
            else:
                self._sink = sink
                try:
                    await self.more()
                finally:
                    self._sink = None
                if self._room is not None:
                    room, self._room = self._room, None
                    await room
        return self.take()

    def take(self) -> bytes:
        """What has come of the body and was not taken yet."""
        pieces = self.answer.pieces
        if len(pieces) == 1:
            return pieces.popleft()
        joined = b"".join(pieces)  # they came at once: one write for all of them
        pieces.clear()
        return joined

    async def rest(self) -> bytes:
        """The rest of the body. Raises: as `more` does."""
        self._whole = True
        while not self.answer.ended:
            await self.more()
        return b"".join(self.answer.pieces)

    def finish(self) -> bool:
        """End the exchange, wherever it stands; returns whether another may follow."""
        self._busy = False
        self.answer.pieces.clear()
        answered = self.answer.ended and self.answer.reusable
        if not answered or self.closed or self._unsent or self._blocked or self._upload:
            self.close()
            return False
        if self._paused:
            self._resume()
        self.idle_since = self._loop.time()
        return True

    def close(self) -> None:
        """End the connection at once."""
        if not self.closed:
            self.closed = True
            self._stop_upload()
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        self._loop = asyncio.get_running_loop()
        self.idle_since = self._loop.time()

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if not self._busy or answer.ended:
            self.close()  # nothing was asked: this could pass for the next answer
            return
        sink = self._sink
        if sink is None:
            self._unread += len(data)
            if self._unread > MAX_HEAD_BYTES:
                answer.weigh_head = True
        try:
            answer.feed(data)
        except httptools.HttpParserError as exc:
            self._fail(f"broke HTTP ({exc.__context__ or exc})")
            return
        pieces = answer.pieces
        if sink is not None:
            if pieces and not answer.ended:  # as nearly all of a stream
                # Those that came at once leave in one write.
                piece = pieces.popleft() if len(pieces) == 1 else self.take()
                room = sink(piece)
                if room is None:
                    self._unread = 0
                    idle_at = self._loop.time() + self._limits.idle_s
                    self._deadline = idle_at if idle_at < self._total_at else self._total_at
                else:
                    self._sink, self._room = None, room
                    self._wake()
                return
            self._unread += len(data)
        if answer.status >= 400 and (self._unsent or self._upload):
            # Refused. What else we sent could reset the connection before the reason is read.
            self._unsent = _NOTHING
            self._stop_upload()
            answer.reusable = False
        if answer.ended:
            self._wake()
        elif pieces:
            self._body_received()
        elif self._unread > MAX_HEAD_BYTES:
            self._fail("broke HTTP (too large a head, or too much around the body)")

    def eof_received(self) -> None:
        answer = self.answer
        if self._busy and answer.status and answer.until_close and self._ended_well():
            answer.ended = True
            self._wake()
        self._part("ended its answer early")

    def connection_lost(self, exc: Exception | None) -> None:
        self._part("broke the connection" if exc else "ended its answer early")
        self._unsent = _NOTHING
        if self._timer is not None:
            self._timer.cancel()
        self.answer.close()
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        if self._unsent:
            self._send_more()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def _ended_well(self) -> bool:
        """Whether the upstream said that this is the end: anyone can cut a TCP connection."""
        if self._failure is not None:
            return False
        tls = self._transport.get_extra_info("ssl_object")
        try:
            return tls is None or not tls.read(1)  # asyncio tells of both ends alike
        except ssl.SSLError:
            return False

    def _send_more(self) -> None:
        while self._unsent and not self._blocked:
            self._transport.write(self._unsent[:SLICE_BYTES])
            self._unsent = self._unsent[SLICE_BYTES:]
        if not self._unsent and not self._begun:
            self._move_deadline(self._limits.first_byte_s)

    async def _feed(self, content: AsyncIterable[bytes], length: int | None) -> None:
        async for piece in content:
            if piece:
                self._transport.write(_chunk(piece) if length is None else piece)
            while self._blocked:
                self._writable = self._loop.create_future()
                await self._writable
        if length is None:
            self._transport.write(_LAST_CHUNK)
        self._upload = None

    def _fed(self, upload: asyncio.Task[None]) -> None:
        if upload.cancelled():
            return
        if (failure := upload.exception()) is not None:
            self._failure = self._failure or failure
            self.close()
            self._wake()
        elif self._busy and not self._begun:
            self._move_deadline(self._limits.first_byte_s)

    def _stop_upload(self) -> None:
        if self._upload is not None:
            self._upload.cancel()
            self._upload = None

    def _body_received(self) -> None:
        self._begun = True
        if not self._whole or self.answer.status >= 300:
            self._whole = False
            self._wake()
            if self._unread > MAX_UNREAD_BYTES and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        elif self._unread > MAX_BODY_BYTES:
            self._fail("gave an answer that is too large")
        else:
            self._move_deadline(self._limits.idle_s)

    def _resume(self) -> None:
        self._paused = False
        self._transport.resume_reading()

    def _move_deadline(self, limit_s: float) -> None:
        deadline = self._loop.time() + limit_s
        self._deadline = deadline if deadline < self._total_at else self._total_at
        if self._waiter is not None and self._deadline < self._timer_at:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._on_timer)
        self._timer_at = self._deadline

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self._waiter is None:
            return  # the next who waits sets it anew
        if self._loop.time() < self._deadline:
            self._set_timer()
            return
        limit = "idle_s" if self._begun else "first_byte_s"
        if self._deadline == self._total_at:
            limit = "total_s"
        limit_s = getattr(self._limits, limit)
        self._failure = UpstreamTimeout(
            f"The upstream '{self._upstream}' took longer than {limit} allows ({limit_s:g} s)."
        )
        self.close()
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _part(self, what: str) -> None:
        if self._busy and self._failure is None:
            self.stale = self._exchanges > 1 and not self._unread and not self._begun
        self._fail(what)

    def _fail(self, what: str) -> None:
        """End the connection; an answer that has ended is good, whatever came behind it."""
        if self._failure is None and not self.answer.ended:
            self._failure = UpstreamProtocol(f"The upstream '{self._upstream}' {what}.")
        self.close()
        self._wake()


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)
