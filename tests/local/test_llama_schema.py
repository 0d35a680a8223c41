"""JSON schemas as grammars take them: compact, and closed where that leaves something."""

import json
import time
from typing import Any

import pytest

from relay.errors import InvalidRequest
from relay.local.llama_schema import compact_json, rule_of

TEXT = {"type": "string"}
CLOSED = {"additionalProperties": False}


def written(schema: Any) -> Any:
    word, _, rules = compact_json(schema).partition(" ")
    assert word == "%json"
    read = json.loads(rules)
    assert read.pop("x-guidance") == {"whitespace_flexible": False}
    return read


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"properties": {"a": TEXT}, "additionalProperties": True},
        {"properties": {"a": TEXT}, "patternProperties": {"^x": TEXT}},
        {"properties": {"a": TEXT}, "anyOf": [{"properties": {"b": TEXT}}]},
        {"allOf": [{"properties": {"a": TEXT}}, {"properties": {"b": TEXT}}]},
        {"const": {"properties": {"a": 1}}},
        {"enum": [{"properties": {"a": 1}}]},
    ],
)
def test_what_may_be_more_than_its_properties_stays_open(schema: dict[str, Any]) -> None:
    assert written(schema) == schema


def test_objects_that_say_nothing_of_more_properties_have_none_at_every_depth() -> None:
    inner = {"type": "object", "properties": {"a": TEXT}}
    schema = {
        "properties": {"list": {"type": "array", "items": inner}, "default": inner},
        "$defs": {"d": inner},
    }
    closed = inner | CLOSED
    assert written(schema) == CLOSED | {
        "properties": {"list": {"type": "array", "items": closed}, "default": closed},
        "$defs": {"d": closed},
    }
    assert written({"anyOf": [inner, TEXT]}) == {"anyOf": [closed, TEXT]}


def test_a_schema_that_allows_anything_is_an_empty_one() -> None:
    assert written(True) == {}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def test_remarks_that_the_engine_gives_up_at_are_left_out() -> None:
    schema = {
        "properties": {
            "url": {"type": "string", "format": "uri"},
            "day": {"type": "string", "format": "date"},
            "format": TEXT,
            "list": {"type": "array", "uniqueItems": False, "default": {"format": "uri"}},
        },
        "anyOf": [{"properties": {"key": {"format": "password"}}}],
    }
    assert written(schema) == {
        "properties": {
            "url": TEXT,
            "day": {"type": "string", "format": "date"},
            "format": TEXT,
            "list": {"type": "array", "default": {"format": "uri"}},
        },
        "anyOf": [{"properties": {"key": {}}}],
    }


def test_each_level_costs_as_much_as_the_one_before() -> None:
    began = time.perf_counter()
    rule_of("response_format", nested(60))
    assert time.perf_counter() - began < 1  # with twice as much it would be 30,000 years


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (nested(100), "nested too deeply"),
        (nested(50_000), "nested too deeply"),
        ({"enum": [f"value {number}" for number in range(10_000)]}, "characters, of at most"),
        ({"type": "array", "items": TEXT, "maxItems": 100_000}, "100000 is more than"),
    ],
)
def test_what_is_too_large_for_the_engine_is_not_given_to_it(schema: Any, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        rule_of("response_format", schema)
    assert refused.value.param == "response_format"


def test_a_refusal_names_what_answers_cannot_be_held_to() -> None:
    sets = {"type": "array", "uniqueItems": True, "items": {"not": {"type": "integer"}}}
    assert rule_of("tools", sets).refusal.endswith("held to its not, uniqueItems.")
    assert "a pattern or a $ref" in rule_of("tools", TEXT).refusal
