"""The keyring; how it looks over HTTP is in web/test_door.py and e2e/test_key_policies.py."""

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from relay.errors import AddressNotAllowed, InvalidApiKey, OriginNotAllowed, Overloaded
from relay.keys import Keyring, VirtualKeys, configured_entries, new_key
from relay.keys.credential import MAX_KEY_BYTES
from relay.settings import Settings
from relay.stores import open_store
from relay.types import ANONYMOUS, Holder, Identity, Limits

KEY = "rk-secret-value"


def keyring(**settings: Any) -> Keyring:
    return Keyring(configured_entries(Settings(**settings)), anonymous=True)


def with_policy(**policy: Any) -> Keyring:
    return keyring(
        keys=[{"name": "ci", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), **policy}]
    )


def test_without_keys_everybody_is_anonymous() -> None:
    keys = keyring()
    assert not keys.guarded()
    assert keys.identify([]) is ANONYMOUS
    assert keys.identify_key(b"anything") is ANONYMOUS


def test_where_everybody_may_not_come_in_a_key_is_needed_also_while_there_is_none() -> None:
    keys = Keyring({}, anonymous=False)
    assert keys.guarded()
    with pytest.raises(InvalidApiKey):
        keys.identify([])


def test_a_key_has_a_name_that_does_not_tell_it() -> None:
    keys = keyring(api_keys=KEY)
    identity = keys.identify([(b"authorization", b"Bearer " + KEY.encode())])
    assert isinstance(identity, Identity)
    assert identity.name.startswith("key-")
    assert "secret" not in identity.name
    assert KEY not in repr(vars(keys))
    assert keys.identify_key(b" " + KEY.encode() + b" ") is identity


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"rk-secret-valu",
        b"x" * (MAX_KEY_BYTES + 1),
        b"\xff",
        b"ek-",
        b"ek-.",
        b"ek-e30.e30",
        b"ek-" + b"[" * 4000 + b".",
        b"ek-\xff.\xff",
        b"eyJhbGciOiJub25lIn0.e30.",
    ],
)
def test_every_other_key_is_refused_alike(key: bytes) -> None:
    with pytest.raises(InvalidApiKey) as refused:
        keyring(api_keys=KEY).identify_key(key)
    assert refused.value.message == "The API key is not valid here."


def test_a_key_by_its_hash_has_limits_models_and_a_team() -> None:
    keys = keyring(
        keys=[
            {
                "name": "ci",
                "sha256": hashlib.sha256(KEY.encode()).hexdigest().upper(),
                "models": ["small", "vendor/*"],
                "rpm": 60,
                "budget_usd": 0.1,
                "budget_window": "day",
                "team": "ops",
                "keep_bodies": True,
            }
        ],
        teams=[{"name": "ops", "models": ["*"], "tpm": 1000}],
    )
    assert keys.identify_key(KEY.encode()) == Identity(
        "ci",
        "key_ci",
        "team_ops",
        (("small", "vendor/*"), ("*",)),
        (
            Holder("key_ci", Limits(rpm=60, budget_nano=100_000_000, budget_window="day")),
            Holder("team_ops", Limits(tpm=1000)),
        ),
        keep_bodies=True,
    )


def test_a_key_ends_when_it_says() -> None:
    assert isinstance(with_policy(expires_at=time.time() + 60).identify_key(KEY.encode()), Identity)
    with pytest.raises(InvalidApiKey, match="expired"):
        with_policy(expires_at=time.time() - 1).identify_key(KEY.encode())


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (b"https://app.example", True),
        (b"http://localhost:5173", True),
        (b"https://evil.example", False),
        (b"https://app.example.evil.example", False),
        (b"null", False),
        (None, False),
    ],
)
def test_a_key_may_be_for_certain_pages_only(origin: bytes | None, allowed: bool) -> None:
    keys = with_policy(origins=["https://app.example", "http://localhost:*"])
    headers = [] if origin is None else [(b"origin", origin)]
    if allowed:
        assert isinstance(keys.identify_key(KEY.encode(), headers), Identity)
        return
    with pytest.raises(OriginNotAllowed):
        keys.identify_key(KEY.encode(), headers)


@pytest.mark.parametrize(
    ("site", "host", "allowed"),
    [
        (b"same-origin", b"app.example", True),
        (b"same-origin", b"localhost:8000", True),
        (b"same-origin", b"evil.example", False),
        (b"same-origin", None, False),
        (b"same-site", b"app.example", False),
        (b"cross-site", b"app.example", False),
        (b"none", b"app.example", False),
    ],
)
def test_what_a_page_reads_from_its_own_host_has_that_origin(
    site: bytes, host: bytes | None, allowed: bool
) -> None:
    keys = with_policy(origins=["https://app.example", "http://localhost:*"])
    headers = [(b"sec-fetch-site", site)] + ([] if host is None else [(b"host", host)])
    if allowed:
        assert isinstance(keys.identify_key(KEY.encode(), headers), Identity)
        headers.append((b"origin", b"https://evil.example"))
    with pytest.raises(OriginNotAllowed):
        keys.identify_key(KEY.encode(), headers)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::1", True),
        ("fe80::1%eth0", True),
        ("192.168.0.1", False),
        ("", False),
        ("/run/relay.sock", False),
    ],
)
def test_a_key_may_be_for_certain_addresses_only(address: str, allowed: bool) -> None:
    keys = with_policy(networks=["10.1.0.7/8", "2001:db8::/32", "fe80::/10"])
    if allowed:
        assert isinstance(keys.identify_key(KEY.encode(), (), lambda: address), Identity)
        return
    with pytest.raises(AddressNotAllowed):
        keys.identify_key(KEY.encode(), (), lambda: address)


async def test_what_should_be_in_the_database_is_not_taken_for_nothing_while_it_is_away(
    tmp_path: Path,
) -> None:
    away = VirtualKeys(open_store(f"sqlite:///{tmp_path}/no/relay.db"))
    expecting = Keyring({}, anonymous=True, virtual=away, expects_keys=True)
    carefree = Keyring({}, anonymous=True, virtual=away)
    assert expecting.guarded()
    refused_later = expecting.identify([])
    assert not isinstance(refused_later, Identity)
    with pytest.raises(InvalidApiKey):
        await refused_later
    found = expecting.identify_key(new_key().encode())
    assert not isinstance(found, Identity)
    with pytest.raises(Overloaded) as refused:
        await found
    assert dict(refused.value.headers)[b"retry-after"]
    assert carefree.identify([]) is ANONYMOUS
    with pytest.raises(InvalidApiKey):  # no key of the database looks like that
        expecting.identify_key(b"rk-short")
    await away.aclose()
    await away.store.aclose()


async def test_before_the_first_look_nobody_is_taken_for_anonymous(tmp_path: Path) -> None:
    virtual = VirtualKeys(open_store(f"sqlite:///{tmp_path}/relay.db"))
    keys = Keyring({}, anonymous=True, virtual=virtual)
    found = keys.identify([])
    assert not isinstance(found, Identity)
    assert await found is ANONYMOUS
    assert keys.identify([]) is ANONYMOUS
    await asyncio.gather(keys.settle(), virtual.aclose())
    await virtual.store.aclose()
