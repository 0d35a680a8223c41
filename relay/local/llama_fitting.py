"""Makes a request fit: into the context, by leaving out the oldest turns, and into `max_length`.

system ... | user assistant tool assistant | user assistant | user
kept       | a turn, the first to go       | the next       | kept
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from relay.errors import InvalidRequest
from relay.history import text_of
from relay.local.llama_chunks import too_long
from relay.local.llama_request import EngineRequest, within

ANSWER_SHARE = 4
"""One part in so many of the context is kept free for an answer that was given no limit."""

FRAME_TOKENS = 32
"""More than a chat template puts around one message."""


class Counts(Protocol):
    """What counts the tokens of a prompt: the engine."""

    def count(self, body: dict[str, Any], *, chat: bool) -> int: ...


def trimmed(engine: Counts, asked: EngineRequest, context_tokens: int) -> EngineRequest:
    """The request without its oldest turns, about as few as will do.

    How many is guessed from the lengths of the texts, and counted then: to count what fits costs
    the engine up to a batch, which it has in its cache when the request follows.

    Raises:
        InvalidRequest: the last turn alone is too long.
    """
    body = asked.asks[0].body
    kept, turns = _turns(body["messages"])
    wanted = body.get("max_tokens", context_tokens // ANSWER_SHARE)
    room = context_tokens - min(wanted, context_tokens // 2)
    kept_length, lengths = sum(map(_length, kept)), [sum(map(_length, turn)) for turn in turns]
    whole = kept_length + sum(lengths)
    # No token is shorter than a byte.
    if whole + FRAME_TOKENS * len(body["messages"]) <= room:
        return asked
    left_out, length, tokens = 0, whole, engine.count(body, chat=True)
    bytes_per_token = whole / max(1, tokens)
    messages = body["messages"]
    while tokens > room and left_out < len(turns) - 1:
        length -= lengths[left_out]
        left_out += 1
        if length / bytes_per_token <= room or left_out == len(turns) - 1:
            messages = [*kept, *(message for turn in turns[left_out:] for message in turn)]
            tokens = engine.count(body | {"messages": messages}, chat=True)
    if tokens >= context_tokens:
        raise too_long(tokens, context_tokens, param="messages")
    asks = [replace(ask, body=ask.body | {"messages": messages}) for ask in asked.asks]
    return replace(asked, asks=asks)


def within_length(engine: Counts, asked: EngineRequest) -> EngineRequest:
    """The request with what ChatGLM's `max_length` leaves for the answer.

    Raises:
        InvalidRequest: it leaves nothing.
    """
    if asked.max_length is None:
        return asked
    tokens = engine.count(asked.asks[0].body, chat=asked.chat)
    left = asked.max_length - tokens
    if left < 1:
        raise InvalidRequest(
            f"The prompt has {tokens} tokens, which leaves nothing of 'max_length' "
            f"({asked.max_length}) for an answer.",
            param="max_length",
            code="context_length_exceeded",
        )
    return within(asked, left)


def _turns(messages: Sequence[Any]) -> tuple[list[Any], list[list[Any]]]:
    """What stays in any case, and the turns; each begins with a user's message."""
    kept: list[Any] = []
    turns: list[list[Any]] = []
    for message in messages:
        if message["role"] in ("system", "developer") and not turns:
            kept.append(message)
        elif message["role"] == "user" or not turns:
            turns.append([message])
        else:
            turns[-1].append(message)
    return kept, turns


def _length(message: Any) -> int:
    return len(text_of(message.get("content")).encode("utf-8", "replace"))
