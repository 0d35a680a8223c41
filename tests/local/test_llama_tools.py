"""Tools for engines that know none: what is offered, told, and allowed as an answer."""

import json
from typing import Any

import pytest

from local.calls import chat_call
from relay.errors import InvalidRequest
from relay.local.llama_tools import Toolbox, as_text, read_tools
from relay.schema import read_chat_request

CLOCK = {"name": "get_time"}
WEATHER = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
TOOLS = [{"type": "function", "function": function} for function in (CLOCK, WEATHER)]
CALL = {"id": "a", "type": "function", "function": {"name": "get_time", "arguments": '{"tz":1}'}}


def offered(**fields: Any) -> Toolbox | None:
    return read_tools(read_chat_request(chat_call(**fields).payload))


@pytest.mark.parametrize(
    ("choice", "names", "forced"),
    [
        (None, ["get_time", "get_weather"], False),
        ("auto", ["get_time", "get_weather"], False),
        ("required", ["get_time", "get_weather"], True),
        ({"type": "function", "function": {"name": "get_weather"}}, ["get_weather"], True),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [TOOLS[1]]},
            },
            ["get_weather"],
            True,
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOLS[0]]}},
            ["get_time"],
            False,
        ),
    ],
)
def test_the_choice_says_which_may_and_whether_one_must_be_called(
    choice: Any, names: list[str], forced: bool
) -> None:
    toolbox = offered(tools=TOOLS, tool_choice=choice)
    assert toolbox is not None
    assert [function["name"] for function in toolbox.functions] == names
    assert toolbox.forced == forced


@pytest.mark.parametrize("fields", [{}, {"tools": []}, {"tools": TOOLS, "tool_choice": "none"}])
def test_nothing_is_offered_where_nothing_may_be_called(fields: dict[str, Any]) -> None:
    assert offered(**fields) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "often"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
            "tool_choice",
        ),
        ({"tools": [TOOLS[0], {"type": "custom", "custom": {"name": "x"}}]}, "tools[1]"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]},
            "tools[0].function.parameters",
        ),
    ],
)
def test_what_cannot_be_offered_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        offered(**fields)
    assert refused.value.param == param


def test_several_calls_are_for_those_who_ask_for_them() -> None:
    one, more = offered(tools=TOOLS), offered(tools=TOOLS, parallel_tool_calls=True)
    assert one is not None
    assert more is not None
    assert "{0,7}" not in one.grammar()
    assert "{0,7}" in more.grammar()


def test_free_answers_are_text_or_follow_their_schema() -> None:
    toolbox = Toolbox([CLOCK], forced=False, parallel=False)
    assert r"text: /[^{](.|\n)*/" in toolbox.grammar()
    assert "text: %json" in toolbox.grammar({"type": "object"})
    assert "text" not in Toolbox([CLOCK], forced=True, parallel=False).grammar()


def test_a_function_without_parameters_is_called_with_none() -> None:
    toolbox = Toolbox([CLOCK], forced=True, parallel=False)
    [parameters, whole] = toolbox.rules()
    assert parameters.param == "tools[0].function.parameters"
    assert '"additionalProperties": false' in parameters.grammar
    assert (whole.param, whole.grammar) == ("tools", toolbox.grammar())


def test_calls_are_tried_also_where_words_would_do() -> None:
    free, forced = (Toolbox([CLOCK], forced=forced, parallel=False) for forced in (False, True))
    assert free.rules() == forced.rules()


def test_functions_are_told_in_front_of_the_system_prompt() -> None:
    toolbox = Toolbox([CLOCK, WEATHER], forced=True, parallel=False)
    question = {"role": "user", "content": "Time?"}
    system, asked = toolbox.told([{"role": "system", "content": "Be brief."}, question])
    assert json.dumps(WEATHER) in system["content"]
    assert "must call" in system["content"]
    assert system["content"].endswith("\n\nBe brief.")
    assert asked == question
    assert [message["role"] for message in toolbox.told([question])] == ["system", "user"]


def test_old_calls_and_their_results_are_told_as_text() -> None:
    messages = [
        {"role": "user", "content": "Time?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
        {"role": "tool", "tool_call_id": "a", "content": "noon"},
        {"role": "tool", "tool_call_id": "a", "content": "midnight"},
    ]
    assert as_text(messages) == [
        messages[0],
        {
            "role": "assistant",
            "content": '{"tool_calls":[{"name":"get_time","arguments":{"tz":1}},'
            '{"name":"get_time","arguments":{"tz":1}}]}',
        },
        {"role": "user", "content": "Result: noon\n\nResult: midnight"},
    ]
    said = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
    [_, told, _] = as_text([messages[0], said, messages[2]])
    assert told["content"].startswith("Let me see.\n\n{")


def test_a_conversation_without_calls_is_left_alone() -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert as_text(messages) == messages
