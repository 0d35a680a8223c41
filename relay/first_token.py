"""Streams that have begun with their first token, not with their first byte: for hedging.

    counts                                  does not
    text, thoughts, a refusal, a tool call  comments
    a finish_reason, [DONE]                 a chunk with a role, or with nothing
    an error                                message_start, content_block_start, ping
    what is no JSON, or unknown here        response.created and its like

Unknown events count, as nobody can say that they bring nothing: then it is as without hedging. So
does the first byte of what is no stream of events, and whatever has grown longer than
`MAX_HELD_BYTES`. What was read on the way goes to the client byte for byte.

Source: OpenAI API reference, "Chat completion chunk object", "Streaming events" (and `keepalive`,
which it does not name); Claude guide, "Streaming messages".
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from relay.dialects import failures, json_text
from relay.dialects.fields import or_empty
from relay.errors import UpstreamProtocol, UpstreamStatus
from relay.sse import EventParser, is_plain_stream
from relay.types import Answer, Backend, Call, RawHeaders

MAX_HELD_BYTES = 64 * 1024
"""A stream of which more came has begun, whatever that was."""

_SILENT = frozenset(
    {
        "content_block_start",
        "content_block_stop",
        "keepalive",
        "message_start",
        "ping",
        "response.content_part.added",
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.queued",
        "response.reasoning_part.added",
        "response.reasoning_summary_part.added",
    }
)
"""Types of events that announce something, or nothing: Anthropic's, and those of responses."""

_NO_TOKENS = frozenset({"name", "role", "type"})
"""Members of a delta that say whose it is and of what kind."""

_OF_A_CHOICE = ("delta", "finish_reason", "message", "text")
"""Members of a choice that may bring something; `text` is of legacy completions."""

_JSON = (b"content-type", b"application/json")

Sink = Callable[[bytes], Awaitable[None] | None]
_Pour = Callable[[Sink], Awaitable[bytes]]


class FirstToken:
    """Looks for it in a stream of events, piece by piece, cut anywhere.

    `error` is the data of an event that reported one, when that was the first event of all.
    """

    def __init__(self) -> None:
        self.error = b""
        self._parser = EventParser()
        self._at_start = True

    def feed(self, piece: bytes) -> bool:
        """Whether that piece brings it. Once it has, nothing more is to be fed."""
        for data in self._parser.feed(piece):
            if not data.strip():
                continue
            try:
                event = json_text.load_object(data)
            except ValueError:  # [DONE], or of a form that is not known here
                return True
            if _is_error(event):
                self.error = data if self._at_start else b""
                return True
            if _brings_something(event):
                return True
            self._at_start = False
        return False


class ByFirstToken:
    """A backend whose streams have begun when their first token is there; see `Backend`."""

    def __init__(self, backend: Backend) -> None:
        self.name = backend.name
        self.complete = backend.complete
        self.aclose = backend.aclose
        self._stream = backend.stream

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        """The answer once its first token is in hand.

        Raises:
            UpstreamStatus: it begins with an error that another target may not have.
            UpstreamProtocol: it ended before.
            BackendError: it broke off, or what the backend raises.
        """
        async with self._stream(call) as answer:
            if is_plain_stream(answer.headers):
                yield await self._begun(answer)
            else:
                yield answer

    async def _begun(self, answer: Answer) -> "HeldAnswer":
        first = FirstToken()
        held = bytearray()
        pieces = aiter(answer)
        async for piece in pieces:
            held += piece
            if len(held) > MAX_HELD_BYTES or first.feed(piece):
                break
        else:
            if not first.feed(b"\n\n"):  # the last event may lack its blank line
                raise UpstreamProtocol(f"'{self.name}' ended its answer before its first token.")
        if first.error:
            _check(first.error, answer.headers)
        return HeldAnswer(answer, bytes(held), pieces)


class HeldAnswer:
    """An answer of which the beginning was read: that comes first, then the rest as it arrives."""

    def __init__(self, answer: Answer, held: bytes, pieces: AsyncIterator[bytes]) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self._held = held
        self._pieces = pieces
        self._pour: _Pour | None = getattr(answer, "pour", None)

    def __aiter__(self) -> "HeldAnswer":
        return self

    async def __anext__(self) -> bytes:
        held, self._held = self._held, b""
        return held or await anext(self._pieces)

    async def pour(self, sink: Sink) -> bytes:
        """Give all of it to `sink`, the rest by the answer's own way if it has one (`Answer`)."""
        held, self._held = self._held, b""
        if held and (wait := sink(held)) is not None:
            await wait
        if self._pour is not None:
            return await self._pour(sink)
        async for piece in self._pieces:
            if (wait := sink(piece)) is not None:
                await wait
        return b""


def _is_error(event: Mapping[str, Any]) -> bool:
    return bool(event.get("error")) or event.get("type") == "error"


def _brings_something(event: Mapping[str, Any]) -> bool:
    choices = event.get("choices")
    if isinstance(choices, list):
        return any(_tells(or_empty(one).get(name)) for one in choices for name in _OF_A_CHOICE)
    if "delta" in event:
        return _tells(event["delta"])
    return event.get("type") not in _SILENT


def _tells(told: object) -> bool:
    """Whether anything is in a delta: a text, a call, or what only some servers have."""
    if isinstance(told, Mapping):
        return any(value for name, value in told.items() if name not in _NO_TOKENS)
    return bool(told)


def _check(data: bytes, headers: RawHeaders) -> None:
    """An error that came as an event stays one where the request itself is at fault.

    Raises:
        UpstreamStatus: it is one of the upstream's, such as being overloaded.
    """
    event = json_text.load_object(data)
    error = event.get("error")
    status = failures.status_of_event(or_empty(error) if error else event)
    if status == 429 or status >= 500:
        body = data if error else b'{"error":%b}' % data
        kept = [pair for pair in headers if pair[0] != _JSON[0]]
        raise UpstreamStatus(status, headers=[_JSON, *kept], body=body)
