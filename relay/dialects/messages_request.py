"""An Anthropic request, `POST /v1/messages`, as a chat completion request.

    system, messages             messages (see `messages_turns`)
    max_tokens                   max_completion_tokens; the older name is refused by newer models
    stop_sequences               stop
    tools, tool_choice           tools, tool_choice, parallel_tool_calls
    thinking, output_config      reasoning_effort (see `effort`), response_format
    metadata.user_id             user
    service_tier                 service_tier
    stream                       stream, and usage at its end, which Anthropic's events carry

Only tools that the client runs by a schema have a counterpart; Anthropic's own are refused. What
only tunes or files an answer and what OpenAI would refuse (`top_k`, `cache_control`) is left out. A
field that Anthropic does not have travels as it is: it is meant for the backend.

Source: Claude API reference, "Messages"; OpenAI API reference, "Create chat completion".
"""

from collections.abc import Mapping
from typing import Any

from relay.dialects import effort
from relay.dialects.fields import array, mapping, or_empty, text, unfit
from relay.dialects.messages_turns import read_messages, read_system

_TRANSLATED = frozenset(
    {
        "max_tokens",
        "messages",
        "metadata",
        "output_config",
        "output_format",
        "service_tier",
        "stop_sequences",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
_LEFT_OUT = frozenset(
    {
        "anthropic_version",
        "betas",
        "cache_control",
        "context_management",
        "inference_geo",
        "speed",
        "top_k",
    }
)
_REFUSED = ("container", "mcp_servers")
_SERVICE_TIERS = {"auto": "auto", "standard_only": "default"}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_SCHEMA_NAME = "answer"
"""OpenAI wants a name for a schema, Anthropic knows none."""


def to_chat(payload: Mapping[str, Any], *, keep_thinking: bool = False) -> dict[str, Any]:
    """The chat completion request; `keep_thinking` for backends that take `reasoning_content`.

    Raises:
        InvalidRequest: the request is malformed or asks for what only Anthropic can do; `param`
            names the field.
    """
    given = {name: value for name, value in payload.items() if value is not None}
    for name in _REFUSED:
        if name in given:
            raise unfit(name, "cannot be served by this model")
    known = _TRANSLATED | _LEFT_OUT
    request = {name: value for name, value in given.items() if name not in known}
    text(request.get("model"), "model")
    if "messages" not in given:
        raise unfit("messages", "is required")
    request["messages"] = [
        *read_system(given.get("system")),
        *read_messages(given["messages"], keep_thinking=keep_thinking),
    ]
    request["max_completion_tokens"] = _max_tokens(given)
    if "stop_sequences" in given:
        _add_stop(request, array(given["stop_sequences"], "stop_sequences"))
    _add_tools(request, given)
    _add_output(request, given)
    _add_account(request, given)
    if given.get("stream") is True:
        request["stream_options"] = {"include_usage": True}
    return request


def _max_tokens(given: Mapping[str, Any]) -> int:
    limit = given.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise unfit("max_tokens", "is required and must be a whole number from 1")
    return limit


def _add_stop(request: dict[str, Any], sequences: list[Any]) -> None:
    for index, sequence in enumerate(sequences):
        text(sequence, f"stop_sequences[{index}]")
    if sequences:
        request["stop"] = sequences


def _add_tools(request: dict[str, Any], given: Mapping[str, Any]) -> None:
    tools = [
        _tool(mapping(tool, f"tools[{index}]"), f"tools[{index}]")
        for index, tool in enumerate(array(given.get("tools", []), "tools"))
    ]
    if not tools:
        return  # a choice among no tools would be refused
    request["tools"] = tools
    choice = mapping(given.get("tool_choice", {"type": "auto"}), "tool_choice")
    kind = choice.get("type")
    if kind == "tool":
        name = text(choice.get("name"), "tool_choice.name")
        request["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif isinstance(kind, str) and kind in _CHOICES:
        request["tool_choice"] = _CHOICES[kind]
    else:
        raise unfit("tool_choice.type", "must be auto, any, tool or none")
    if choice.get("disable_parallel_tool_use") is True:
        request["parallel_tool_calls"] = False


def _tool(tool: Mapping[str, Any], at: str) -> dict[str, Any]:
    if tool.get("type", "custom") not in ("custom", None):
        raise unfit(f"{at}.type", "must be 'custom': this model has none of Anthropic's own tools")
    function: dict[str, Any] = {"name": text(tool.get("name"), f"{at}.name")}
    if description := tool.get("description"):
        function["description"] = description
    function["parameters"] = mapping(tool.get("input_schema"), f"{at}.input_schema")
    if tool.get("strict") is True:
        function["strict"] = True
    return {"type": "function", "function": function}


def _add_output(request: dict[str, Any], given: Mapping[str, Any]) -> None:
    config = mapping(given.get("output_config", {}), "output_config")
    at, wanted = "output_config.format", config.get("format")
    if wanted is None:
        at, wanted = "output_format", given.get("output_format")
    if wanted is not None:
        request["response_format"] = _response_format(mapping(wanted, at), at)
    if asked := _effort(given, config):
        request["reasoning_effort"] = asked


def _response_format(wanted: Mapping[str, Any], at: str) -> dict[str, Any]:
    if wanted.get("type") != "json_schema":
        raise unfit(f"{at}.type", "must be json_schema")
    schema = mapping(wanted.get("schema"), f"{at}.schema")
    named = {"name": _SCHEMA_NAME, "schema": schema, "strict": True}
    return {"type": "json_schema", "json_schema": named}


def _effort(given: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """The effort asked for by name, or by budget; None says nothing, as many models know none."""
    if asked := effort.FROM_ADAPTIVE.get(str(config.get("effort"))):
        return asked
    thinking = mapping(given.get("thinking", {}), "thinking")
    if thinking.get("type") != "enabled":
        return None
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int):
        raise unfit("thinking.budget_tokens", "must be a whole number")
    return effort.effort_of(budget)


def _add_account(request: dict[str, Any], given: Mapping[str, Any]) -> None:
    if user := or_empty(given.get("metadata")).get("user_id"):
        request["user"] = user
    if tier := _SERVICE_TIERS.get(str(given.get("service_tier"))):
        request["service_tier"] = tier
