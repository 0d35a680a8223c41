from typing import Any

import pytest

from relay.cli.outline import admission, needs_local, steps_in
from relay.settings import Settings

KEYS = ("rk-canary-1", "rk-canary-2")
NAMED = {"name": "ci", "sha256": "0" * 64}
ISSUER = {"issuer": "https://login.example", "audience": "relay"}


@pytest.mark.parametrize(
    ("given", "who"),
    [
        ({}, "everyone on this machine, without a key"),
        ({"api_keys": KEYS}, "callers with one of 2 keys"),
        ({"api_keys": KEYS[:1]}, "callers with the key"),
        ({"api_keys": KEYS[:1], "keys": [NAMED]}, "callers with one of 2 keys"),
        ({"issuers": [ISSUER]}, "those with a token of oidc"),
        (
            {"keys": [NAMED], "issuers": [ISSUER]},
            "callers with the key, those with a token of oidc",
        ),
        ({"admin_key": "ak-1"}, "everyone on this machine, without a key, until one is made"),
        (
            {"host": "0.0.0.0", "admin_key": "ak-1"},
            "callers with a key of the database (relay keys create)",
        ),
        (
            {"host": "0.0.0.0", "allow_anonymous": True},
            "everyone who can reach it, without a key",
        ),
    ],
)
def test_admission_says_who_may_call(given: dict[str, Any], who: str) -> None:
    assert admission(Settings(**given)) == who


@pytest.mark.parametrize(
    ("given", "steps", "needs"),
    [
        ({}, False, True),
        ({"local": "echo"}, False, True),
        ({"upstream_url": "http://h/v1"}, False, False),
        ({"upstream_url": "http://h/v1", "local": "echo"}, True, True),
        ({"upstream_url": "http://h/v1", "local": "echo", "mode": "remote"}, False, False),
        ({"upstream_url": "http://h/v1", "mode": "local"}, False, True),
        (
            {
                "upstream_url": "http://h/v1",
                "models": [
                    {
                        "id": "m",
                        "targets": [{"upstream": "upstream"}],
                        "fallback": [{"local": True}],
                    }
                ],
            },
            False,
            True,
        ),
    ],
)
def test_a_chosen_local_model_steps_in_for_upstreams(
    given: dict[str, Any], steps: bool, needs: bool
) -> None:
    settings = Settings(**given)
    assert (steps_in(settings), needs_local(settings)) == (steps, needs)
