"""Writing answers: a JSON body or an error's envelope, and the headers that are ours."""

import random
import re
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Protocol

from starlette.types import Message, Scope

from relay.attempts import Trail
from relay.errors import RelayError, UpstreamStatus
from relay.header_lines import BREAK, lines_of, pairs_of
from relay.limits import without_upstreams
from relay.secret_forms import SECRET
from relay.sse import WholeEvents, is_plain_stream
from relay.types import ANONYMOUS, Answer, Identity, RawHeaders
from relay.web.client import Client, Wait
from relay.web.pings import PING, Pings
from relay.web.recording import Recording

JSON = (b"content-type", b"application/json")
STREAM_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
"""On every stream: neither caches nor buffering proxies may hold it back."""

_Pour = Callable[[Callable[[bytes], Wait]], Awaitable[bytes]]

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

SHORTEST_KEY = 8
"""An id with which a key happens to end is shorter than that."""


class Visit:
    """One request from the door to the end of its answer: who, under which id, and how it went.

    `headers` are the request's by name, for those that come once; `own_lines` go with the answer,
    beside those that every answer has; `limits_as` puts what is told of the caller's limits into
    another API's form. What writes gives back something to await, or None: see
    `Client`.
    """

    __slots__ = (
        "began",
        "client",
        "end",
        "headers",
        "identity",
        "kept",
        "limits_as",
        "own_lines",
        "recording",
        "request_id",
        "status",
        "trail",
        "write",
    )

    def __init__(self, client: Client) -> None:
        self.began = perf_counter()
        self.client: Client = client
        self.write = client.write
        self.end = client.end
        self.headers = client.head.named
        self.identity: Identity = ANONYMOUS
        self.request_id = _request_id(self.headers)
        self.limits_as: Callable[[RawHeaders], RawHeaders] | None = None
        self.own_lines = b""
        self.kept = False  # whether it goes into the ledger
        self.recording: Recording | None = None
        self.trail = Trail()
        self.status = 0

    def record(self) -> None:
        """Keep what is asked and answered from here on."""
        self.client = self.recording = Recording(self.client)
        self.write, self.end = self.client.write, self.client.end

    def put_before_client(self, around: Callable[[Client], Client]) -> None:
        """Have something stand before the client; what is recorded passes it later."""
        if self.recording is not None:
            self.recording.client = around(self.recording.client)
        else:
            self.client = around(self.client)
            self.write, self.end = self.client.write, self.client.end

    def answer(self, status: int, headers: RawHeaders, body: bytes) -> Wait:
        """The whole answer, with the headers that every answer carries."""
        self.status = status
        headers, lines = self._completed(headers)
        return self.client.answer(status, headers, body, lines)

    def begin(self, status: int, headers: RawHeaders) -> Wait:
        """The head of an answer, with those headers."""
        self.status = status
        return self.client.begin(status, *self._completed(headers))

    async def send(self, message: Message) -> None:
        """ASGI's send; puts those headers onto the head."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers, lines = self._completed(message.get("headers", ()))
            message["headers"] = [*headers, *pairs_of(lines)]
        await self.client.send(message)

    def _completed(self, headers: RawHeaders) -> tuple[RawHeaders, bytes]:
        """What of these headers goes out, and the lines of our own that do."""
        lines = self._lines()
        reservation = self.trail.reservation
        if reservation is not None and (limits := reservation.lines()):
            if self.limits_as is not None:
                limits = lines_of(self.limits_as(pairs_of(limits)))
            return without_upstreams(headers), limits + BREAK + lines
        return headers, lines

    def _lines(self) -> bytes:
        """Of what is filled in nothing holds a line break: see `_SANE_ID`; targets are named so."""
        trail = self.trail
        request_id = self.request_id.encode()
        if self.own_lines:
            request_id += BREAK + self.own_lines
        relay_ms = (perf_counter() - self.began - trail.upstream_s) * 1000
        if not trail.attempts:
            return b"x-request-id: %b\r\nserver-timing: relay;dur=%.2f" % (request_id, relay_ms)
        return (
            b"x-request-id: %b\r\nx-relay-upstream: %b\r\nx-relay-attempts: %d\r\n"
            b"server-timing: relay;dur=%.2f, upstream;dur=%.2f"
        ) % (request_id, trail.target.encode(), trail.attempts, relay_ms, trail.upstream_s * 1000)


class Watcher(Protocol):
    """Sees a stream of whole events as it passes; gives back what the client gets of them."""

    def push(self, events: bytes) -> bytes: ...


def visit(scope: Scope) -> Visit:
    """The visit that the door has opened for this request."""
    found: Visit = scope["state"]["visit"]
    return found


async def send_events(
    visit: Visit,
    answer: Answer,
    *,
    ping_s: float = 0.0,
    ping: bytes = PING,
    usage: Watcher | None = None,
) -> None:
    """An upstream's stream of events. When it breaks off, what was sent of it ends an event.

    After `ping_s` of silence it gets a `ping`; 0 is never. `usage` sees all of it.

    Raises: the `RelayError` of the answer, which is for the caller to tell in a last event.
    """
    whole = WholeEvents()
    if (wait := visit.begin(answer.status, [*answer.headers, *STREAM_HEADERS])) is not None:
        await wait
    try:
        if ping_s and is_plain_stream(answer.headers):
            with Pings(
                visit.write, every_s=ping_s, between=lambda: whole.between, ping=ping
            ) as pings:
                last = await _pass_on(answer, whole, usage, pings.write)
        else:
            last = await _pass_on(answer, whole, usage, visit.write)
    except RelayError:
        if not whole.between:  # a huge event was let through in part; end it
            await awaited(visit.write(b"\n\n"))
        raise
    tail = whole.push(last) + whole.tail()
    if (wait := visit.end(usage.push(tail) if usage is not None else tail)) is not None:
        await wait


def _pass_on(
    answer: Answer,
    whole: WholeEvents,
    usage: Watcher | None,
    write: Callable[[bytes], Wait],
) -> Awaitable[bytes]:
    def write_whole(piece: bytes) -> Wait:
        out = piece if whole.at_rest and piece.endswith(b"\n\n") else whole.push(piece)
        if usage is not None:
            out = usage.push(out)
        return write(out) if out else None

    return pour(answer, write_whole)


def pour(answer: Answer, sink: Callable[[bytes], Wait]) -> Awaitable[bytes]:
    """Give an answer's pieces to `sink`, by the answer's own way if it has one.

    Gives what is left for the last write.
    """
    own: _Pour | None = getattr(answer, "pour", None)
    return own(sink) if own is not None else _pour(answer, sink)


async def _pour(answer: Answer, sink: Callable[[bytes], Wait]) -> bytes:
    async for piece in answer:
        if (wait := sink(piece)) is not None:
            await wait
    return b""


async def awaited(wait: Wait) -> None:
    """Await what writing gave back, if it gave anything."""
    if wait is not None:
        await wait


def send_error(visit: Visit, error: RelayError) -> Wait:
    """An error's envelope, or an upstream's own error as it came."""
    return visit.answer(error.status, answer_headers(error), error.envelope())


def answer_headers(error: RelayError) -> RawHeaders:
    """The headers of an error: an upstream's own, or ours, which are JSON and the error's."""
    return error.headers if isinstance(error, UpstreamStatus) else [JSON, *error.headers]


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    """The client's own, if that is sane, else a new one; a key put into the wrong place is none."""
    given = headers.get(b"x-request-id")
    if given is None or not _SANE_ID.fullmatch(given) or SECRET.search(text := given.decode()):
        return new_request_id()
    shown = (headers.get(name, b"") for name in (b"authorization", b"x-api-key"))
    if len(given) >= SHORTEST_KEY and any(key.endswith(given) for key in shown):
        return new_request_id()
    return text


def new_request_id() -> str:
    """An id of our own: `req_` and 96 random bits, which need not be secret."""
    return f"req_{random.getrandbits(96):024x}"  # a system call costs ten times this
