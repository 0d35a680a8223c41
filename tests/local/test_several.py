"""Several local models: who answers for which id."""

from typing import Any

import orjson
import pytest

from local.calls import body, chat_call, events, text
from relay.local import LocalBackend, open_locals
from relay.local.several import SeveralModels
from relay.settings import Settings, SettingsError
from relay.types import Call

MODELS = [
    {"id": "one", "backend": "echo", "options": {"words": 1}},
    {"id": "two", "backend": "echo", "options": {"words": 2}},
]


def several(**settings: Any) -> LocalBackend:
    return open_locals(Settings.model_validate({"local_models": MODELS, **settings}))


async def said(backend: LocalBackend, model: str) -> str:
    answer = await body(backend, chat_call("a b c", model=model))
    assert answer["model"] == model
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ("one", "a"),
        ("two", "a b"),
        ("gpt-4o", "a b"),
        ("gpt-4o-mini", "a"),
        ("vendor/big", "a b"),
        ("whatever", "a"),
    ],
)
async def test_an_id_leads_to_its_model_its_mapped_one_or_the_first(
    model: str, answer: str
) -> None:
    mapped = {"gpt-4o": "two", "gpt-*": "one", "vendor/*": "two"}
    assert await said(several(local_map=mapped), model) == answer


async def test_the_longest_pattern_wins() -> None:
    backend = several(local_map={"*": "one", "gpt-*": "two"})
    assert await said(backend, "gpt-4o") == "a b"
    assert await said(backend, "other") == "a"


async def test_the_model_of_relay_local_is_the_first() -> None:
    backend = several(local="echo")
    assert [card.id for card in backend.cards()] == ["echo", "one", "two"]
    assert await said(backend, "echo") == await said(backend, "other") == "a b c"
    assert text(await events(backend, chat_call("a b c", model="two"))) == "a b"
    backend.start()
    assert backend.state() == "ready"
    await backend.aclose()


async def test_what_was_passed_on_is_looked_into_for_its_model() -> None:
    backend = several()
    assert isinstance(backend, SeveralModels)
    request = chat_call("a b c", model="two").payload
    for payload, answer in ((request, "a b"), ({**request, "model": "one"}, "a")):
        call = Call(path="chat/completions", payload=payload)
        found = orjson.loads((await backend.complete(call)).body)
        assert found["choices"][0]["message"]["content"] == answer


def test_one_model_alone_is_just_that() -> None:
    assert not isinstance(open_locals(Settings(local="echo")), SeveralModels)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"local_map": {"gpt-4o": "three"}}, "RELAY_LOCAL_MAP: 'gpt-4o' is mapped to 'three'"),
        ({"local": "echo", "local_models": [MODELS[0] | {"id": "echo"}]}, "local_models[0].id"),
        ({"local_options": {"words": 1}}, "RELAY_LOCAL_OPTIONS: there is no model"),
        (
            {"local_models": [MODELS[0] | {"backend": "nothing"}]},
            "'local_models[0]' in relay.toml: there is no local backend 'nothing'",
        ),
        (
            {"local_models": [MODELS[0] | {"options": {"word": 1}}]},
            "'local_models[0]' in relay.toml: there is no option 'word'; did you mean words?",
        ),
        ({"local_models": [MODELS[0], MODELS[0]]}, "2 local models have the id 'one'"),
    ],
)
def test_what_does_not_fit_is_one_sentence(settings: dict[str, Any], said: str) -> None:
    with pytest.raises((SettingsError, ValueError)) as refused:
        several(**settings)
    assert said in str(refused.value)
