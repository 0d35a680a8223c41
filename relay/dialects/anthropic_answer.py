"""Anthropic's message as a chat completion.

    text blocks                       message.content, in one
    thinking blocks                   message.reasoning_content, and message.thinking_blocks as
                                      they are, for the client to send back: they are signed
    tool_use blocks                   message.tool_calls
    stop_reason                       finish_reason
    usage.input_tokens, cache_…       usage.prompt_tokens, all of them, and its details

Blocks of tools that ran at Anthropic (a web search, say) have no counterpart and are left out. The
answer keeps its id.

Source: Claude API reference, "Messages"; OpenAI API reference, "Chat completion object".
"""

from collections.abc import Iterator, Mapping
from typing import Any

from relay.dialects import json_text
from relay.dialects.citations import to_notes
from relay.dialects.fields import or_empty
from relay.errors import UpstreamProtocol

FINISH_REASONS = {
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "stop",
    "refusal": "content_filter",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
}


def to_chat(message: Mapping[str, Any], *, created: int) -> dict[str, Any]:
    """The chat completion; `created` is Unix time in seconds, which Anthropic does not tell.

    Raises:
        UpstreamProtocol: it is no message.
    """
    blocks = message.get("content")
    if not isinstance(blocks, list):
        raise UpstreamProtocol("The upstream answered with something else than a message.")
    return {
        "id": str(message.get("id") or ""),
        "object": "chat.completion",
        "created": created,
        "model": str(message.get("model") or ""),
        "choices": [
            {
                "index": 0,
                "message": _message([or_empty(block) for block in blocks]),
                "logprobs": None,
                "finish_reason": finish_reason(message.get("stop_reason")),
            }
        ],
        "usage": to_chat_usage(or_empty(message.get("usage"))),
    }


def to_chat_body(body: bytes, *, created: int) -> bytes:
    """The same of a body.

    Raises:
        UpstreamProtocol: it is no message.
    """
    try:
        return json_text.dump(to_chat(json_text.load_object(body), created=created))
    except ValueError as exc:
        raise UpstreamProtocol("The upstream's answer cannot be read as JSON.") from exc


def finish_reason(stop_reason: Any) -> str:
    """OpenAI's word for why the model stopped; a reason nobody knows is a plain `stop`."""
    return FINISH_REASONS.get(str(stop_reason), "stop")


def to_chat_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's count: the prompt with what was read from the cache and written to it."""
    read, written = (
        _count(usage, "cache_read_input_tokens"),
        _count(usage, "cache_creation_input_tokens"),
    )
    prompt = _count(usage, "input_tokens") + read + written
    completion = _count(usage, "output_tokens")
    result: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": read},
    }
    if written:
        result["prompt_tokens_details"]["cache_write_tokens"] = written
    if thinking := _count(or_empty(usage.get("output_tokens_details")), "thinking_tokens"):
        result["completion_tokens_details"] = {"reasoning_tokens": thinking}
    return result


def _count(usage: Mapping[str, Any], name: str) -> int:
    count = usage.get(name)
    return count if isinstance(count, int) else 0


def _message(blocks: list[Mapping[str, Any]]) -> dict[str, Any]:
    texts = [str(block.get("text") or "") for block in blocks if block.get("type") == "text"]
    thoughts = [block for block in blocks if block.get("type") in ("thinking", "redacted_thinking")]
    calls = [_tool_call(block) for block in blocks if block.get("type") == "tool_use"]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts) if texts or not calls else None,
        "refusal": None,
    }
    if thoughts:
        message["reasoning_content"] = "".join(str(t.get("thinking") or "") for t in thoughts)
        message["thinking_blocks"] = thoughts
    if calls:
        message["tool_calls"] = calls
    for member, note in _notes(blocks):
        message.setdefault(member, []).append(note)
    return message


def _notes(blocks: list[Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    end = 0
    for block in blocks:
        if block.get("type") == "text":
            start, end = end, end + len(str(block.get("text") or ""))
            cited = block.get("citations")
            yield from to_notes(cited if isinstance(cited, list) else [], start, end)


def _tool_call(block: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json_text.dump(or_empty(block.get("input"))).decode()
    return {
        "id": str(block.get("id") or ""),
        "type": "function",
        "function": {"name": str(block.get("name") or ""), "arguments": arguments},
    }
