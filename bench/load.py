"""A load generator that keeps an exact number of requests in flight, and times the answers.

It reads just enough HTTP to know when an answer is complete, and takes no answer for granted: a
status other than 200, a missing chunk or a lost connection fails the whole run.
"""

import asyncio
import re
import time
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import cast

FRAMING = re.compile(
    rb"\r\n(?:content-length: *(\d+)|transfer-encoding: *chunked)\r\n", re.IGNORECASE
)
STAMP = re.compile(rb'"content":"(\d{19})"')
CONNECTING_AT_ONCE = 100
TICK_S = 0.001
"""uvloop's timers are no finer."""


class LoadError(Exception):
    """The system under test did not answer as it must; the text says how."""


def times() -> "array[int]":
    return array("q")


@dataclass(slots=True)
class Sample:
    """What one run saw; all times in nanoseconds."""

    latencies: "array[int]" = field(default_factory=times)
    firsts: "array[int]" = field(default_factory=times)
    """From the request to the first chunk of its answer."""

    delays: "array[int]" = field(default_factory=times)
    """From the upstream's write of a stamped chunk to its arrival here."""

    jitters: "array[int]" = field(default_factory=times)
    """How much a chunk's delay differs from that of the chunk before."""

    reads: int = 0
    """Reads that brought something: fewer than chunks mean that chunks came together."""

    elapsed_s: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.elapsed_s


class Load:
    """Connections to one server, all asking the same thing."""

    def __init__(self, port: int, request: bytes, chunks: int = 0) -> None:
        self.request = request
        self.events = chunks + 1 if chunks else 0
        """`data:` lines of an answer, `[DONE]` included."""

        self.sample = Sample()
        self.running = False
        self._port = port
        self._clients: list[Client] = []
        self._idle: deque[Client] = deque()
        self._due: deque[int] = deque()
        self._unsent = self._missing = 0
        self._done: asyncio.Future[None]

    async def open(self, count: int) -> None:
        """Connect; each connection carries one request at a time."""
        loop = asyncio.get_running_loop()
        for start in range(0, count, CONNECTING_AT_ONCE):
            pairs = await asyncio.gather(
                *(
                    loop.create_connection(lambda: Client(self), "127.0.0.1", self._port)
                    for _ in range(start, min(start + CONNECTING_AT_ONCE, count))
                )
            )
            self._clients += [client for _, client in pairs]

    def close(self) -> None:
        """Drop all connections."""
        self.running = False
        for client in self._clients:
            client.abort()
        self._clients.clear()

    async def run(self, total: int, *, rate: int | None = None, limit_s: float = 60) -> Sample:
        """Send that many requests and wait for all answers.

        Without a rate every connection asks again as soon as it is answered. With one, requests
        become due by the clock; when no connection is free one waits, and its waiting counts.

        Raises:
            LoadError: an answer was wrong, or the limit passed.
        """
        self.sample = Sample()
        self._idle = deque(self._clients)
        self._done = asyncio.get_running_loop().create_future()
        self._missing = total
        self._unsent = total if rate is None else 0
        self.running = True
        began_ns = time.monotonic_ns()
        try:
            async with asyncio.timeout(limit_s):
                if rate is None:
                    self._send_to_idle()
                else:
                    await self._keep_pace(total, rate, began_ns)
                await self._done
        except TimeoutError:
            raise LoadError(f"{self._missing} of {total} answers missing in {limit_s} s") from None
        finally:
            self.running = False
        self.sample.elapsed_s = (time.monotonic_ns() - began_ns) / 1e9
        return self.sample

    def _send_to_idle(self) -> None:
        while self._idle and self._unsent:
            self._unsent -= 1
            self._idle.popleft().send(time.monotonic_ns())

    async def _keep_pace(self, total: int, rate: int, began_ns: int) -> None:
        sent = 0
        while sent < total and not self._done.done():
            now = time.monotonic_ns()
            due = min(total, (now - began_ns) * rate // 1_000_000_000 + 1)
            for _ in range(sent, due):
                if self._idle:
                    self._idle.popleft().send(now)
                else:
                    self._due.append(now)
            sent = due
            await asyncio.sleep(TICK_S)

    def answered(self, client: "Client") -> None:
        """A client has its whole answer: give it the next request."""
        self._missing -= 1
        if self._due:
            client.send(self._due.popleft())
        elif self._unsent:
            self._unsent -= 1
            client.send(time.monotonic_ns())
        else:
            self._idle.append(client)
        if not self._missing and not self._done.done():
            self._done.set_result(None)

    def failed(self, reason: str) -> None:
        """End the run: a number measured over wrong answers is worth nothing."""
        if self.running and not self._done.done():
            self._done.set_exception(LoadError(reason))


class Client(asyncio.Protocol):
    """One connection: sends a request, reads its answer, reports."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport
        self._asking = False
        self._begin()

    def _begin(self) -> None:
        self._in_body = False
        self._left_bytes = -1
        self._rest = b""
        self._events = 0
        self._last_delay = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._load.failed("the connection was closed")

    def abort(self) -> None:
        self._transport.abort()

    def send(self, due_ns: int) -> None:
        """Ask; the answer's latency counts from when it was due."""
        self._begin()
        self._asking = True
        self._due_ns = due_ns
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        if not self._asking:
            self._load.failed(f"bytes came unasked: {data[:80]!r}")
            return
        self._load.sample.reads += 1
        if not self._in_body:
            data = self._rest + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._rest = data
                return
            if not self._read_head(data, end):
                return
            data = data[end + 4 :]
        if self._left_bytes < 0:
            self._read_events(data)
            return
        self._left_bytes -= len(data)
        if not self._left_bytes:
            self._finish()
        elif self._left_bytes < 0:
            self._load.failed("an answer was longer than announced")

    def _read_head(self, data: bytes, end: int) -> bool:
        framing = FRAMING.search(data, 0, end + 2)
        if data[9:12] != b"200" or framing is None:
            self._load.failed(f"not a good answer: {data[:300]!r}")
            return False
        if bool(self._load.events) != (framing[1] is None):
            self._load.failed(f"a stream was {'' if self._load.events else 'not '}expected")
            return False
        self._in_body = True
        self._rest = b""
        if framing[1] is not None:
            self._left_bytes = int(framing[1])
        return True

    def _read_events(self, data: bytes) -> None:
        """Count whole events. Chunk sizes stand between them and are not worth parsing here."""
        data = self._rest + data
        cut = data.rfind(b"\n\n") + 2
        if cut > 1:
            if not self._events:
                self._load.sample.firsts.append(time.monotonic_ns() - self._due_ns)
            self._events += data.count(b"data: ", 0, cut)
            self._read_stamps(data, cut)
            data = data[cut:]
        self._rest = data
        if data.endswith(b"0\r\n\r\n"):
            if self._events != self._load.events:
                self._load.failed(f"{self._events} events instead of {self._load.events}")
                return
            self._finish()

    def _read_stamps(self, data: bytes, end: int) -> None:
        stamps = STAMP.findall(data, 0, end)
        if not stamps:
            return
        now = time.monotonic_ns()
        for stamp in stamps:
            delay = now - int(stamp)
            self._load.sample.delays.append(delay)
            if self._last_delay >= 0:
                self._load.sample.jitters.append(abs(delay - self._last_delay))
            self._last_delay = delay

    def _finish(self) -> None:
        self._asking = False
        self._load.sample.latencies.append(time.monotonic_ns() - self._due_ns)
        self._load.answered(self)
