"""A chat completion request as Anthropic's `POST /v1/messages`.

    messages                          system, messages (see `anthropic_turns`)
    max_completion_tokens, max_tokens max_tokens, which Anthropic requires
    temperature, top_p                the same below 1; 1 is the default and Anthropic's maximum
    stop                              stop_sequences
    tools, functions                  tools; strict ones stay strict
    tool_choice, function_call        tool_choice
    parallel_tool_calls = false       tool_choice.disable_parallel_tool_use
    response_format json_schema       output_config.format
    reasoning_effort                  thinking (see `effort`)
    safety_identifier, user           metadata.user_id
    service_tier                      service_tier, where there is a counterpart

What asks for an answer of another form than Anthropic gives is refused: several choices, logprobs,
audio, JSON without a schema, a web search of OpenAI's, blank stop sequences. What only tunes or
files an answer is left out, since Anthropic would refuse it. A field that OpenAI does not have
travels as it is: so `thinking`, `top_k` or `cache_control` reach the model.

Source: Claude API reference, "Messages", "OpenAI SDK compatibility".
"""

from collections.abc import Mapping
from typing import Any

from relay.dialects import effort
from relay.dialects.anthropic_turns import Conversation, read_turns
from relay.dialects.fields import array, mapping, or_empty, text, unfit

PATH = "messages"
"""Relative to a base URL with its `/v1`."""
VERSION = (b"anthropic-version", b"2023-06-01")
"""The header that every request needs."""
DEFAULT_MAX_TOKENS = 4096
"""When the client sets no limit; every model can write as much."""

_TRANSLATED = frozenset(
    {
        "function_call",
        "functions",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "parallel_tool_calls",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "service_tier",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
        "user",
    }
)
_LEFT_OUT = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_length",
        "modalities",
        "moderation",
        "n",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "seed",
        "store",
        "stream_options",
        "top_logprobs",
        "verbosity",
    }
)
_LIMITS = ("max_completion_tokens", "max_tokens")
_SAMPLING = ("temperature", "top_p", "top_k")
_REFUSED = ("audio", "web_search_options")
_SERVICE_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_NO_ARGUMENTS = {"type": "object", "properties": {}}


def to_messages(payload: Mapping[str, Any], *, adaptive: bool | None = None) -> dict[str, Any]:
    """The request for `/v1/messages`.

    `adaptive` says whether the model sets its thinking budget itself; None goes by its name. Such
    models are sent an effort, no budget and no sampling parameters, which they refuse.

    Raises:
        InvalidRequest: the request is malformed or asks for what Anthropic cannot do; `param` names
            the field.
    """
    given = {name: value for name, value in payload.items() if value is not None}
    _check(given)
    if adaptive is None:
        adaptive = effort.is_adaptive(str(given.get("model")))
    conversation = read_turns(given.get("messages"))
    known = _TRANSLATED | _LEFT_OUT
    request = {name: value for name, value in given.items() if name not in known}
    if conversation.system:
        request["system"] = conversation.system
    request["messages"] = conversation.turns
    _add_limits(request, given)
    if not adaptive:
        _add_sampling(request, given)
    _add_tools(request, given)
    _add_output(request, given)
    _add_account(request, given)
    _add_thinking(request, given, conversation, adaptive=adaptive)
    return request


def credentials(secret: str) -> tuple[bytes, bytes]:
    """The header that carries the key."""
    return b"x-api-key", secret.encode()


def wants_usage(payload: Mapping[str, Any]) -> bool:
    """Whether a streamed answer shall end with a chunk of usage."""
    return or_empty(payload.get("stream_options")).get("include_usage") is True


def _check(given: Mapping[str, Any]) -> None:
    if given.get("n", 1) != 1:
        raise unfit("n", "must be 1: Anthropic gives one answer")
    if given.get("logprobs"):
        raise unfit("logprobs", "cannot be had from Anthropic")
    if given.get("top_logprobs"):
        raise unfit("top_logprobs", "cannot be had from Anthropic")
    modalities = given.get("modalities")
    if isinstance(modalities, list) and modalities != ["text"]:
        raise unfit("modalities", "must be text: Anthropic gives nothing else")
    for name in _REFUSED:
        if name in given:
            raise unfit(name, "cannot be translated to Anthropic's format")


def _add_limits(request: dict[str, Any], given: Mapping[str, Any]) -> None:
    request["max_tokens"] = _max_tokens(given)
    if "stop" in given:
        request["stop_sequences"] = _stop_sequences(given["stop"])


def _add_sampling(request: dict[str, Any], given: Mapping[str, Any]) -> None:
    # Many clients write out the defaults, and some models refuse even those, or the two together.
    for name in ("temperature", "top_p"):
        value = given.get(name)
        if isinstance(value, int | float) and value < 1:
            request[name] = value
    if "top_k" in given:
        request["top_k"] = given["top_k"]


def _max_tokens(given: Mapping[str, Any]) -> Any:
    """The client's limit, or room for the answer and for the thinking it asks for."""
    for name in _LIMITS:
        if name in given:
            return given[name]
    budget = or_empty(given.get("thinking")).get("budget_tokens")
    return DEFAULT_MAX_TOKENS + (budget if isinstance(budget, int) else 0)


def _stop_sequences(stop: Any) -> list[str]:
    sequences = [stop] if isinstance(stop, str) else array(stop, "stop")
    for sequence in sequences:
        if not text(sequence, "stop").strip():
            raise unfit("stop", "must hold more than white space: Anthropic stops at nothing else")
    return sequences


