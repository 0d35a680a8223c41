"""JSON as real servers write it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.dialects import json_text

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "\\ud83d"}', {"a": "\ud83d"}),
        ('{"a": "Köln"}', {"a": "Köln"}),
    ],
)
def test_what_is_read_is_written_again(text, value):
    assert json_text.load(text) == value
    assert json_text.load(json_text.dump(value)) == value


def test_an_integer_of_any_size_is_written():
    assert json_text.dump({"a": 2**70}) == b'{"a":1180591620717411303424}'


@pytest.mark.parametrize("text", ["", "{", "nul", DEEP, "\xff"])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        json_text.load(text)


@pytest.mark.parametrize("text", ["[]", "1", "null", '"{}"'])
def test_an_object_is_not_just_any_json(text):
    with pytest.raises(ValueError, match="object"):
        json_text.load_object(text)


def test_a_value_that_is_too_deep_to_write_is_a_value_error():
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="deep"):
        json_text.dump(value)


@given(st.recursive(st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(), st.lists))
def test_any_json_comes_back(value):
    assert json_text.load(json_text.dump(value)) == value
