"""Where calls go, decided without I/O."""

from collections.abc import Sequence
from typing import Any

import pytest

from relay.errors import ModelNotFound, NoUpstream
from relay.routing import LOCAL, Router
from relay.settings import Mode, ModelSettings
from relay.types import Call


def router(
    mode: Mode = "auto",
    upstreams: Sequence[str] = ("a", "b"),
    local: Any = "the local backend",
    models: Sequence[dict[str, Any]] = (),
) -> Router:
    """A router over names in place of backends, which it never looks into."""
    backends: Any = {name: f"backend {name}" for name in upstreams}
    return Router(
        mode=mode,
        upstreams=backends,
        local=local,
        models=[ModelSettings.model_validate(model) for model in models],
    )


def names(of: Router, model: str = "m") -> list[str]:
    return [target.name for target in of.candidates(Call(path="chat/completions", model=model))]


@pytest.mark.parametrize(
    ("mode", "upstreams", "expected"),
    [
        ("auto", ("a", "b"), "a"),
        ("auto", (), LOCAL),
        ("remote", ("a",), "a"),
        ("local", ("a",), LOCAL),
        ("local", (), LOCAL),
    ],
)
def test_the_mode_decides_when_no_models_are_named(
    mode: Mode, upstreams: Sequence[str], expected: str
) -> None:
    of = router(mode, upstreams)
    assert names(of, "whatever") == [expected]
    assert of.default().name == expected
    assert not of.named


def test_a_model_goes_to_the_local_one_that_it_names_itself() -> None:
    of = router(
        mode="local",
        models=[
            {
                "id": "named",
                "targets": [{"upstream": "a", "model": "far"}],
                "fallback": [{"upstream": "b"}, {"local": True, "model": "near"}],
                "history": "passthrough",
            },
            {"id": "unnamed", "targets": [{"upstream": "a", "model": "far"}]},
        ],
    )
    [named] = of.candidates(Call(path="chat/completions", model="named"))
    assert (named.name, named.model, named.history) == (LOCAL, "near", "passthrough")
    [unnamed] = of.candidates(Call(path="chat/completions", model="unnamed"))
    assert (unnamed.name, unnamed.model) == (LOCAL, None)


def test_an_exact_name_beats_a_pattern_and_a_long_pattern_a_short_one() -> None:
    of = router(
        models=[
            {"id": "*", "targets": [{"upstream": "a", "model": "any"}]},
            {"id": "v/*", "targets": [{"upstream": "b"}], "history": "passthrough"},
            {"id": "v/x", "targets": [{"local": True}]},
        ]
    )
    assert names(of, "v/x") == [LOCAL]
    assert names(of, "v/y") == ["b"]
    [anything] = of.candidates(Call(path="chat/completions", model="other"))
    assert (anything.name, anything.model, anything.history) == ("a", "any", "normalize")
    [vendor] = of.candidates(Call(path="chat/completions", model="v/y"))
    assert (vendor.model, vendor.history) == (None, "passthrough")


def test_only_named_models_exist() -> None:
    of = router(models=[{"id": "m", "targets": [{"upstream": "a"}]}])
    with pytest.raises(ModelNotFound) as missing:
        names(of, "n")
    assert missing.value.param == "model"


def test_in_local_mode_named_models_are_answered_locally() -> None:
    of = router("local", models=[{"id": "m", "targets": [{"upstream": "a"}]}])
    assert names(of) == [LOCAL]
    with pytest.raises(ModelNotFound):
        names(of, "n")


def test_a_backend_that_is_not_there_is_said() -> None:
    with pytest.raises(NoUpstream):
        names(router("local", local=None))
