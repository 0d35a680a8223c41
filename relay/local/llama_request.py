"""A chat request as the engine behind `llama.py` takes it.

What passes is named here: the engine has options that reach beyond one request (slots, adapters,
caches). Everything else of a request is ignored by it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.errors import InvalidRequest
from relay.history import BLANK_LINE, text_of
from relay.schema import ChatCompletionRequest

# fmt: off  # one name a line would be a page
PASSED = frozenset(
    [
        "messages",
        "n",
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "response_format",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "top_k",
        "min_p",
        "typical_p",
        "top_n_sigma",
        "xtc_probability",
        "xtc_threshold",
        "dynatemp_range",
        "dynatemp_exponent",
        "repeat_penalty",
        "repeat_last_n",
        "dry_multiplier",
        "dry_base",
        "dry_allowed_length",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
        "min_keep",
        "grammar",
        "json_schema",
        "chat_template_kwargs",
        "reasoning_format",
    ]
)
# fmt: on
"""Fields that go to the engine as they are: OpenAI's, and the samplers that GGUF users know."""

RANDOM_SEED = 2**32 - 1
"""The engine takes 32-bit seeds, and this one for "a new one each time"."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """The engine's body, and what we do for it.

    `tools_forced`: the engine was asked for a tool call as JSON, which has to be wrapped.
    `max_length`: ChatGLM's limit, which needs the prompt's tokens, which only the engine knows.
    """

    body: dict[str, Any]
    tools_forced: bool = False
    max_length: int | None = None


def build(
    request: ChatCompletionRequest, payload: Mapping[str, Any], *, parallel: int
) -> EngineRequest:
    """What to ask the engine for that request.

    Raises:
        InvalidRequest: the request asks for what the engine cannot do.
    """
    _check_parts(request)
    if request.n is not None and request.n > parallel:
        raise InvalidRequest(
            f"The local model gives at most {parallel} answers at once, not {request.n}.",
            param="n",
        )
    body = {name: payload[name] for name in PASSED & payload.keys() if payload[name] is not None}
    limits = (request.max_tokens, request.max_completion_tokens)
    if given := [limit for limit in limits if limit is not None]:
        body["max_tokens"] = min(given)
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    body["stop"] = [stop for stop in stops if stop]  # an empty one would end every answer at once
    if request.seed is not None:
        body["seed"] = request.seed % RANDOM_SEED
    # A cached prompt is computed in other batches, whose rounding may turn a near-tie: the same
    # seed gives the same text only without it.
    body["cache_prompt"] = request.seed is None
    body["stream"] = True
    body["return_progress"] = True  # or a long prompt could not be cancelled
    forced = _forced_tools(request)
    if forced:
        _force(body, forced)
    return EngineRequest(body, tools_forced=bool(forced), max_length=request.max_length)


def _check_parts(request: ChatCompletionRequest) -> None:
    for index, message in enumerate(request.messages):
        if not isinstance(message.content, list):
            continue
        for place, part in enumerate(message.content):
            if part.type not in ("text", "refusal"):
                raise InvalidRequest(
                    f"The local model reads text only, and no '{part.type}'.",
                    param=f"messages[{index}].content[{place}].type",
                )


def _forced_tools(request: ChatCompletionRequest) -> list[dict[str, Any]]:
    """The functions of which one must be called; none when the model may choose."""
    choice = request.tool_choice
    functions = [tool["function"] for tool in request.tools or () if _is_function(tool)]
    if choice == "required":
        return functions
    if not isinstance(choice, dict):
        return []
    named = choice.get("function")
    name = named.get("name") if isinstance(named, dict) else None
    found = [function for function in functions if function["name"] == name]
    if not found:
        raise InvalidRequest(
            f"'tool_choice' names '{name}', which is none of the tools.", param="tool_choice"
        )
    return found


def _is_function(tool: dict[str, Any]) -> bool:
    function = tool.get("function")
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _force(body: dict[str, Any], functions: list[dict[str, Any]]) -> None:
    """Ask for the call as JSON, which the engine enforces; a chat template's tools it may not."""
    for name in ("tools", "tool_choice", "parallel_tool_calls", "grammar", "json_schema"):
        body.pop(name, None)
    schema = {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "name": {"const": function["name"]},
                    "arguments": function.get("parameters") or {"type": "object"},
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for function in functions
        ]
    }
    body["response_format"] = {
        "type": "json_schema",
        "json_schema": {"name": "call", "schema": schema},
    }
    told = "Answer with a call of one of these functions, as JSON:\n" + "\n".join(
        json.dumps(function, ensure_ascii=False) for function in functions
    )
    first, *rest = body["messages"]
    if first["role"] in ("system", "developer"):
        told = told + BLANK_LINE + text_of(first.get("content"))
    else:
        rest = [first, *rest]
    body["messages"] = [{"role": "system", "content": told}, *rest]
