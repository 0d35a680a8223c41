"""The tokens of an answer: read where a body tells them, caught in a stream as it passes.

    read_usage({"prompt_tokens": 3, …})     Usage(prompt_tokens=3, …), None for what tells nothing
    usage_in_body(b'{…, "usage": {…}}')     the same, without parsing the rest
    UsageInStream(…).push(b"data: …")       the same bytes, less a chunk that nobody asked for

Taken in any chunk and beside any choices; `null`, as most chunks have it, tells nothing. Both the
names of chat completions and those of responses are known, and those of realtime sessions. What
only heard something (`{"type": "duration", "seconds": 1.5}`) is counted by time.

Source: OpenAI's API reference, "The chat completion chunk object", "The response object".
"""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from relay.sse import EVENT, EventParser
from relay.types import Usage

MAX_TOKENS = 1_000_000_000
"""More than any answer has: what is beyond it is no count, and would not fit into sums."""

MAX_SECONDS = 1_000_000

BYTES_PER_TOKEN = 4
IMAGE_TOKENS = 1000
"""What a picture (or sound) inside a prompt counts where nobody tells, whatever its size."""

SAMPLE_BYTES = 4096
LARGE_BYTES = 8192
"""A body beyond this is searched for its usage from the end, rather than parsed."""

_NAME = b'"usage"'
_usage: Callable[[tuple[int, ...]], Usage] = partial(tuple.__new__, Usage)
"""`Usage`, without a function in Python."""

_INLINE = re.compile(rb";base64,[A-Za-z0-9+/=_-]*")
_WRITTEN = re.compile(
    rb'"(?:content|reasoning_content|reasoning|arguments|text|thinking|partial_json|delta)"'
    rb'\s*:\s*"((?:[^"\\]|\\.)*)'
)
_DECODER = json.JSONDecoder()
_TOLD = re.compile(rb'"usage"\s*:\s*\{')


def read_usage(told: object) -> Usage | None:
    """What an answer's `usage` tells; None when it tells nothing."""
    if not isinstance(told, dict):
        return None
    prompt, completion = told.get("prompt_tokens"), told.get("completion_tokens")
    if (
        len(told) == 3  # these two, and their sum
        and "total_tokens" in told
        and type(prompt) is int
        and type(completion) is int
        and 0 <= prompt <= MAX_TOKENS >= completion >= 0
    ):
        return _usage((prompt, completion, 0, 0, 0, 0, 0, 0))
    prompt = _count(told, "prompt_tokens", "input_tokens")
    completion = _count(told, "completion_tokens", "output_tokens")
    if prompt is None and completion is None:
        return _heard(told)
    of_prompt = _details(
        told, "prompt_tokens_details", "input_tokens_details", "input_token_details"
    )
    of_completion = _details(
        told, "completion_tokens_details", "output_tokens_details", "output_token_details"
    )
    if not (any(of_prompt.values()) or any(of_completion.values())):
        return Usage(prompt or 0, completion or 0)
    spoken = _count(of_completion, "audio_tokens") or 0
    return Usage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        cached_tokens=_count(of_prompt, "cached_tokens") or 0,
        reasoning_tokens=_count(of_completion, "reasoning_tokens") or 0,
        audio_tokens=(_count(of_prompt, "audio_tokens") or 0) + spoken,
        cache_write_tokens=_count(of_prompt, "cache_write_tokens") or 0,
        audio_completion_tokens=spoken,
    )


def _heard(told: dict[str, Any]) -> Usage | None:
    seconds: Any = told.get("seconds")
    known = isinstance(seconds, int | float) and type(seconds) is not bool
    if not known or not 0 <= seconds <= MAX_SECONDS:  # NaN is not, either
        return None
    return Usage(heard_ms=round(seconds * 1000))


