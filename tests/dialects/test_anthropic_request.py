"""Chat completion requests as Anthropic's."""

from contextlib import suppress
from typing import get_type_hints

import pytest
from dialects.shapes import MessagesRequest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming

from relay.dialects.anthropic_request import (
    DEFAULT_MAX_TOKENS,
    PATH,
    VERSION,
    credentials,
    to_messages,
    wants_usage,
)
from relay.errors import InvalidRequest

PARAMETERS = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
FIND = {"type": "function", "function": {"name": "find", "parameters": PARAMETERS}}
FIND_THERE = {"name": "find", "input_schema": PARAMETERS}
CALL = {"id": "1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
SCHEMA = {"type": "object", "additionalProperties": False}


def request(**fields: object) -> dict:
    return {"model": "claude", "messages": [{"role": "user", "content": "Hi"}], **fields}


def translated(**fields: object) -> dict:
    """What becomes of those fields: everything but the model and the messages."""
    result = to_messages(request(**fields))
    MessagesRequest.model_validate(result)
    assert result.pop("model") == "claude"
    assert result.pop("messages") == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    if result["max_tokens"] == DEFAULT_MAX_TOKENS:
        del result["max_tokens"]
    return result


TABLE = {
    "nothing": ({}, {}),
    "max_tokens": ({"max_tokens": 5}, {"max_tokens": 5}),
    "the newer limit wins": ({"max_tokens": 5, "max_completion_tokens": 6}, {"max_tokens": 6}),
    "temperature": ({"temperature": 0.3}, {"temperature": 0.3}),
    "a temperature above what is allowed": ({"temperature": 1.7}, {}),
    "the default temperature": ({"temperature": 1}, {}),
    "a temperature that is no number": ({"temperature": "warm"}, {}),
    "top_p": ({"top_p": 0.5}, {"top_p": 0.5}),
    "top_p that does nothing": ({"top_p": 1}, {}),
    "stop": ({"stop": "END"}, {"stop_sequences": ["END"]}),
    "stops": ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
    "stream": (
        {"stream": True, "stream_options": {"include_usage": True}},
        {"stream": True},
    ),
    "user": ({"user": "u"}, {"metadata": {"user_id": "u"}}),
    "safety_identifier": (
        {"user": "u", "safety_identifier": "s"},
        {"metadata": {"user_id": "s"}},
    ),
    "metadata": ({"metadata": {"topic": "x"}}, {}),
    "metadata of Anthropic's": (
        {"metadata": {"user_id": "m", "topic": "x"}},
        {"metadata": {"user_id": "m"}},
    ),
    "nulls": ({"temperature": None, "tools": None, "stop": None, "n": None, "top_k": None}, {}),
    "tuning": (
        {
            "seed": 1,
            "presence_penalty": 1,
            "frequency_penalty": 1,
            "logit_bias": {"1": 1},
            "n": 1,
            "logprobs": False,
            "top_logprobs": 0,
            "modalities": ["text"],
            "store": True,
            "verbosity": "low",
            "prediction": {},
            "prompt_cache_key": "x",
        },
        {},
    ),
    "service tier": ({"service_tier": "default"}, {"service_tier": "standard_only"}),
    "a service tier that is not there": ({"service_tier": "flex"}, {}),
    "fields that OpenAI does not have": (
        {"top_k": 5, "thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000},
        {"top_k": 5, "thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000},
    ),
    "thinking without a limit": (
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        {
            "thinking": {"type": "enabled", "budget_tokens": 2000},
            "max_tokens": DEFAULT_MAX_TOKENS + 2000,
        },
    ),
    "tools": ({"tools": [FIND]}, {"tools": [FIND_THERE]}),
    "a tool in full": (
        {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "f", "description": "d", "strict": True},
                    "cache_control": {"type": "ephemeral"},
                }
            ]
        },
        {
            "tools": [
                {
                    "name": "f",
                    "description": "d",
                    "input_schema": {"type": "object", "properties": {}},
                    "strict": True,
                    "cache_control": {"type": "ephemeral"},
                }
            ]
        },
    ),
    "functions": (
        {"functions": [FIND["function"]], "function_call": {"name": "find"}},
        {"tools": [FIND_THERE], "tool_choice": {"type": "tool", "name": "find"}},
    ),
    "auto": (
        {"tools": [FIND], "tool_choice": "auto"},
        {"tools": [FIND_THERE], "tool_choice": {"type": "auto"}},
    ),
    "none": (
        {"tools": [FIND], "tool_choice": "none", "parallel_tool_calls": False},
        {"tools": [FIND_THERE], "tool_choice": {"type": "none"}},
    ),
    "required, one at a time": (
        {"tools": [FIND], "tool_choice": "required", "parallel_tool_calls": False},
        {
            "tools": [FIND_THERE],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        },
    ),
    "one at a time": (
        {"tools": [FIND], "parallel_tool_calls": False},
        {
            "tools": [FIND_THERE],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        },
    ),
    "named": (
        {
            "tools": [FIND],
            "tool_choice": {"type": "function", "function": {"name": "find"}},
            "parallel_tool_calls": True,
        },
        {"tools": [FIND_THERE], "tool_choice": {"type": "tool", "name": "find"}},
    ),
    "a choice in Anthropic's words": (
        {"tools": [FIND], "tool_choice": {"type": "any"}},
        {"tools": [FIND_THERE], "tool_choice": {"type": "any"}},
    ),
    "a choice among nothing": ({"tools": [], "tool_choice": "auto"}, {}),
    "a schema": (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
            }
        },
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
    "text": ({"response_format": {"type": "text"}}, {}),
    "no effort": ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
    "effort": (
        {"reasoning_effort": "medium", "temperature": 0.3, "top_p": 0.9, "top_k": 5},
        {
            "thinking": {"type": "enabled", "budget_tokens": 8192},
            "max_tokens": DEFAULT_MAX_TOKENS + 8192,
        },
    ),
    "effort within a limit": (
        {"reasoning_effort": "high", "max_completion_tokens": 10_000},
        {"thinking": {"type": "enabled", "budget_tokens": 5000}, "max_tokens": 10_000},
    ),
    "effort beyond a limit": (
        {"reasoning_effort": "high", "max_tokens": 100, "temperature": 0.5},
        {"max_tokens": 100, "temperature": 0.5},
    ),
    "effort, and a tool that must be called": (
        {"reasoning_effort": "high", "tools": [FIND], "tool_choice": "required"},
        {"tools": [FIND_THERE], "tool_choice": {"type": "any"}},
    ),
    "effort, and thinking in Anthropic's words": (
        {"reasoning_effort": "high", "thinking": {"type": "disabled"}},
        {"thinking": {"type": "disabled"}},
    ),
}


