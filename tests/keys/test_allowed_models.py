"""Which models a caller may use, and that a body cannot name two."""

import json
from typing import Any

import pytest

from relay.errors import InvalidRequest, ModelNotAllowed
from relay.keys import allows, check_model
from relay.types import Call, Identity

ONE = Identity("one", models=(("gpt-small", "vendor/*"),))


@pytest.mark.parametrize(
    ("lists", "model", "allowed"),
    [
        ((), "m", True),
        ((), "", True),
        ((("m",),), "m", True),
        ((("m",),), "n", False),
        ((("m",),), "", False),
        ((("*",),), "", True),
        ((("vendor/*",),), "vendor/x", True),
        ((("vendor/*",),), "vendor", False),
        ((("m?", "[m]"),), "m", False),
        ((("m?",),), "m?", True),
        ((("a", "b"), ("b", "c")), "b", True),
        ((("a", "b"), ("b", "c")), "a", False),
        (((),), "m", False),
    ],
)
def test_every_list_has_to_allow_it(
    lists: tuple[tuple[str, ...], ...], model: str, allowed: bool
) -> None:
    assert allows(Identity("x", models=lists), model) is allowed


def check(payload: dict[str, Any], body: bytes | None = None) -> None:
    body = json.dumps(payload).encode() if body is None else body
    check_model(Call("chat/completions", body, payload, payload.get("model", ""), identity=ONE))


def test_a_model_of_the_list_passes_whatever_else_the_body_speaks_of() -> None:
    check({"model": "gpt-small", "messages": [{"role": "user", "content": 'what is a "model"?'}]})
    about = {"type": "function", "function": {"parameters": {"properties": {"model": {}}}}}
    check({"model": "gpt-small", "tools": [about, {"type": "x", "model": None}], "x": "\u0064"})
    check({"model": "gpt-small", "tools": {"a": "model"}, "y": {"Model": 1, "models": 2}})
    check({"model": "gpt-small", "tools": [{"type": "image_generation", "model": "vendor/x"}, 7]})
    check({"model": "vendor/x", "models": ["gpt-small", "vendor/y"], "fallbacks": None})


FORM = b"""--b\r
Content-Disposition: form-data; name="model"\r
\r
gpt-small\r
--b\r
%s\r
\r
big\r
--b--\r
"""


@pytest.mark.parametrize(
    ("head", "clear"),
    [
        (b'Content-Disposition: form-data; name="file"; filename="a.wav"', True),
        (b'content-disposition: form-data; name="timestamps[]"', True),
        (b'Content-Disposition: form-data; name="Model"', False),
        (b'Content-Disposition: form-data; name="models[]"', False),
        (b'Content-Disposition: form-data; name="fallbacks"', False),
        (b'Content-Disposition: form-data; name="model"; x=y', False),
        (b'Content-Disposition: form-data; name="mo\\del"', False),
        (b'Content-Disposition: form-data; name="%6dodel"', False),
        (b"Content-Disposition: form-data; name*=utf-8''model", False),
        (b'Content-Disposition: form-data; x="\n"; name="model"', False),
        (b'Content-Disposition : form-data; name="model"', False),
        (b'Content-Disposition: form-data;\r\n name="model"', False),
    ],
)
def test_a_form_names_one_model_in_the_way_that_clients_write_it(head: bytes, clear: bool) -> None:
    call = Call("audio/transcriptions", FORM % head, model="gpt-small", identity=ONE)
    if clear:
        check_model(call)
        return
    with pytest.raises(InvalidRequest):
        check_model(call)


def test_whoever_may_use_all_models_need_not_show_which() -> None:
    check_model(Call("files", method="GET", identity=Identity("all", models=(("*",),))))


@pytest.mark.parametrize(
    "payload",
    [
        {"model": "big"},
        {},
        {"model": "gpt-small", "models": ["big"]},
        {"model": "gpt-small", "models": "big"},
        {"model": "gpt-small", "fallbacks": [{"model": "big"}]},
        {"model": "gpt-small", "tools": [{"type": "image_generation", "model": "big"}]},
    ],
)
def test_another_one_does_not(payload: dict[str, Any]) -> None:
    with pytest.raises(ModelNotAllowed) as refused:
        check(payload)
    assert refused.value.param == "model"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "big", "model": "gpt-small"}',
        b'{"Model": "big", "model": "gpt-small"}',
        b'{"\\u006dodel": "big", "model": "gpt-small"}',
        b'{"\\u004DODEL": "big", "model": "gpt-small"}',
        b'{"model": "gpt-small", "models": ["big"], "models": []}',
        b'{"model": "gpt-small", "Models": ["big"]}',
        b'{"model": "gpt-small", "fallbac\xe2\x84\xaas": ["big"]}',
        b'{"model": "gpt-small", "model\\u017F": ["big"]}',
        b'{"model": "gpt-small", "tool\\u0073": [{"model": "big"}], "tools": []}',
        b'{"model": "gpt-small", "tools": [{"model": "big", "model": "gpt-small"}]}',
        b'{"model": "gpt-small", "tools": [{"Model": "big"}]}',
        b'{"model": "gpt-small", "x": ' + b"[" * 100_000 + b'"model"' + b"]" * 100_000 + b"}",
    ],
)
def test_a_body_that_parsers_could_read_in_two_ways_does_not(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        check({"model": "gpt-small"}, body)


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        ("beta=true", True),
        ("model=gpt-small&x=big", True),
        ("model=big", False),
        ("x=1&Models[]=big", False),
        ("%6dodel=big", False),
        ("model=gpt-small&model=big", False),
        ("deployment=big", False),
        ("model=", False),
    ],
)
def test_a_query_names_no_other_one(query: str, allowed: bool) -> None:
    payload = {"model": "gpt-small"}
    call = Call(
        f"messages?{query}", json.dumps(payload).encode(), payload, "gpt-small", identity=ONE
    )
    if allowed:
        check_model(call)
        return
    with pytest.raises(ModelNotAllowed):
        check_model(call)
