"""What reaches the engine, and what never does."""

from typing import Any

import pytest

from local.calls import chat_call
from relay.errors import InvalidRequest
from relay.local.llama_request import EngineRequest, build, within
from relay.local.llama_schema import rule_of
from relay.schema import read_chat_request

CLOCK = {"type": "function", "function": {"name": "get_time"}}
FORM = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}


def asked(*, own_tools: bool = True, **fields: Any) -> EngineRequest:
    payload = chat_call(**fields).payload
    return build(read_chat_request(payload), payload, parallel=2, own_tools=own_tools)


def body(**fields: Any) -> dict[str, Any]:
    [ask] = asked(**fields).asks
    return ask.body


def test_samplers_pass_and_what_reaches_beyond_the_request_does_not() -> None:
    sent = body(top_k=5, id_slot=1, lora=[{}], n_predict=9, cache_prompt=False, user="x")
    assert sent["top_k"] == 5
    assert not {"id_slot", "lora", "n_predict", "user", "model"} & sent.keys()
    assert sent["cache_prompt"] is True


def test_null_is_the_same_as_not_there() -> None:
    names = ["temperature", "stop", "seed", "n", "tools", "max_tokens", "response_format"]
    assert body(**dict.fromkeys(names)) == body()


def test_a_seed_forgoes_the_cache_for_the_sake_of_the_same_answer() -> None:
    assert body(seed=3)["cache_prompt"] is False
    assert body(seed=3)["seed"] == 3


def test_one_stop_string_is_a_list_of_one() -> None:
    assert body(stop="a")["stop"] == ["a"]
    assert body(stop=["", "b"])["stop"] == ["b"]


def test_more_answers_than_places_are_made_in_rounds_each_with_a_seed_of_its_own() -> None:
    request = asked(n=5, seed=2**32 - 3)
    assert request.places == 2
    rounds = [(ask.first, ask.prompt, ask.body["n"], ask.body["seed"]) for ask in request.asks]
    assert rounds == [(0, 0, 2, 2**32 - 3), (2, 0, 2, 0), (4, 0, 1, 2)]


def test_the_smaller_limit_holds() -> None:
    assert [ask.body["max_tokens"] for ask in within(asked(max_tokens=9), 5).asks] == [5]
    assert [ask.body["max_tokens"] for ask in within(asked(max_tokens=3), 5).asks] == [3]
    assert [ask.body["max_tokens"] for ask in within(asked(), 5).asks] == [5]


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_object", "schema": {"type": "array"}}, {"type": "array"}),
        (FORM, {"type": "object"}),
    ],
)
def test_an_answer_in_json_is_held_to_a_grammar_without_white_space(
    form: dict[str, Any], schema: dict[str, Any]
) -> None:
    request = asked(response_format=form)
    assert request.rules == [rule_of("response_format", schema)]
    sent = request.asks[0].body
    assert "response_format" not in sent
    assert '"whitespace_flexible": false' in sent["grammar"]


def test_a_schema_may_come_as_llama_cpp_has_it() -> None:
    request = asked(json_schema={"type": "integer"})
    assert request.rules == [rule_of("json_schema", {"type": "integer"})]
    assert "json_schema" not in request.asks[0].body


def test_an_effort_is_told_to_the_template() -> None:
    sent = body(reasoning_effort="low", chat_template_kwargs={"a": 1})
    assert sent["chat_template_kwargs"] == {"reasoning_effort": "low", "a": 1}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"audio": {"voice": "ash"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"top_logprobs": 3, "logprobs": False}, "top_logprobs"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
        ({"json_schema": "x"}, "json_schema"),
        ({"chat_template_kwargs": "x", "reasoning_effort": "low"}, "chat_template_kwargs"),
        ({"grammar": "g", "response_format": FORM}, "grammar"),
        ({"grammar": "g", "json_schema": {}}, "grammar"),
        ({"grammar": "g", "tools": [CLOCK]}, "grammar"),
    ],
)
def test_what_would_be_ignored_and_matters_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(**fields)
    assert refused.value.param == param


def test_hints_are_taken_without_a_word() -> None:
    hints = {"store": True, "metadata": {"a": "b"}, "service_tier": "auto", "modalities": ["text"]}
    assert body(**hints) == body()


def test_tools_that_nobody_may_call_are_not_told() -> None:
    request = asked(tools=[CLOCK], tool_choice="none")
    assert request.tools is None
    assert request.asks[0].body == body()


def test_tools_may_be_left_to_the_chat_template() -> None:
    request = asked(own_tools=False, tools=[CLOCK], tool_choice="auto")
    assert request.tools is None
    assert request.asks[0].body["tools"] == [CLOCK]
    assert "grammar" not in request.asks[0].body


def test_an_answer_with_tools_may_still_have_to_be_json() -> None:
    request = asked(tools=[CLOCK], response_format=FORM)
    assert request.json_text
    assert [rule.param for rule in request.rules] == [
        "response_format",
        "tools[0].function.parameters",
        "tools",
    ]
    assert not asked(tools=[CLOCK], response_format=FORM, tool_choice="required").json_text
