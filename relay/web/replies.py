"""Writing answers: a JSON body or an error's envelope, and the headers that are ours."""

import random
import re
from time import perf_counter

from starlette.types import Message, Scope, Send

from relay.engine import Trail
from relay.errors import RelayError, UpstreamStatus
from relay.sse import WholeEvents
from relay.types import ANONYMOUS, Answer, Identity, RawHeaders

JSON = (b"content-type", b"application/json")
STREAM_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
"""On every stream: neither caches nor buffering proxies may hold it back."""

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class Visit:
    """One request from the door to the end of its answer: who, under which id, and how it went.

    `headers` are the request's by name, for those that come once.
    """

    __slots__ = (
        "_send",
        "began",
        "ended",
        "headers",
        "identity",
        "request_id",
        "started",
        "status",
        "trail",
    )

    def __init__(self, headers: RawHeaders, send: Send) -> None:
        self.began = perf_counter()
        self.headers = dict(headers)
        self.identity: Identity = ANONYMOUS
        self.request_id = _request_id(self.headers.get(b"x-request-id"))
        self.trail = Trail()
        self.status = 0
        self.started = False
        self.ended = False
        self._send = send

    async def send(self, message: Message) -> None:
        """ASGI's send; puts the headers that every answer carries onto the head."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._own_headers()]
        else:
            self.ended = not message.get("more_body")
        await self._send(message)

    def _own_headers(self) -> RawHeaders:
        trail = self.trail
        relay_ms = (perf_counter() - self.began - trail.upstream_s) * 1000
        request_id = (b"x-request-id", self.request_id.encode())
        if not trail.attempts:
            return [request_id, (b"server-timing", b"relay;dur=%.2f" % relay_ms)]
        timing = b"relay;dur=%.2f, upstream;dur=%.2f" % (relay_ms, trail.upstream_s * 1000)
        return [
            request_id,
            (b"x-relay-upstream", trail.target.encode()),
            (b"x-relay-attempts", b"%d" % trail.attempts),
            (b"server-timing", timing),
        ]


def visit(scope: Scope) -> Visit:
    """The visit that the door has opened for this request."""
    found: Visit = scope["state"]["visit"]
    return found


async def send_body(
    send: Send, status: int, body: bytes, headers: RawHeaders = (JSON,), *, head: bool = False
) -> None:
    """A whole answer; its length is ours to say. `head` leaves the body out."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": b"" if head else body})


async def send_events(send: Send, answer: Answer, whole: WholeEvents | None = None) -> None:
    """An upstream's stream of events. When it breaks off, what was sent of it ends an event.

    `whole` is given by who wants to know whether an event has just ended.

    Raises: the `RelayError` of the answer, which is for the caller to tell in a last event.
    """
    headers = [*answer.headers, *STREAM_HEADERS]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    whole = whole or WholeEvents()
    try:
        async for piece in answer:
            if out := whole.push(piece):
                await send({"type": "http.response.body", "body": out, "more_body": True})
    except RelayError:
        if not whole.between:  # a huge event was let through in part; end it
            await send({"type": "http.response.body", "body": b"\n\n", "more_body": True})
        raise
    await send({"type": "http.response.body", "body": whole.tail()})


async def send_error(send: Send, error: RelayError, *, head: bool = False) -> None:
    """An error's envelope, or an upstream's own error as it came."""
    await send_body(send, error.status, error.envelope(), answer_headers(error), head=head)


def answer_headers(error: RelayError) -> RawHeaders:
    """The headers of an error: an upstream's own, or ours, which are JSON and the error's."""
    return error.headers if isinstance(error, UpstreamStatus) else [JSON, *error.headers]


def _request_id(given: bytes | None) -> str:
    if given is not None and _SANE_ID.fullmatch(given):
        return given.decode()
    return new_request_id()


def new_request_id() -> str:
    """An id of our own: `req_` and 96 random bits, which need not be secret."""
    return f"req_{random.getrandbits(96):024x}"  # a system call costs ten times this
