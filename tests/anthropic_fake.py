"""What Anthropic-format servers say, as bytes, and a fake upstream that speaks so."""

import json
from collections.abc import Sequence
from typing import Any

from fake_upstream import FakeUpstream, Received, Script
from transcripts import to_json

KEY = "sk-ant-hidden-canary-0123456789"
MODEL = "claude-fake-1"
ID = "msg_01fake"
JSON = (b"content-type", b"application/json")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
LIMITS = [
    (b"anthropic-ratelimit-requests-limit", b"50"),
    (b"anthropic-ratelimit-requests-remaining", b"49"),
    (b"request-id", b"req_011fake"),
    (b"anthropic-organization-id", b"11111111-2222-3333"),
]
USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 4,
    "output_tokens": 3,
}
Block = dict[str, Any]


def message_body(
    *content: Block, stop_reason: str = "end_turn", model: str = MODEL, **more: Any
) -> bytes:
    """A whole message of those blocks; more keywords are further fields of it."""
    message = {
        "id": ID,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": list(content),
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": USAGE,
    }
    return to_json(message | more)


def said(text: str) -> Block:
    """A block of text."""
    return {"type": "text", "text": text}


def called(name: str, given: dict[str, Any], id: str = "toolu_1") -> Block:
    """A block that calls a tool."""
    return {"type": "tool_use", "id": id, "name": name, "input": given}


def event(data: dict[str, Any]) -> bytes:
    """One event, named after its type."""
    return b"event: " + data["type"].encode() + b"\ndata: " + to_json(data) + b"\n\n"


def message_stream(
    *content: Block, stop_reason: str = "end_turn", model: str = MODEL
) -> list[bytes]:
    """The same message as events: texts by their words, calls in two pieces of JSON."""
    opening = json.loads(message_body(model=model))
    opening |= {"stop_reason": None, "usage": USAGE | {"output_tokens": 1}}
    events = [event({"type": "message_start", "message": opening}), event({"type": "ping"})]
    for index, block in enumerate(content):
        empty = {"text": ""} if block["type"] == "text" else {"input": {}}
        start = {"type": "content_block_start", "index": index, "content_block": block | empty}
        events.append(event(start))
        for delta in _deltas(block):
            events.append(event({"type": "content_block_delta", "index": index, "delta": delta}))
        events.append(event({"type": "content_block_stop", "index": index}))
    ending = {"stop_reason": stop_reason, "stop_sequence": None}
    usage = {"output_tokens": USAGE["output_tokens"]}
    events.append(event({"type": "message_delta", "delta": ending, "usage": usage}))
    events.append(event({"type": "message_stop"}))
    return events


def error_body(kind: str, message: str) -> bytes:
    """Anthropic's error envelope."""
    error = {"type": kind, "message": message}
    return to_json({"type": "error", "error": error, "request_id": "req_011fake"})


def error(status: int, kind: str, message: str, *headers: tuple[bytes, bytes]) -> Script:
    """An error as an answer."""
    return Script(status=status, headers=[JSON, *LIMITS, *headers], body=error_body(kind, message))


def plain(*content: Block, **more: Any) -> Script:
    """A message as an answer."""
    return Script(headers=[JSON, *LIMITS], body=message_body(*content, **more))


def streamed(*content: Block, **more: Any) -> Script:
    """A message as an answer in events."""
    return Script(headers=[EVENTS, *LIMITS], pieces=message_stream(*content, **more))


def speak_anthropic(fake: FakeUpstream) -> None:
    """Have it answer messages with their last words, count tokens and list models."""
    fake.answer(_guarded(_echo), path="/v1/messages")
    fake.answer(_guarded(_count), path="/v1/messages/count_tokens")
    fake.answer(_guarded(_models), path="/v1/models")


def _guarded(reply: Any) -> Any:
    def answer(received: Received) -> Script:
        if received.header("x-api-key") != KEY or received.header("authorization"):
            return error(401, "authentication_error", "invalid x-api-key")
        if not received.header("anthropic-version"):
            return error(400, "invalid_request_error", "anthropic-version: header is required")
        return reply(received)

    return answer


def _echo(received: Received) -> Script:
    asked = json.loads(received.body)
    content = asked["messages"][-1]["content"]
    words = content if isinstance(content, str) else content[-1]["text"]
    answer = streamed if asked.get("stream") else plain
    return answer(said(words), model=asked["model"])


def _count(received: Received) -> Script:
    return Script(headers=[JSON], body=b'{"input_tokens":14}')


def _models(received: Received) -> Script:
    card = {
        "type": "model",
        "id": MODEL,
        "display_name": "Fake",
        "created_at": "2025-02-19T00:00:00Z",
    }
    listed = {"data": [card], "has_more": False, "first_id": MODEL, "last_id": MODEL}
    return Script(headers=[JSON], body=to_json(listed))


def _deltas(block: Block) -> Sequence[dict[str, Any]]:
    if block["type"] == "text":
        words = block["text"].replace(" ", " \0").split("\0")
        return [{"type": "text_delta", "text": word} for word in words]
    written = json.dumps(block["input"])
    pieces = (written[:3], written[3:])
    return [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
