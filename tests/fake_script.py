"""What a fake upstream is told: scripts, the gates that hold them, the bell that wakes tests."""

import asyncio
import gzip
import http.client
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

PATIENCE_S = 20.0


class Bell:
    """Wakes whoever waits for something, in any thread and in any event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Future[None]] = []

    def ring(self) -> None:
        """Something has changed: let everyone look again."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def wait_for(self, predicate: Callable[[], Any], timeout_s: float = PATIENCE_S) -> None:
        """Block this thread until `predicate` holds. Raises: TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while True:
            rung = self._next_ring()
            if predicate():
                return
            rung.result(deadline - time.monotonic())

    async def until(
        self, predicate: Callable[[], Any], timeout_s: float | None = PATIENCE_S
    ) -> None:
        """Wait in this event loop until `predicate` holds. Raises: TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                rung = self._next_ring()
                if predicate():
                    return
                await asyncio.wrap_future(rung)

    def _next_ring(self) -> Future[None]:
        future: Future[None] = Future()
        with self._lock:
            self._waiting.append(future)
        return future


class Gate:
    """Holds an answer back until a test opens it."""

    def __init__(self) -> None:
        self._bell = Bell()
        self._opened = False

    def open(self) -> None:
        """Let everything pass, now and later."""
        self._opened = True
        self._bell.ring()

    async def passed(self) -> None:
        """Wait until it is open."""
        await self._bell.until(lambda: self._opened, timeout_s=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One answer, down to its bytes.

    `pieces` is the body in writes of their own, each drained (and a chunk of its own when chunked,
    which is the default for pieces); `cuts` re-cuts the body at those offsets. `raw` is the whole
    response, head included; no framing is added. `interim` goes before the head.

    `gate` holds the head, `piece_gates[n]` the piece n. After `stall_after` pieces nothing comes
    any more, but the connection stays. After `reset_at` or `close_at` bytes of the body (of `raw`)
    the connection is reset, or closed cleanly.
    """

    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""
    pieces: Sequence[bytes] | None = None
    cuts: Sequence[int] = ()
    framing: Literal["chunked", "length", "close"] | None = None
    gzip: bool = False
    raw: bytes | None = None
    interim: bytes = b""
    keep_alive: bool = True
    gate: Gate | None = None
    piece_gates: Mapping[int, Gate] = field(default_factory=dict)
    delay_head_s: float = 0
    delay_body_s: float = 0
    delay_piece_s: float = 0
    stall_after: int | None = None
    reset_at: int | None = None
    close_at: int | None = None

    @property
    def chunked(self) -> bool:
        default = "chunked" if self.pieces is not None else "length"
        return self.raw is None and (self.framing or default) == "chunked"

    def writes(self) -> list[bytes]:
        """The body as it is written, before it is framed."""
        whole = self.raw if self.raw is not None else self.body
        writes = [whole] if self.pieces is None else list(self.pieces)
        if self.gzip:
            writes = [gzip.compress(b"".join(writes), mtime=0)]
        if self.cuts:
            joined = b"".join(writes)
            edges = [0, *sorted(self.cuts), len(joined)]
            writes = [joined[start:end] for start, end in itertools.pairwise(edges)]
        return [piece for piece in writes if piece]

    def head(self, body_bytes: int) -> bytes:
        """Status line and headers, framing included; nothing for `raw`."""
        if self.raw is not None:
            return b""
        pairs = list(self.headers)
        if self.gzip:
            pairs.append((b"content-encoding", b"gzip"))
        if self.chunked:
            pairs.append((b"transfer-encoding", b"chunked"))
        elif self.framing != "close":
            pairs.append((b"content-length", b"%d" % body_bytes))
        if self.closes:
            pairs.append((b"connection", b"close"))
        reason = http.client.responses.get(self.status, "").encode()
        lines = [b"HTTP/1.1 %d %b" % (self.status, reason), *(b"%b: %b" % pair for pair in pairs)]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    @property
    def closes(self) -> bool:
        return self.framing == "close" or not self.keep_alive
