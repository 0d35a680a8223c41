"""A chat completion as Anthropic's message.

    message.reasoning_content, .reasoning   a thinking block, unsigned
    message.thinking_blocks                 these blocks instead, with their signatures
    message.content, .refusal               a text block
    message.tool_calls                      tool_use blocks; arguments that are no JSON object
                                            come as `{"INVALID_JSON": "…"}`
    finish_reason                           stop_reason, stop_sequence
    usage                                   usage: what was cached is counted apart

Of several choices the first counts: Anthropic has one.

Source: Claude API reference, "Messages"; OpenAI API reference, "Chat completion object".
"""

from collections.abc import Mapping
from typing import Any

from relay.dialects import json_text
from relay.dialects.anthropic_turns import tool_input
from relay.dialects.fields import or_empty
from relay.errors import UpstreamProtocol

STOP_REASONS = {
    "content_filter": "refusal",
    "function_call": "tool_use",
    "length": "max_tokens",
    "stop": "end_turn",
    "tool_calls": "tool_use",
}


def to_message(completion: Mapping[str, Any]) -> dict[str, Any]:
    """The message.

    Raises:
        UpstreamProtocol: it is no chat completion, or one without a choice.
    """
    choices = completion.get("choices")
    if not (isinstance(choices, list) and choices):
        raise UpstreamProtocol("The upstream answered without a choice.")
    choice = or_empty(choices[0])
    said = or_empty(choice.get("message"))
    content = [*_thinking(said), *_texts(said), *_tool_uses(said)]
    calling = content != [] and content[-1]["type"] == "tool_use"
    reason, sequence = stop_reason(
        choice, calling=calling, refusing=isinstance(said.get("refusal"), str)
    )
    return {
        "id": str(completion.get("id") or ""),
        "type": "message",
        "role": "assistant",
        "model": str(completion.get("model") or ""),
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": to_messages_usage(or_empty(completion.get("usage"))),
    }


def to_message_body(body: bytes) -> bytes:
    """The same of a body.

    Raises:
        UpstreamProtocol: it is no chat completion, or one without a choice.
    """
    try:
        return json_text.dump(to_message(json_text.load_object(body)))
    except ValueError as exc:
        raise UpstreamProtocol("The upstream's answer cannot be read as JSON.") from exc


def stop_reason(
    choice: Mapping[str, Any], *, calling: bool, refusing: bool
) -> tuple[str, str | None]:
    """Anthropic's word for why the model stopped, and the stop sequence if the backend tells it.

    Not every server says `tool_calls` when it calls (OpenAI itself says `stop` when the client
    named the tool); vLLM tells the sequence in a `stop_reason` of its own.
    """
    reason = STOP_REASONS.get(str(choice.get("finish_reason")), "end_turn")
    if reason != "end_turn":
        return reason, None
    if calling:
        return "tool_use", None
    if refusing:
        return "refusal", None
    sequence = choice.get("stop_reason")
    return ("stop_sequence", sequence) if isinstance(sequence, str) else (reason, None)


def to_messages_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Anthropic's count: what was read from the cache or written to it is not in the input."""
    details = or_empty(usage.get("prompt_tokens_details"))
    read, written = _count(details, "cached_tokens"), _count(details, "cache_write_tokens")
    result: dict[str, Any] = {
        "input_tokens": max(0, _count(usage, "prompt_tokens") - read - written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": _count(usage, "completion_tokens"),
    }
    completion = or_empty(usage.get("completion_tokens_details"))
    if thinking := _count(completion, "reasoning_tokens"):
        result["output_tokens_details"] = {"thinking_tokens": thinking}
    return result


def reasoning_of(said: Mapping[str, Any]) -> str:
    """What a message or a delta holds of the model's thinking; servers have two names for it."""
    for name in ("reasoning_content", "reasoning"):
        thought = said.get(name)
        if isinstance(thought, str) and thought:
            return thought
    return ""


def _count(usage: Mapping[str, Any], name: str) -> int:
    count = usage.get(name)
    return count if isinstance(count, int) else 0


def _thinking(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    signed = said.get("thinking_blocks")
    if isinstance(signed, list) and signed:
        return [dict(or_empty(block)) for block in signed]
    thought = reasoning_of(said)
    return [{"type": "thinking", "thinking": thought, "signature": ""}] if thought else []


def _texts(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    texts = [said.get("content"), said.get("refusal")]
    return [{"type": "text", "text": t} for t in texts if isinstance(t, str) and t]


def _tool_uses(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    calls = said.get("tool_calls")
    if not isinstance(calls, list):
        return []
    return [_tool_use(or_empty(call), number) for number, call in enumerate(calls)]


def _tool_use(call: Mapping[str, Any], number: int) -> dict[str, Any]:
    function = or_empty(call.get("function"))
    arguments = function.get("arguments")
    known = arguments if isinstance(arguments, str | dict) else ""
    return {
        "type": "tool_use",
        "id": str(call.get("id") or f"call_{number}"),
        "name": str(function.get("name") or ""),
        "input": tool_input(known, "arguments"),
    }
