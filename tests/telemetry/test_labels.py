"""Which names become labels."""

import pytest

from relay.settings import Settings
from relay.telemetry.labels import MAX_LEARNED, OTHER, ModelNames, path_class

MODELS = [
    {
        "id": "fast",
        "aliases": ["quick"],
        "targets": [{"upstream": "a", "model": "gpt-x"}],
        "fallback": [{"local": True, "model": "small"}],
    }
]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/audio/speech", "/v1/audio"),
        ("/v1/models/a/b", "/v1/models"),
        ("/v1/modelsx", "/v1"),
        ("/v1/anything/else", "/v1"),
        ("/v1x", OTHER),
        ("/ws", "/ws"),
        ("/admin/keys/key_1", "/admin"),
        ("/", OTHER),
        ("", OTHER),
    ],
)
def test_paths_have_a_class(path: str, found: str) -> None:
    assert path_class(path) == found


def test_names_of_the_configuration_always_have_a_place() -> None:
    names = ModelNames()
    for number in range(MAX_LEARNED * 2):
        names.label(f"m-{number}", answered=True)
    assert names.label("fast", answered=False) == OTHER
    upstreams = [{"name": "a", "base_url": "http://a.invalid/v1"}]
    names.follow(Settings.model_validate({"upstreams": upstreams, "models": MODELS}))
    for name in ("fast", "quick", "gpt-x", "small"):
        assert names.label(name, answered=False) == name
    assert names.label("m-0", answered=False) == "m-0"
    assert names.label(f"m-{MAX_LEARNED}", answered=True) == OTHER


@pytest.mark.parametrize(
    "name",
    ["sk-abcdefgh12345678", "rk-canary-key-0123", "a b", "x" * 101, "zeile\n", 'a"b', "größe"],
)
def test_what_looks_like_no_name_is_other(name: str) -> None:
    assert ModelNames().label(name, answered=True) == OTHER


def test_a_request_that_named_no_model_has_none() -> None:
    assert ModelNames().label("", answered=True) == ""