def _add_tools(request: dict[str, Any], given: Mapping[str, Any]) -> None:
    tools = [
        _tool(mapping(tool, f"tools[{index}]"), f"tools[{index}]")
        for index, tool in enumerate(array(given.get("tools", []), "tools"))
    ]
    tools += [
        _function(mapping(function, f"functions[{index}]"), f"functions[{index}]")
        for index, function in enumerate(array(given.get("functions", []), "functions"))
    ]
    if not tools:
        return  # a choice among no tools would be refused
    request["tools"] = tools
    choice = _tool_choice(given)
    if given.get("parallel_tool_calls") is False and choice.get("type") != "none":
        choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
    if choice:
        request["tool_choice"] = choice


def _tool(tool: Mapping[str, Any], at: str) -> dict[str, Any]:
    kind = tool.get("type")
    if kind == "custom" and "custom" in tool:
        raise unfit(f"{at}.type", "must be 'function': Anthropic knows no tools of free text")
    if kind != "function":
        return dict(tool)  # one of Anthropic's own
    rest = {name: value for name, value in tool.items() if name not in ("type", "function")}
    function = mapping(tool.get("function"), f"{at}.function")
    return {**_function(function, f"{at}.function"), **rest}


def _function(function: Mapping[str, Any], at: str) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": text(function.get("name"), f"{at}.name")}
    if description := function.get("description"):
        tool["description"] = description
    parameters = function.get("parameters")
    tool["input_schema"] = {**_NO_ARGUMENTS, **mapping(parameters or {}, f"{at}.parameters")}
    if function.get("strict") is True:
        tool["strict"] = True
    return tool


def _tool_choice(given: Mapping[str, Any]) -> dict[str, Any]:
    """Anthropic's choice; empty when the client made none."""
    at = "tool_choice" if "tool_choice" in given else "function_call"
    choice = given.get(at)
    if choice is None:
        return {}
    if isinstance(choice, str):
        if choice not in _CHOICES:
            raise unfit(at, "must be none, auto, required or name a function")
        return {"type": _CHOICES[choice]}
    choice = mapping(choice, at)
    if at == "function_call":
        return {"type": "tool", "name": text(choice.get("name"), f"{at}.name")}
    if choice.get("type") == "function":
        function = mapping(choice.get("function"), f"{at}.function")
        return {"type": "tool", "name": text(function.get("name"), f"{at}.function.name")}
    if choice.get("type") in ("allowed_tools", "custom"):
        raise unfit(at, "cannot be translated to Anthropic's format")
    return dict(choice)


def _add_output(request: dict[str, Any], given: Mapping[str, Any]) -> None:
    at = "response_format"
    if at not in given:
        return
    wanted = mapping(given[at], at)
    if wanted.get("type") == "text":
        return
    if wanted.get("type") != "json_schema":
        raise unfit(at, "must be text or json_schema: Anthropic gives JSON by a schema only")
    schema = mapping(wanted.get("json_schema"), f"{at}.json_schema").get("schema")
    output = {"type": "json_schema", "schema": mapping(schema, f"{at}.json_schema.schema")}
    request["output_config"] = {**or_empty(request.get("output_config")), "format": output}


def _add_account(request: dict[str, Any], given: Mapping[str, Any]) -> None:
    user = given.get("safety_identifier") or given.get("user")
    user = user or or_empty(given.get("metadata")).get("user_id")
    if user:
        request["metadata"] = {"user_id": user}
    if tier := _SERVICE_TIERS.get(str(given.get("service_tier"))):
        request["service_tier"] = tier


def _add_thinking(
    request: dict[str, Any],
    given: Mapping[str, Any],
    conversation: Conversation,
    *,
    adaptive: bool,
) -> None:
    """Thinking by `reasoning_effort`, unless the client asks for it in Anthropic's words.

    It is left out where Anthropic refuses it: with a tool that must be called, after calls whose
    thinking the client did not keep, and where `max_tokens` is too small for it.
    """
    asked = given.get("reasoning_effort")
    if asked is None or "thinking" in request:
        return
    if asked == "none":
        if not adaptive:  # some of the others refuse the very word
            request["thinking"] = {"type": "disabled"}
        return
    if not isinstance(asked, str) or asked not in effort.BUDGET_TOKENS:
        words = ", ".join(effort.BUDGET_TOKENS)
        raise unfit("reasoning_effort", f"must be one of none, {words}")
    if adaptive:
        config = or_empty(request.get("output_config"))
        request["output_config"] = {"effort": effort.ADAPTIVE[asked], **config}
    forced = or_empty(request.get("tool_choice")).get("type") in ("any", "tool")
    if forced or conversation.waits_for_thinking:
        return
    if adaptive:
        request["thinking"] = {"type": "adaptive"}
    elif not _add_budget(request, given, asked):
        return
    # A model that thinks takes no sampling from outside.
    for name in _SAMPLING:
        request.pop(name, None)


def _add_budget(request: dict[str, Any], given: Mapping[str, Any], asked: str) -> bool:
    budget: int | None = effort.BUDGET_TOKENS[asked]
    if all(name not in given for name in _LIMITS):
        request["max_tokens"] += budget
    elif isinstance(limit := request["max_tokens"], int):
        budget = effort.budget_within(asked, limit)
    if budget is None:
        return False
    request["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return True
