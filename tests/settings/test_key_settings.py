"""Keys, teams and issuers in the configuration, and what is wrong with them."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest

from relay.settings import Settings, SettingsError

HASH = hashlib.sha256(b"rk-canary-1").hexdigest()
ISSUER = {"issuer": "https://login.example", "audience": "relay"}


def test_a_key_a_team_and_an_issuer_are_read(place: Any) -> None:
    place.write(
        "relay.toml",
        f"""
        [[teams]]
        name = "ops"
        [[keys]]
        name = "ci"
        sha256 = "{HASH.upper()}"
        team = "ops"
        expires_at = 2027-01-31
        networks = ["10.1.2.3/8", "::1"]
        [[issuers]]
        issuer = "https://login.example/"
        audience = "relay"
        """,
    )
    settings = place.load()
    [key] = settings.keys
    assert key.digest == bytes.fromhex(HASH)
    assert key.networks == ("10.0.0.0/8", "::1/128")
    assert key.expires_at == datetime(2027, 1, 31, tzinfo=UTC)
    assert settings.issuers[0].audience == ("relay",)
    assert HASH not in repr(settings).lower()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"keys": [{"name": "a"}]}, "keys[0]-sha256"),
        ({"keys": [{"name": "a", "sha256": "abc"}]}, "keys[0]-sha256"),
        ({"keys": [{"name": "a b", "sha256": HASH}]}, "keys[0]-name"),
        ({"keys": [{"name": "a", "sha256": HASH, "model": "m"}]}, "did you mean models"),
        ({"keys": [{"name": "a", "sha256": HASH, "models": []}]}, "keys[0]-models"),
        ({"keys": [{"name": "a", "sha256": HASH, "origins": ["https://x/"]}]}, "keys[0]-origins"),
        ({"keys": [{"name": "a", "sha256": HASH, "team": "dev"}]}, "the team 'dev'"),
        ({"keys": [{"name": "a", "sha256": HASH}] * 2}, "2 keys are called 'a'"),
        (
            {"keys": [{"name": "a", "sha256": HASH}, {"name": "b", "sha256": HASH}]},
            "2 keys have the sha256 of 'a'",
        ),
        (
            {"keys": [{"name": "a", "sha256": HASH}], "admin_key": "rk-canary-1"},
            "the key 'a' is the admin_key",
        ),
        (
            {"keys": [{"name": "a", "sha256": HASH}], "api_keys": ["rk-canary-1"]},
            "the key 'a' is one of api_keys",
        ),
        ({"teams": [{"name": "a"}] * 2}, "2 teams are called 'a'"),
        ({"issuers": [{"issuer": "https://login.example"}]}, "issuers[0]-audience"),
        ({"issuers": [{**ISSUER, "issuer": "http://login.example"}]}, "https://"),
        ({"issuers": [{**ISSUER, "jwks_url": "https://u:p@login.example"}]}, "no user name"),
        ({"issuers": [{**ISSUER, "algorithms": ["HS256"]}]}, "issuers[0]-algorithms"),
        ({"issuers": [{**ISSUER, "algorithms": ["none"]}]}, "issuers[0]-algorithms"),
        ({"issuers": [ISSUER, {**ISSUER, "name": "b"}]}, "several audiences"),
        (
            {"issuers": [{**ISSUER, "policies": [{"claim": "c", "value": "v", "team": "x"}]}]},
            "the issuer 'oidc' belongs to the team 'x'",
        ),
    ],
)
def test_what_is_wrong_is_said_without_the_key(
    place: Any, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        place.load(flags=given)
    assert said in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "starts"),
    [
        ({}, False),
        ({"keys": [{"name": "a", "sha256": HASH}]}, True),
        ({"issuers": [ISSUER]}, True),
        ({"admin_key": "ak-1"}, True),
        ({"allow_anonymous": True}, True),
    ],
)
def test_off_loopback_a_key_is_needed_or_a_way_to_make_one(
    given: dict[str, Any], starts: bool
) -> None:
    def build() -> Settings:
        return Settings.model_validate({"host": "0.0.0.0", **given})

    if starts:
        assert build().anonymous is bool(given.get("allow_anonymous"))
        return
    with pytest.raises(ValueError, match="open to everyone"):
        build()
