"""Anthropic's requests as chat completion requests, checked by the relay's own schema."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.dialects.messages_request import to_chat
from relay.errors import InvalidRequest
from relay.schema import read_chat_request

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
FIND = {"name": "find", "input_schema": SCHEMA}
FIND_THERE = {"type": "function", "function": {"name": "find", "parameters": SCHEMA}}


def request(**fields: object) -> dict:
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": "gpt", "max_tokens": 5, "messages": messages, **fields}


def translated(**fields: object) -> dict:
    """What becomes of those fields: everything but the model, the messages and the limit."""
    result = to_chat(request(**fields))
    read_chat_request(result)
    assert result.pop("model") == "gpt"
    assert result.pop("messages") == [{"role": "user", "content": "Hi"}]
    assert result.pop("max_completion_tokens") == 5
    return result


TABLE = {
    "nothing": ({}, {}),
    "sampling": (
        {"temperature": 0.5, "top_p": 0.9, "top_k": 5},
        {"temperature": 0.5, "top_p": 0.9},
    ),
    "stop": ({"stop_sequences": ["a", "b"]}, {"stop": ["a", "b"]}),
    "no stop": ({"stop_sequences": []}, {}),
    "stream": ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
    "no stream": ({"stream": False}, {"stream": False}),
    "user": ({"metadata": {"user_id": "u"}}, {"user": "u"}),
    "service tier": ({"service_tier": "standard_only"}, {"service_tier": "default"}),
    "nulls": ({"temperature": None, "system": None, "metadata": None}, {}),
    "what only Anthropic files": (
        {"cache_control": {"type": "ephemeral"}, "betas": ["x"], "inference_geo": "eu"},
        {},
    ),
    "fields that Anthropic does not have": ({"seed": 1, "min_p": 0.1}, {"seed": 1, "min_p": 0.1}),
    "tools": ({"tools": [FIND]}, {"tools": [FIND_THERE], "tool_choice": "auto"}),
    "a tool in full": (
        {
            "tools": [
                {
                    **FIND,
                    "type": "custom",
                    "description": "d",
                    "strict": True,
                    "cache_control": {"type": "ephemeral"},
                }
            ],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        },
        {
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "find",
                        "description": "d",
                        "parameters": SCHEMA,
                        "strict": True,
                    },
                }
            ],
            "tool_choice": "required",
            "parallel_tool_calls": False,
        },
    ),
    "a named tool": (
        {"tools": [FIND], "tool_choice": {"type": "tool", "name": "find"}},
        {
            "tools": [FIND_THERE],
            "tool_choice": {"type": "function", "function": {"name": "find"}},
        },
    ),
    "no tool": (
        {"tools": [FIND], "tool_choice": {"type": "none"}},
        {"tools": [FIND_THERE], "tool_choice": "none"},
    ),
    "a choice among nothing": ({"tools": [], "tool_choice": {"type": "auto"}}, {}),
    "a schema": (
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
            }
        },
    ),
    "a schema at its old place": (
        {"output_format": {"type": "json_schema", "schema": SCHEMA}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
            }
        },
    ),
    "a budget": (
        {"thinking": {"type": "enabled", "budget_tokens": 5000}},
        {"reasoning_effort": "medium"},
    ),
    "an effort": (
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
        {"reasoning_effort": "xhigh"},
    ),
    "thinking as the model likes": ({"thinking": {"type": "adaptive"}}, {}),
    "no thinking": ({"thinking": {"type": "disabled"}}, {}),
}


@pytest.mark.parametrize(("fields", "expected"), TABLE.values(), ids=TABLE.keys())
def test_fields_become_openais(fields, expected):
    assert translated(**fields) == expected


def test_the_system_prompt_comes_first():
    result = to_chat(request(system="Be brief."))
    assert result["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


def test_thinking_in_the_conversation_is_kept_on_demand():
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    messages = [{"role": "assistant", "content": [thought]}, {"role": "user", "content": "Hi"}]
    kept = to_chat(request(messages=messages), keep_thinking=True)
    assert kept["messages"][0]["reasoning_content"] == "Hm."
    assert "reasoning_content" not in to_chat(request(messages=messages))["messages"][0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": 1}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"system": 1}, "system"),
        ({"stop_sequences": "a"}, "stop_sequences"),
        ({"stop_sequences": ["a", 1]}, "stop_sequences[1]"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"container": "x"}, "container"),
        ({"tools": {}}, "tools"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [FIND], "tool_choice": "auto"}, "tool_choice"),
        ({"tools": [FIND], "tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tools": [FIND], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"output_config": 1}, "output_config"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_format": 1}, "output_format"),
        ({"thinking": 1}, "thinking"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ],
)
def test_what_only_anthropic_can_do_is_refused_by_name(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        to_chat(request(**fields))
    assert caught.value.param == param


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "name", "content", "role", "format"]), inner)
    ),
    max_leaves=8,
)
names = st.sampled_from(sorted({name for fields, _ in TABLE.values() for name in fields}))


@given(st.dictionaries(names | st.just("messages"), json_values))
def test_no_request_breaks_the_translation_but_by_an_error_for_the_client(fields):
    with suppress(InvalidRequest):
        to_chat(request(**fields))
