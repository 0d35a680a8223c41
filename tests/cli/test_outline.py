from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.cli.outline import admission, keys_in_database, needs_local, steps_in
from relay.settings import Settings
from relay.stores import KeyRecord, open_store, prepare

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
    ("given", "in_database", "who"),
    [
        ({}, True, "callers with a key of the database"),
        ({"admin_key": "ak-1"}, True, "callers with a key of the database"),
        (
            {"host": "0.0.0.0", "allow_anonymous": True},
            True,
            "callers with a key of the database",
        ),
        (
            {"api_keys": KEYS[:1]},
            True,
            "callers with the key, those with a key of the database",
        ),
        (
            {"admin_key": "ak-1"},
            None,
            "everyone on this machine, without a key, unless there is one in the database",
        ),
    ],
)
def test_keys_of_the_database_count_as_well(
    given: dict[str, Any], in_database: bool | None, who: str
) -> None:
    assert admission(Settings(**given), in_database=in_database) == who


async def test_a_glance_sees_whether_a_file_has_keys_and_asks_no_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'relay?.db'}"
    settings = Settings(database_url=url)
    assert keys_in_database(settings) is False
    assert not list(tmp_path.iterdir())
    await prepare(url)
    assert keys_in_database(settings) is False
    store = open_store(url)
    key = KeyRecord(id="key_1", name="n", digest=b"1" * 32, prefix="rk-1", created_at=1.0)
    revoked = await store.put_key(replace(key, revoked_at=2.0))
    assert revoked.revoked_at
    assert keys_in_database(settings) is True, "where there has been a key, one is needed"
    await store.aclose()
    (tmp_path / "notes").write_text("no database" * 100)
    assert keys_in_database(Settings(database_url=f"sqlite:///{tmp_path / 'notes'}")) is None
    (tmp_path / "empty").touch()
    assert keys_in_database(Settings(database_url=f"sqlite:///{tmp_path / 'empty'}")) is False
    assert keys_in_database(Settings(database_url="none")) is False
    assert keys_in_database(Settings(database_url="postgresql://192.0.2.1/relay")) is None


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
