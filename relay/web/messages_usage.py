"""The tokens of an answer in Anthropic's format, which passes as it is.

    in_body(b'{…, "usage": {…}}')      Usage(prompt_tokens=…), None for what tells nothing
    UsageInMessages().push(events)     the same bytes; `usage` is what they told so far

A stream tells its usage at both ends: message_start counts the prompt, message_delta adds up what
was written. Only events that tell some are parsed.

Source: Claude guide, "Streaming messages"; Claude API reference, "Messages".
"""

from collections.abc import Mapping
from typing import Any

from relay.attempts import Trail
from relay.dialects import json_text
from relay.dialects.anthropic_answer import to_chat_usage
from relay.dialects.fields import or_empty
from relay.sse import EventParser
from relay.types import Usage
from relay.usage import Sample, estimate_answer, read_usage

_NAME = b'"usage"'


def in_body(body: bytes) -> Usage | None:
    """What a whole message tells."""
    if _NAME not in body:
        return None
    try:
        return _read(or_empty(json_text.load_object(body).get("usage")))
    except ValueError:
        return None


def take_body(trail: Trail, body: bytes) -> None:
    """Count the tokens of a whole message."""
    trail.usage = in_body(body)
    if trail.usage is None:
        trail.written_tokens = estimate_answer(body)


class UsageInMessages:
    """Watches a stream of whole events for its usage."""

    def __init__(self) -> None:
        self._told: dict[str, Any] = {}
        self._whole = False
        self._sample = Sample()

    @property
    def usage(self) -> Usage | None:
        """What was told so far."""
        return _read(self._told)

    def estimate(self) -> int | None:
        """The tokens that were written so far, about; None when the stream has told."""
        return None if self._whole else self._sample.tokens()

    def push(self, events: bytes) -> bytes:
        """Whole events in, and the same out."""
        self._sample.add(events)
        if _NAME in events:
            try:
                for data in EventParser().feed(events):
                    if _NAME in data:
                        self._note(json_text.load_object(data))
            except ValueError:
                pass  # that is for the client to find out: the bytes are not ours
        return events

    def _note(self, event: Mapping[str, Any]) -> None:
        self._whole = self._whole or "usage" in event
        for told in (or_empty(event.get("message")).get("usage"), event.get("usage")):
            counts = or_empty(told).items()
            self._told.update({name: count for name, count in counts if count is not None})


def _read(told: Mapping[str, Any]) -> Usage | None:
    return read_usage(to_chat_usage(told)) if told else None
