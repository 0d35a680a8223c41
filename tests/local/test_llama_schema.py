"""JSON schemas as grammars take them: compact, and closed where that leaves something."""

import json
from typing import Any

import pytest

from relay.local.llama_schema import compact_json

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
