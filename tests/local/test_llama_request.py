"""What reaches the engine, and what never does."""

from typing import Any

import pytest

from local.calls import chat_call
from relay.errors import InvalidRequest
from relay.local.llama_request import EngineRequest, build
from relay.schema import read_chat_request

CLOCK = {"type": "function", "function": {"name": "get_time"}}


def built(**fields: Any) -> EngineRequest:
    payload = chat_call(**fields).payload
    return build(read_chat_request(payload), payload, parallel=2)


def test_samplers_pass_and_what_reaches_beyond_the_request_does_not() -> None:
    body = built(top_k=5, id_slot=1, lora=[{}], n_predict=9, cache_prompt=False, user="x").body
    assert body["top_k"] == 5
    assert not {"id_slot", "lora", "n_predict", "user", "model"} & body.keys()
    assert body["cache_prompt"] is True


def test_null_is_the_same_as_not_there() -> None:
    nothing = dict.fromkeys(["temperature", "stop", "seed", "n", "tools", "max_tokens"])
    assert built(**nothing).body == built().body


def test_a_seed_forgoes_the_cache_for_the_sake_of_the_same_answer() -> None:
    assert built(seed=3).body["cache_prompt"] is False
    assert built(seed=3).body["seed"] == 3


def test_one_stop_string_is_a_list_of_one() -> None:
    assert built(stop="a").body["stop"] == ["a"]
    assert built(stop=["", "b"]).body["stop"] == ["b"]


@pytest.mark.parametrize("choice", ["auto", "none", None])
def test_tools_that_are_not_demanded_are_the_engines_business(choice: str | None) -> None:
    asked = built(tools=[CLOCK], tool_choice=choice)
    assert not asked.tools_forced
    assert asked.body["tools"] == [CLOCK]


def test_a_demanded_tool_is_asked_for_as_json_and_told_in_the_system_prompt() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Time?"},
    ]
    asked = built(messages=messages, tools=[CLOCK, CLOCK], tool_choice="required")
    assert asked.tools_forced
    assert "tools" not in asked.body
    schemas = asked.body["response_format"]["json_schema"]["schema"]["anyOf"]
    assert [schema["properties"]["name"] for schema in schemas] == [{"const": "get_time"}] * 2
    system, question = asked.body["messages"]
    assert "get_time" in system["content"]
    assert system["content"].endswith("\n\nBe brief.")
    assert question == messages[1]


def test_without_tools_nothing_can_be_demanded() -> None:
    assert not built(tool_choice="required").tools_forced
    with pytest.raises(InvalidRequest) as refused:
        built(tool_choice={"type": "function"}, tools=[CLOCK, {"type": "custom"}])
    assert refused.value.param == "tool_choice"