@pytest.mark.parametrize(("fields", "expected"), TABLE.values(), ids=TABLE.keys())
def test_fields_become_anthropics(fields, expected):
    assert translated(**fields) == expected


def test_a_tool_of_anthropics_own_and_an_unknown_field_travel_as_they_are():
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 1}
    result = to_messages(request(tools=[search], context_management={"edits": []}))
    assert result["tools"] == [search]
    assert result["context_management"] == {"edits": []}


def test_a_model_that_sets_its_budget_is_told_the_effort():
    fields = {"reasoning_effort": "minimal", "temperature": 0.5}
    result = to_messages(request(**fields), adaptive=True)
    assert result["thinking"] == {"type": "adaptive"}
    assert result["output_config"] == {"effort": "low"}
    assert "temperature" not in result
    assert to_messages(request(**fields) | {"model": "claude-opus-5"})["thinking"] == {
        "type": "adaptive"
    }
    assert "thinking" not in to_messages(request(reasoning_effort="none"), adaptive=True)
    forced = {"tools": [FIND], "tool_choice": "required"}
    result = to_messages(request(**fields, **forced), adaptive=True)
    assert "thinking" not in result
    assert result["output_config"] == {"effort": "low"}


def test_a_model_that_sets_its_budget_takes_no_sampling_without_thinking_either():
    result = to_messages(request(temperature=0.5, top_p=0.5, top_k=5), adaptive=True)
    assert result.keys() == {"model", "messages", "max_tokens"}


def test_every_field_of_openais_is_translated_left_out_or_refused():
    fields = get_type_hints(CompletionCreateParamsNonStreaming)
    assert len(fields) > 30
    for name in fields.keys() - {"messages", "model", "stream", "max_tokens"}:
        with suppress(InvalidRequest):
            assert to_messages(request(**{name: "x"})).get(name) != "x"


def test_anthropic_is_asked_for_the_key_in_its_own_header():
    assert credentials("secret") == (b"x-api-key", b"secret")
    assert PATH == "messages"
    assert VERSION == (b"anthropic-version", b"2023-06-01")


def test_a_model_does_not_go_on_thinking_after_calls_whose_thoughts_are_lost():
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    answer = {"role": "assistant", "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "1", "content": "x"}
    question = {"role": "user", "content": "Hi"}

    def thinking(*messages: dict) -> bool:
        asked = {"model": "claude", "messages": list(messages), "reasoning_effort": "low"}
        return "thinking" in to_messages(asked)

    assert thinking(question)
    assert not thinking(question, answer, result)
    assert thinking(question, {**answer, "thinking_blocks": [thought]}, result)
    assert thinking(question, answer, result, {"role": "assistant", "content": "x"}, question)


def test_the_system_prompt_stands_apart():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    result = to_messages({"model": "claude", "messages": messages})
    MessagesRequest.model_validate(result)
    assert result["system"] == [{"type": "text", "text": "Be brief."}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"stop": "\n"}, "stop"),
        ({"stop": ["a", " "]}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"stop": 1}, "stop"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"tools": "x"}, "tools"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [FIND, {"type": "function", "function": {}}]}, "tools[1].function.name"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        (
            {"tools": [{"type": "function", "function": {"name": "x", "parameters": "y"}}]},
            "tools[0].function.parameters",
        ),
        ({"functions": [{}]}, "functions[0].name"),
        ({"tools": [FIND], "tool_choice": "some"}, "tool_choice"),
        ({"tools": [FIND], "tool_choice": 1}, "tool_choice"),
        ({"tools": [FIND], "tool_choice": {"type": "function"}}, "tool_choice.function"),
        (
            {"tools": [FIND], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
            "tool_choice",
        ),
        ({"tools": [FIND], "function_call": {}}, "function_call.name"),
        ({"messages": None}, "messages"),
    ],
)
def test_what_anthropic_cannot_do_is_refused_by_name(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        to_messages(request(**fields))
    assert caught.value.param == param


@pytest.mark.parametrize("limit", ["many", 1.5])
def test_a_limit_that_is_no_number_is_left_to_anthropic_to_refuse(limit):
    result = to_messages(request(max_tokens=limit, reasoning_effort="low"))
    assert result["max_tokens"] == limit


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({"include_usage": True}, True), ({"include_usage": False}, False), (None, False), (1, False)],
)
def test_usage_is_wanted_when_it_was_asked_for(options, wanted):
    assert wants_usage(request(stream_options=options)) is wanted


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
names = st.sampled_from(sorted({name for fields, _ in TABLE.values() for name in fields}))


@given(st.dictionaries(names, json))
def test_no_payload_breaks_the_translation_but_by_an_error_for_the_client(fields):
    with suppress(InvalidRequest):
        to_messages(request(**fields))
