"""What the engine behind `llama.py` says, as parts of an answer."""

import json
import logging
import re
import uuid
from collections.abc import Iterator
from typing import Any

from relay.errors import BackendError, InvalidRequest, RelayError
from relay.local.chunks import Part, StreamChoice, ending, opening
from relay.schema import DeltaMessage, Usage

FIELD = re.compile(r"^Field '(\w+)': ")
"""How the engine names the field it complains of."""

logger = logging.getLogger(__name__)


class ChunkReader:
    """Turns the engine's chunks into parts; with `tools_forced`, JSON texts into tool calls."""

    def __init__(self, *, tools_forced: bool) -> None:
        self._tools_forced = tools_forced
        self._calls: dict[int, list[str]] = {}
        self._timings: dict[int, dict[str, Any]] = {}

    def read(self, chunk: dict[str, Any]) -> Iterator[Part]:
        """The parts of one chunk.

        Raises:
            InvalidRequest: the chunk says that the request cannot be served.
            BackendError: the chunk says that the engine failed.
        """
        if "error" in chunk:
            raise refusal(chunk["error"])
        for choice in chunk["choices"]:
            if "timings" in chunk:
                self._timings[choice["index"]] = chunk["timings"]
            yield from self._read_choice(choice)

    def usage(self) -> Usage:
        """What all answers used, once they have ended.

        From the timings in the last chunk of each: the engine's own usage is one answer's, and
        comes once for each of several.
        """
        first = next(iter(self._timings.values()))
        asked = first["cache_n"] + first["prompt_n"]
        answered = sum(timings["predicted_n"] for timings in self._timings.values())
        return Usage.model_validate(
            {
                "prompt_tokens": asked,
                "completion_tokens": answered,
                "total_tokens": asked + answered,
                "prompt_tokens_details": {"cached_tokens": first["cache_n"]},
            }
        )

    def _read_choice(self, choice: dict[str, Any]) -> Iterator[Part]:
        index, reason = choice["index"], choice["finish_reason"]
        delta = {name: value for name, value in choice["delta"].items() if value is not None}
        if delta.pop("role", None):
            yield opening(index)
        if self._tools_forced:
            self._calls.setdefault(index, []).append(delta.pop("content", ""))
            if reason and (call := _tool_call("".join(self._calls[index]))):
                yield _part(index, {"tool_calls": [call]})
                reason = "tool_calls"
        if delta:
            extra = {"logprobs": choice["logprobs"]} if choice.get("logprobs") else {}
            yield _part(index, delta, **extra)
        if reason:
            yield ending(index, reason)


def refusal(error: dict[str, Any]) -> RelayError:
    """The engine's error object as ours."""
    message = str(error.get("message", ""))
    if error.get("type") == "exceed_context_size_error":
        return InvalidRequest(
            f"The conversation has {error.get('n_prompt_tokens')} tokens, but the local model's "
            f"context holds {error.get('n_ctx')}: shorten it.",
            param="messages",
            code="context_length_exceeded",
        )
    if error.get("code") == 400:
        named = FIELD.match(message)
        return InvalidRequest(
            f"The local model cannot take this request: {first_line(message)}",
            param=named[1] if named else None,
        )
    logger.error("local_model_failed error=%s status=%s", error.get("type"), error.get("code"))
    return BackendError(
        "The local model failed while answering; the relay's log says where.",
        code="local_model_failed",
    )


def first_line(text: str) -> str:
    """The beginning of an engine's message; more of it may quote the request."""
    return text.partition("\n")[0][:200]


def _part(index: int, delta: dict[str, Any], **extra: Any) -> StreamChoice:
    return StreamChoice.model_validate(
        {
            "index": index,
            "delta": DeltaMessage.model_validate(delta),
            "finish_reason": None,
            **extra,
        }
    )


def _tool_call(text: str) -> dict[str, Any] | None:
    """The call that a forced answer is; None when it was cut short."""
    try:
        call = json.loads(text)
    except json.JSONDecodeError:
        return None
    arguments = json.dumps(call["arguments"], ensure_ascii=False, separators=(",", ":"))
    return {
        "index": 0,
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": call["name"], "arguments": arguments},
    }
