"""Tools for models whose engine does not see to them: told in the prompt, held to by a grammar.

    auto        {"tool_calls":[CALL,...]}  or text that does not begin with a brace
    required    {"tool_calls":[CALL,...]}
    CALL        {"name":"NAME","arguments":JSON that follows the function's schema}

One call, unless `parallel_tool_calls` is true. What the model has called before, and what came of
it, is put into the conversation in the same form, as few chat templates know tools.

Source: llguidance's Lark-like grammars, which the engine takes; OpenAI's `tools`, `tool_choice`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from relay import history
from relay.errors import InvalidRequest
from relay.history import BLANK_LINE, text_of
from relay.local.llama_schema import Rule, compact_json, rule_of
from relay.schema import ChatCompletionRequest

MOST_CALLS = 8
"""Calls in one answer; a small model would go on for ever."""

OPENING = '{"tool_calls":['

_ASKED = (
    "You can call these functions, given as JSON:\n{functions}\n\n"
    "To call, answer with nothing but JSON of this form: "
    '{{"tool_calls":[{{"name":"NAME","arguments":{{...}}}}]}}'
)
_FORCED = " You must call a function now."
_FREE = " If none is needed, answer in words."


_ANSWERS = ("tool", "function")
"""Roles of what came of a call."""


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The functions that a request offers. `forced`: one of them has to be called."""

    functions: Sequence[Mapping[str, Any]]
    forced: bool
    parallel: bool

    def rules(self) -> list[Rule]:
        """What arguments have to follow, each function's and all together.

        Raises:
            InvalidRequest: a schema is too large for the engine.
        """
        rules = [
            rule_of(f"tools[{place}].function.parameters", _parameters(function))
            for place, function in enumerate(self.functions)
        ]
        # An answer in words may begin with anything, so it is the demanded calls that are tried.
        whole = replace(self, forced=True).grammar()
        return [*rules, Rule("tools", whole, "The local model cannot be held to so many tools.")]

    def grammar(self, answer: Any = None) -> str:
        """What an answer may be; `answer` is a schema that its text has to follow."""
        more = f'("," call){{0,{MOST_CALLS - 1}}} ' if self.parallel else ""
        lines = [
            "%llguidance {}",
            "start: calls" if self.forced else "start: calls | text",
            f"calls: {json.dumps(OPENING)} call {more}{json.dumps(']}')}",
            "call: " + " | ".join(f"call_{place}" for place in range(len(self.functions))),
        ]
        for place, function in enumerate(self.functions):
            before = f'{{"name":{json.dumps(function["name"])},"arguments":'
            lines += [
                f"call_{place}: {json.dumps(before)} arguments_{place} {json.dumps('}')}",
                f"arguments_{place}: {compact_json(_parameters(function))}",
            ]
        if not self.forced:
            text = r"/[^{](.|\n)*/" if answer is None else compact_json(answer)
            lines.append(f"text: {text}")
        return "\n".join(lines) + "\n"

    def told(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The conversation with the functions in its system prompt, and old calls as text."""
        functions = "\n".join(json.dumps(one, ensure_ascii=False) for one in self.functions)
        told = _ASKED.format(functions=functions) + (_FORCED if self.forced else _FREE)
        first, *rest = messages
        if first["role"] in ("system", "developer"):
            told += BLANK_LINE + text_of(first.get("content"))
        else:
            rest = list(messages)
        return [{"role": "system", "content": told}, *as_text(rest)]


def as_text(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages with calls, and what came of them, as text; results in a row are one message."""
    told = [_as_text(message) for message in messages]
    if not any(message["role"] in _ANSWERS or message.get("tool_calls") for message in messages):
        return told
    return history.apply(told, "normalize") or told


def read_tools(request: ChatCompletionRequest) -> Toolbox | None:
    """What a request offers; None when it offers nothing, or forbids to call it.

    Raises:
        InvalidRequest: there is a tool that is no function, or the choice is none of them.
    """
    choice = request.tool_choice
    functions = [
        _function(tool, f"tools[{place}]") for place, tool in enumerate(request.tools or ())
    ]
    if choice == "none" or not functions:
        if choice in (None, "none", "auto"):
            return None
        raise InvalidRequest("'tool_choice' needs tools, and there are none.", param="tool_choice")
    parallel = request.parallel_tool_calls is True
    if choice is None or isinstance(choice, str):
        if choice not in (None, "auto", "required"):
            raise InvalidRequest(
                f"'tool_choice' is none, auto, required or a function, and not '{choice}'.",
                param="tool_choice",
            )
        return Toolbox(functions, forced=choice == "required", parallel=parallel)
    allowed = choice.get("allowed_tools") if choice.get("type") == "allowed_tools" else None
    if isinstance(allowed, dict):
        named = [_chosen(tool, functions) for tool in allowed.get("tools") or ()]
        if not named:
            raise InvalidRequest("'tool_choice' allows no tool.", param="tool_choice")
        return Toolbox(named, forced=allowed.get("mode") == "required", parallel=parallel)
    return Toolbox([_chosen(choice, functions)], forced=True, parallel=False)


def _function(tool: dict[str, Any], param: str) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest(
            "Local models call functions: a tool is {'type': 'function', 'function': {'name': …}}.",
            param=param,
        )
    if not isinstance(function.get("parameters") or {}, dict):
        raise InvalidRequest(
            "The parameters of a function are a JSON schema.", param=f"{param}.function.parameters"
        )
    return function


def _chosen(choice: object, functions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    named = choice.get("function") if isinstance(choice, dict) else None
    name = named.get("name") if isinstance(named, dict) else None
    for function in functions:
        if function["name"] == name:
            return function
    raise InvalidRequest(
        f"'tool_choice' names '{name}', which is none of the tools.", param="tool_choice"
    )


def _parameters(function: Mapping[str, Any]) -> Any:
    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    return function.get("parameters") or nothing


def _as_text(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if message["role"] == "assistant" and calls:
        said = text_of(message.get("content"))
        made = OPENING + ",".join(_call_text(call) for call in calls) + "]}"
        return {"role": "assistant", "content": said + BLANK_LINE + made if said else made}
    if message["role"] in _ANSWERS:
        # As the user's: templates that know no tools know no such role either.
        return {"role": "user", "content": "Result: " + text_of(message.get("content"))}
    return dict(message)


def _call_text(call: Mapping[str, Any]) -> str:
    function = call.get("function") or {}
    name = json.dumps(function.get("name"), ensure_ascii=False)
    return f'{{"name":{name},"arguments":{function.get("arguments") or "{}"}}}'
