"""The tokens of an answer: read where a body tells them, caught in a stream as it passes.

    read_usage({"prompt_tokens": 3, …})     Usage(prompt_tokens=3, …), None for what tells nothing
    usage_in_body(b'{…, "usage": {…}}')     the same, without parsing the rest
    UsageInStream(…).push(b"data: …")       the same bytes, less a chunk that nobody asked for

Taken in any chunk and beside any choices; `null`, as most chunks have it, tells nothing. Both the
names of chat completions and those of responses are known.

Source: OpenAI's API reference, "The chat completion chunk object", "The response object".
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from relay.sse import EventParser
from relay.types import Usage

_NAME = b'"usage"'
_TOLD = re.compile(rb'"usage"\s*:\s*\{')
_LINE_END = rb"(?>\r\n|\n|\r)"
_EVENT = re.compile(rb".*?" + _LINE_END + _LINE_END + rb"|.+", re.DOTALL)


def read_usage(told: object) -> Usage | None:
    """What an answer's `usage` tells; None when it tells nothing."""
    if not isinstance(told, Mapping):
        return None
    prompt = _count(told, "prompt_tokens", "input_tokens")
    completion = _count(told, "completion_tokens", "output_tokens")
    if prompt is None and completion is None:
        return None
    of_prompt = _details(told, "prompt_tokens_details", "input_tokens_details")
    of_completion = _details(told, "completion_tokens_details", "output_tokens_details")
    return Usage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        cached_tokens=_count(of_prompt, "cached_tokens") or 0,
        reasoning_tokens=_count(of_completion, "reasoning_tokens") or 0,
        audio_tokens=(_count(of_prompt, "audio_tokens") or 0)
        + (_count(of_completion, "audio_tokens") or 0),
    )


def usage_in_body(body: bytes) -> Usage | None:
    """What a whole answer tells."""
    if _NAME not in body:
        return None
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return _usage_of(answer)


class UsageInStream:
    """Watches a stream of chat chunks for its `usage`; only the chunk that tells it is parsed.

    `strip` takes out a chunk that tells nothing else, as comes when the relay asked for it
    and the client did not.
    """

    __slots__ = ("_strip", "usage")

    def __init__(self, *, strip: bool) -> None:
        self.usage: Usage | None = None
        self._strip = strip

    def push(self, events: bytes) -> bytes:
        """Whole events in, and out what the client gets of them."""
        if _NAME not in events or _TOLD.search(events) is None:
            return events
        return b"".join([event for event in _EVENT.findall(events) if self._passes(event)])

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


def _usage_of(answer: object) -> Usage | None:
    if not isinstance(answer, Mapping):
        return None
    inner = answer.get("response")  # the last event of a streamed response
    return read_usage(answer.get("usage")) or (
        read_usage(inner.get("usage")) if isinstance(inner, Mapping) else None
    )


def _details(told: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        if isinstance(details := told.get(name), Mapping):
            return details
    return {}


def _count(told: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = told.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