def estimate_tokens(prompt: bytes) -> int:
    """The tokens of a request's body, about: what it has of text, and something for each image."""
    if b";base64," in prompt:
        prompt, images = _INLINE.subn(b"", prompt)
        return -(-len(prompt) // BYTES_PER_TOKEN) + images * IMAGE_TOKENS
    return -(-len(prompt) // BYTES_PER_TOKEN)


def usage_in_body(body: bytes) -> Usage | None:
    """What a whole answer tells."""
    at = body.rfind(_NAME)
    if at < 0:
        return None
    if len(body) - at <= LARGE_BYTES:
        try:  # an object with its last members; that is none if there are more braces behind them
            last = orjson.loads(b"{" + body[at:])
        except orjson.JSONDecodeError:
            pass
        else:
            if usage := read_usage(last["usage"]):  # as nearly always
                return usage
    if len(body) > LARGE_BYTES:
        usage = usage_in_tail(body[-LARGE_BYTES:])
        if usage is not None:
            return usage
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return _usage_of(answer)


def usage_in_tail(tail: bytes) -> Usage | None:
    """What the end of a long answer tells: nearly all have their usage there."""
    # Inside a string its quotes would be escaped, so what is found is a member's name.
    places = list(_TOLD.finditer(tail))
    if not places:
        return None
    try:
        told, _ = _DECODER.raw_decode(tail[places[-1].end() - 1 :].decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return read_usage(told)


class Sample:
    """Estimates the tokens of a stream from what its beginning is made of."""

    __slots__ = ("_kept", "_passed", "_room")

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._room = SAMPLE_BYTES
        self._passed = 0

    def add(self, events: bytes) -> None:
        """The next events."""
        self._passed += len(events)
        if self._room > 0:
            self._kept.append(events[: self._room])
            self._room -= len(events)

    def tokens(self) -> int:
        """How many all of them hold, about."""
        beginning = b"".join(self._kept)
        written = sum(len(text) for text in _WRITTEN.findall(beginning))
        return -(-written * self._passed // (len(beginning) * BYTES_PER_TOKEN)) if written else 0


def estimate_answer(body: bytes) -> int:
    """The tokens of a whole answer that tells none, about."""
    sample = Sample()
    sample.add(body)
    return sample.tokens()


class UsageInStream(Sample):
    """Watches a stream of chat chunks for its `usage`; only the chunk that tells it is parsed.

    `strip` takes out a chunk that tells nothing else, as comes when the relay asked for it
    and the client did not.
    """

    __slots__ = ("_strip", "usage")

    def __init__(self, *, strip: bool) -> None:
        super().__init__()
        self.usage: Usage | None = None
        self._strip = strip

    def push(self, events: bytes) -> bytes:
        """Whole events in, and out what the client gets of them."""
        self._passed += len(events)  # as in Sample.add, without a call for each piece
        if self._room > 0:
            self._kept.append(events[: self._room])
            self._room -= len(events)
        if _NAME not in events or _TOLD.search(events) is None:
            return events
        return b"".join([event for event in EVENT.findall(events) if self._passes(event)])

    def estimate(self) -> int | None:
        """The tokens that have passed, about; None when the stream has told."""
        return None if self.usage is not None else self.tokens()

    def _passes(self, event: bytes) -> bool:
        if _TOLD.search(event) is None:
            return True
        for data in EventParser().feed(event):
            try:
                chunk = orjson.loads(data)
            except orjson.JSONDecodeError:
                return True
            usage = _usage_of(chunk)
            if usage is not None:
                self.usage = usage
                return not (self._strip and chunk.get("choices") == [])
        return True


class UsageInBody:
    """Watches a whole answer that passes piece by piece; only its end is looked at."""

    __slots__ = ("_sample", "_tail")

    def __init__(self) -> None:
        self._tail = b""
        self._sample = Sample()

    @property
    def usage(self) -> Usage | None:
        """What it tells."""
        return usage_in_tail(self._tail)

    def push(self, piece: bytes) -> bytes:
        """The next piece, and the same out."""
        self._sample.add(piece)
        self._tail = (self._tail + piece)[-LARGE_BYTES:]
        return piece

    def estimate(self) -> int | None:
        """As of a stream."""
        return None if self.usage is not None else self._sample.tokens()


def _usage_of(answer: object) -> Usage | None:
    if not isinstance(answer, dict):
        return None
    if usage := read_usage(answer.get("usage")):
        return usage
    inner = answer.get("response")  # the last event of a streamed response
    return read_usage(inner.get("usage")) if isinstance(inner, dict) else None


def _details(told: dict[str, Any], name: str, second: str, third: str) -> dict[str, Any]:
    details = told.get(name) or told.get(second) or told.get(third)
    return details if isinstance(details, dict) else {}


def _count(told: dict[str, Any], name: str, other: str = "") -> int | None:
    value = told.get(name)
    if type(value) is int and 0 <= value <= MAX_TOKENS:  # a bool is another type
        return value
    return _count(told, other) if other else None
