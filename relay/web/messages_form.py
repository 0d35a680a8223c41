"""How the paths of Anthropic's API speak to their clients: where the key stands, how errors look.

PATHS             where that is so
as_bearer         a client's headers with its `x-api-key` where other paths look for a key
send_error        an error as an answer, in the envelope of the path's API
error_event       the same in a stream that has begun
"""

import time
from collections.abc import Iterable

from relay.dialects import failures, rate_limits
from relay.errors import RelayError
from relay.types import RawHeaders
from relay.web import replies
from relay.web.client import Wait
from relay.web.replies import JSON, Visit

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
PATHS = frozenset({MESSAGES, COUNT_TOKENS})

PING = b'event: ping\ndata: {"type": "ping"}\n\n'

OF_THE_BODY = frozenset({b"content-encoding", b"content-type", b"etag"})
"""Headers that do not hold for another body; its length is never passed on anyway."""


def as_bearer(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """The headers with every `x-api-key` as `authorization`; two keys stay two."""
    return [
        (b"authorization", b"Bearer " + value) if name == b"x-api-key" else (name, value)
        for name, value in headers
    ]


def send_error(visit: Visit, error: RelayError) -> Wait:
    """An error of ours, or of an upstream that speaks OpenAI's API, as the path's clients know it.

    On the paths of Anthropic's API in its envelope, else in OpenAI's or as it came.
    """
    if visit.client.path not in PATHS:
        return replies.send_error(visit, error)
    failure = failures.to_messages(error.status, error.envelope(), request_id=visit.request_id)
    return visit.answer(failure.status, [JSON, *translated(error.headers)], failure.body)


def error_event(visit: Visit, error: RelayError) -> bytes:
    """The last event of a stream that broke."""
    failure = failures.to_messages(error.status, error.envelope(), request_id=visit.request_id)
    return b"event: error\ndata: " + failure.body + b"\n\n"


def translated(headers: RawHeaders) -> RawHeaders:
    """An upstream's headers, less those of its body, as Anthropic names them."""
    kept = [pair for pair in headers if pair[0] not in OF_THE_BODY]
    return rate_limits.to_anthropic(kept, now=time.time())
