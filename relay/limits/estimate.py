"""What a call may use at most, as far as its body tells: tokens, and what they cost.

prompt       a quarter of the body's bytes, less what are images, sounds and files
completion   what the request allows, for each of its `n` answers; else a guess
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import orjson

from relay.types import Call

BYTES_PER_TOKEN = 4
"""Of a body in JSON; English text has fewer tokens, most other languages have as many."""

ATTACHMENT_TOKENS = 1000
"""An image or a sound in the body: what providers count for a large one."""

SHORTEST_ATTACHMENT = 512
"""Shorter values than that are text, whatever they are called."""

_ATTACHED = (b";base64,", b'"data":"', b'"data": "', b'"file_data":"', b'"file_data": "')
_GENERATES = frozenset({"chat/completions", "completions", "responses", "messages", "realtime"})
_MOST = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_ANY_MOST = frozenset(_MOST)


class Estimate(NamedTuple):
    """Tokens of one call; `sure`: it cannot use more by its own words. `model` is its own."""

    prompt_tokens: int
    completion_tokens: int
    sure: bool
    model: str


_estimate: Callable[[tuple[int, int, bool, str]], Estimate] = partial(tuple.__new__, Estimate)
"""`Estimate`, without a function in Python."""


def estimate(call: Call, completion_tokens: int) -> Estimate:
    """What a call may use; `completion_tokens` where it does not say how many it wants."""
    payload, path, body = call.payload, call.path, call.body
    if "messages" not in payload:
        payload = _asked(call)
    small = len(body) <= SHORTEST_ATTACHMENT
    prompt = len(body) // BYTES_PER_TOKEN if small else _prompt_tokens(body)
    model = call.model or _text(payload.get("model"))
    if path not in _GENERATES and (path := path.partition("?")[0]) not in _GENERATES:
        if path == "messages/count_tokens":
            prompt = 0  # nothing is generated, and nothing charged
        return Estimate(prompt, 0, True, model)
    answers = _count(payload["n"]) or 1 if "n" in payload else 1
    if not _ANY_MOST.isdisjoint(payload):
        for name in _MOST:
            if name in payload and (most := _count(payload[name])) is not None:
                return Estimate(prompt, most * answers, True, model)
    return _estimate((prompt, completion_tokens * answers, False, model))


def _asked(call: Call) -> Mapping[str, Any]:
    """The fields of a request in another format than chat, which has not been parsed."""
    try:
        asked = orjson.loads(call.body)
    except orjson.JSONDecodeError:
        return call.payload
    return asked if isinstance(asked, dict) else call.payload


def _prompt_tokens(body: bytes) -> int:
    attached, attachments = 0, 0
    for mark in _ATTACHED:
        at = body.find(mark)
        while at >= 0:
            begin = at + len(mark)
            end = body.find(b'"', begin)
            length = (len(body) if end < 0 else end) - begin
            if length >= SHORTEST_ATTACHMENT:
                attached += length
                attachments += 1
            at = body.find(mark, begin + length)
    return (len(body) - attached) // BYTES_PER_TOKEN + attachments * ATTACHMENT_TOKENS


def _count(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
