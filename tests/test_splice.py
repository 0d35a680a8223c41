"""One value changes; every other character stays."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import splice

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)
SPELLINGS = st.sampled_from([None, 1, "\t"]), st.booleans()


def test_a_value_is_replaced_and_its_surroundings_keep_their_spelling() -> None:
    text = '{ "n": 1.50E+2,\n\t"model" : "old", "s": "\\u00e9\\/", "a": [1 , 2], "model ": 0 }'
    place = splice.members(text)["model"]
    changed = splice.replace(text, [(place, splice.dump("new"))])
    assert changed == text.replace('"old"', '"new"').encode()


def test_of_two_members_of_one_name_the_last_is_meant() -> None:
    text = '{"model": "a", "x": {"model": "b"}, "model": "c"}'
    start, end = splice.members(text)["model"]
    assert text[start:end] == '"c"'


def test_an_escaped_name_is_the_same_name() -> None:
    assert list(splice.members('{"mod\\u0065l": 1}')) == ["model"]


def test_the_empty_ones() -> None:
    assert splice.members(" { } ") == {}
    assert splice.elements(" [ ] ") == []
    assert splice.replace("", []) == b""


def test_elements_keep_their_spelling_when_they_are_regrouped() -> None:
    text = '{"messages": [ {"a":1.0} ,{"b" : "\\u00e9"}, 3e2 ]}'
    place = splice.members(text)["messages"]
    assert splice.regroup(text, place, [2, {"new": "é"}, 0]) == '[3e2,{"new":"é"},{"a":1.0}]'


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ('{ "a" : 1.0 }', '{ "a" : 1.0 , "o": {"u":true}}'),
        ("{}", '{"o": {"u":true}}'),
        ('{"o": null, "a": 1e0}', '{"o": {"u":true}, "a": 1e0}'),
        ('{"o": {}, "a": 1}', '{"o": {"u": true}, "a": 1}'),
        ('{"o": { "k": 1.50 , "u" : false }}', '{"o": { "k": 1.50 , "u" : true }}'),
        ('{"o": {"u": true}}', '{"o": {"u": true}}'),
    ],
)
def test_a_member_is_set_in_its_place_or_becomes_the_last(text: str, changed: str) -> None:
    wanted = {**(json.loads(text).get("o") or {}), "u": True}
    edit = splice.member(text, splice.members(text), "o", wanted)
    assert splice.replace(text, [edit]).decode() == changed


def test_a_lone_surrogate_is_escaped_and_other_text_is_not() -> None:
    assert splice.dump("é\ud800") == '"\\u00e9\\ud800"'
    assert splice.dump("é") == '"é"'


@given(
    value=st.dictionaries(st.text(max_size=6), JSON, max_size=4),
    indent=SPELLINGS[0],
    ascii_=SPELLINGS[1],
)
def test_every_member_is_found_where_it_stands(
    value: dict[str, Any], indent: Any, ascii_: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_)
    places = splice.members(text)
    assert list(places) == list(value)
    for name, (start, end) in places.items():
        assert json.loads(text[start:end]) == value[name]


@given(value=st.lists(JSON, max_size=5), indent=SPELLINGS[0])
def test_every_element_is_found_where_it_stands(value: list[Any], indent: Any) -> None:
    text = json.dumps(value, indent=indent)
    found = [json.loads(text[start:end]) for start, end in splice.elements(text)]
    assert found == value
