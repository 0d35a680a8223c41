"""What `relay check` says of the configured models."""

from typing import Any

import pytest

from relay.cli.finding import Finding
from relay.cli.routes import of_models
from relay.settings import Settings

EU = {"upstream": "eu"}
LISTS = {"eu": {"gpt-a", "gpt-b"}, "us": {"gpt-a"}, "silent": set[str](), "azure": {"gpt-a"}}


def findings(*models: dict[str, Any]) -> list[Finding]:
    upstreams = [
        {"name": name, "base_url": "http://h/v1", "kind": "azure" if name == "azure" else "openai"}
        for name in (*LISTS, "dead")
    ]
    settings = Settings.model_validate({"upstreams": upstreams, "models": models})
    return list(of_models(settings, LISTS))


def doubts(*models: dict[str, Any]) -> list[str]:
    """The notes, as `model: where: what of it`."""
    found = [finding for finding in findings(*models) if finding.state != "ok"]
    assert all(finding.state == "note" for finding in found)
    return [f"{one.what.removeprefix('model ')}: {one.where}: {one.detail}" for one in found]


def test_a_model_is_shown_with_all_that_is_set_of_it() -> None:
    [found] = findings(
        {
            "id": "gpt-a",
            "aliases": ["a", "b"],
            "targets": [EU | {"weight": 9}, {"upstream": "us", "model": "gpt-a", "weight": 1.5}],
            "policy": "weighted",
            "fallback": [{"upstream": "silent", "model": "z", "weight": 7}, {"local": True}],
            "context_fallback": [{"upstream": "eu", "model": "gpt-b"}],
            "retries": 0,
            "hedge_after_s": 1.5,
            "single_flight": True,
            "timeouts": {"first_byte_s": 5, "total_s": 30},
            "history": "reject",
        }
    )
    assert found == Finding(
        "model gpt-a",
        "eu (weight 9), us (gpt-a, weight 1.5)",
        "ok",
        "weighted; also a, b; fallback silent (z), local; for long prompts eu (gpt-b); 0 retries;"
        " hedged after 1.5 s; single flight; first_byte_s 5, total_s 30; history reject",
    )


def test_a_model_without_settings_of_its_own_is_one_short_row() -> None:
    assert findings({"id": "gpt-a", "targets": [EU]}) == [
        Finding("model gpt-a", "eu", "ok", "first")
    ]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        pytest.param(
            {"id": "gpt-aa", "targets": [EU]},
            ["gpt-aa: eu: it does not list the model 'gpt-aa'; did you mean gpt-a?"],
            id="by its own id",
        ),
        pytest.param(
            {"id": "m", "targets": [{"local": True}], "fallback": [EU | {"model": "zzz"}]},
            ["m: eu (zzz): it does not list the model 'zzz'"],
            id="in the fallback",
        ),
        pytest.param(
            {"id": "*", "targets": [EU | {"model": "zzz"}]},
            ["*: eu (zzz): it does not list the model 'zzz'"],
            id="behind a pattern",
        ),
        pytest.param({"id": "gpt-*", "targets": [EU]}, [], id="a pattern alone"),
        pytest.param({"id": "m", "targets": [{"upstream": "silent"}]}, [], id="an empty list"),
        pytest.param({"id": "m", "targets": [{"upstream": "dead"}]}, [], id="no answer"),
        pytest.param({"id": "m", "targets": [{"upstream": "azure"}]}, [], id="deployments"),
        pytest.param({"id": "m", "targets": [{"local": True}]}, [], id="the local model"),
    ],
)
def test_a_model_that_its_upstream_does_not_list_is_a_note(
    model: dict[str, Any], said: list[str]
) -> None:
    assert doubts(model) == said


@pytest.mark.parametrize(
    ("chains", "said"),
    [
        pytest.param({"fallback": [EU]}, ["eu: fallback"], id="a target"),
        pytest.param({"fallback": [EU | {"model": "gpt-a"}]}, ["eu (gpt-a): fallback"], id="named"),
        pytest.param(
            {"fallback": [{"local": True}, {"local": True}]}, ["local: fallback"], id="itself"
        ),
        pytest.param({"context_fallback": [EU]}, ["eu: context_fallback"], id="long prompts"),
        pytest.param({"targets": [EU, EU]}, ["eu: targets"], id="in the targets"),
        pytest.param({"fallback": [EU | {"model": "gpt-b"}]}, [], id="another model there"),
        pytest.param({"fallback": [{"upstream": "us"}]}, [], id="another upstream"),
        pytest.param(
            {"fallback": [{"local": True}], "context_fallback": [{"local": True}]},
            [],
            id="both chains",
        ),
    ],
)
def test_a_chain_that_repeats_a_target_is_a_note(chains: dict[str, Any], said: list[str]) -> None:
    model = {"id": "gpt-a", "targets": [EU]} | chains
    reason = "repeats it: calls that failed there fail again"
    assert doubts(model) == [f"gpt-a: {one} {reason}" for one in said]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["*", "**"], ["the pattern '*' is never used: '**' takes all of it"]),
        (["gpt*", "*gpt*"], ["the pattern 'gpt*' is never used: '*gpt*' takes all of it"]),
        (["a/*", "b/*", "*", "a/b", "a/b*"], []),
        (["*b", "a*c"], []),
    ],
)
def test_a_pattern_that_a_longer_one_takes_everything_of_is_a_note(
    names: list[str], said: list[str]
) -> None:
    [first, *others] = [{"id": name, "targets": [{"local": True}]} for name in names]
    assert doubts(first, *others) == [f"{names[0]}: : {one}" for one in said]


def test_a_shadowed_alias_is_a_note_of_its_model() -> None:
    local = [{"local": True}]
    said = doubts({"id": "m", "aliases": ["*"], "targets": local}, {"id": "**", "targets": local})
    assert said == ["m: : the pattern '*' is never used: '**' takes all of it"]
