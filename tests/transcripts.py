"""What OpenAI-format servers say, as bytes: bodies, streams, errors.

Streams are lists of server-sent events, one `bytes` each, `[DONE]` last, so that a test may drop,
join or re-cut them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MODEL = "fake-1"
CREATED = 1_700_000_000
DONE = b"data: [DONE]\n\n"
USAGE: Mapping[str, int] = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


def to_json(value: Any) -> bytes:
    """Compact UTF-8, as OpenAI sends it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def event(data: Any) -> bytes:
    """One server-sent event that carries JSON."""
    return b"data: " + to_json(data) + b"\n\n"


def chat_body(
    text: str | None,
    *,
    model: str = MODEL,
    usage: Mapping[str, int] | None = USAGE,
    finish_reason: str = "stop",
    **message: Any,
) -> bytes:
    """A whole chat completion; more keywords are further fields of its message."""
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish_reason,
            }
        ],
    }
    return to_json(body | ({"usage": usage} if usage is not None else {}))


def tool_body(name: str, arguments: str, *, model: str = MODEL) -> bytes:
    """A whole chat completion that calls one tool."""
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return chat_body(None, model=model, finish_reason="tool_calls", tool_calls=[call])


def chunk(
    delta: Mapping[str, Any], *, model: str = MODEL, finish_reason: str | None = None
) -> bytes:
    """One chunk of a streamed chat, as an event."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event(_chunk_frame(model) | {"choices": [choice]})


def usage_chunk(usage: Mapping[str, int] = USAGE, *, model: str = MODEL) -> bytes:
    """The chunk that `include_usage` asks for: usage, and no choices."""
    return event(_chunk_frame(model) | {"choices": [], "usage": usage})


def chat_stream(
    pieces: Iterable[str],
    *,
    model: str = MODEL,
    usage: Mapping[str, int] | None = None,
    role_first: bool = True,
) -> list[bytes]:
    """A streamed chat whose content comes in `pieces`; with `usage`, its chunk comes last."""
    return _stream(
        [{"content": piece} for piece in pieces], model=model, usage=usage, role_first=role_first
    )


def reasoning_stream(
    thoughts: Iterable[str], pieces: Iterable[str], *, model: str = MODEL
) -> list[bytes]:
    """A streamed chat that thinks aloud (`reasoning_content`) before it answers."""
    deltas = [{"reasoning_content": thought} for thought in thoughts]
    return _stream([*deltas, *({"content": piece} for piece in pieces)], model=model)


def tool_stream(name: str, arguments: Sequence[str], *, model: str = MODEL) -> list[bytes]:
    """A streamed chat that calls one tool, the arguments' JSON text in pieces."""
    opening = {"index": 0, "id": "call_1", "type": "function"}
    deltas: list[Mapping[str, Any]] = [
        {"tool_calls": [opening | {"function": {"name": name, "arguments": ""}}]}
    ]
    deltas += [
        {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in arguments
    ]
    return _stream(deltas, model=model, finish_reason="tool_calls")


def models_body(*ids: str) -> bytes:
    """A model list."""
    return to_json({"object": "list", "data": [model_card(name) for name in ids]})


def model_card(name: str) -> dict[str, Any]:
    """One model of a list."""
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "fake"}


def error_body(
    message: str,
    *,
    type: str = "invalid_request_error",
    code: str | None = None,
    param: str | None = None,
) -> bytes:
    """OpenAI's error envelope."""
    return to_json({"error": {"message": message, "type": type, "param": param, "code": code}})


def _chunk_frame(model: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
    }


def _stream(
    deltas: Iterable[Mapping[str, Any]],
    *,
    model: str,
    usage: Mapping[str, int] | None = None,
    role_first: bool = True,
    finish_reason: str = "stop",
) -> list[bytes]:
    opening = [chunk({"role": "assistant", "content": ""}, model=model)] if role_first else []
    closing = [usage_chunk(usage, model=model)] if usage is not None else []
    return [
        *opening,
        *(chunk(delta, model=model) for delta in deltas),
        chunk({}, model=model, finish_reason=finish_reason),
        *closing,
        DONE,
    ]
