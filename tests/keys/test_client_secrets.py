"""Browser tokens: what they carry, and that nothing about them can be made up."""

import base64
import hashlib
import json
import time
from typing import Any

import pytest

from relay.errors import (
    InvalidApiKey,
    InvalidRequest,
    ModelNotAllowed,
    NotPermitted,
    OriginNotAllowed,
)
from relay.keys import Keyring, Wish, configured_entries
from relay.settings import Settings
from relay.types import Identity, Limits

KEY = b"rk-parent-value"
PAGE = [(b"origin", b"https://app.example")]


def ring(key: bytes = KEY, *, secret: bytes = b"", **policy: Any) -> Keyring:
    named = {"name": "app", "sha256": hashlib.sha256(key).hexdigest(), **policy}
    entries = configured_entries(Settings(keys=[named]))
    return Keyring(entries, anonymous=False, token_secret=secret)


def mint(keys: Keyring, **wish: Any) -> bytes:
    return keys.client_secrets.mint(KEY, Wish(**{"expires_in_s": 60, **wish})).value.encode()


def payload_of(token: bytes) -> dict[str, Any]:
    signed = token.removeprefix(b"ek-").partition(b".")[0]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(signed + b"=="))
    return found


def test_a_token_is_its_parent_with_narrower_lists() -> None:
    keys = ring(models=["a", "b"], rpm=5)
    token = mint(keys, models=("b",), max_requests=3)
    parent, child = keys.identify_key(KEY), keys.identify_key(token)
    assert isinstance(parent, Identity)
    assert isinstance(child, Identity)
    assert (child.name, child.key_id) == (parent.name, parent.key_id)
    assert child.models == (("a", "b"), ("b",))
    assert child.holders[0] == parent.holders[0]
    assert child.holders[1].limits == Limits(requests=3)
    other = keys.identify_key(mint(keys, max_requests=3))
    assert isinstance(other, Identity)
    assert other.holders[1].id != child.holders[1].id  # each counts by itself


def test_it_needs_no_more_than_the_parent_to_be_known_elsewhere() -> None:
    token = mint(ring())
    assert isinstance(ring().identify_key(token), Identity)
    with pytest.raises(InvalidApiKey):
        ring(key=b"rk-another").identify_key(token)


def test_with_a_secret_of_the_operator_the_digest_is_not_enough_to_make_one() -> None:
    token = mint(ring(secret=b"s1"))
    assert isinstance(ring(secret=b"s1").identify_key(token), Identity)
    for other in (b"", b"s2"):
        with pytest.raises(InvalidApiKey):
            ring(secret=other).identify_key(token)


def test_it_ends_when_it_says_and_never_after_its_parent() -> None:
    keys = ring(expires_at=time.time() + 30)
    made = keys.client_secrets.mint(KEY, Wish(600))
    assert made.expires_at <= time.time() + 30
    with pytest.raises(InvalidApiKey, match="expired"):
        keys.identify_key(mint(keys, expires_in_s=-1))


def test_a_page_may_use_it_and_others_not() -> None:
    keys = ring()
    token = mint(keys, origins=("https://app.example",))
    assert isinstance(keys.identify_key(token, PAGE), Identity)
    for headers in ([], [(b"origin", b"https://evil.example")]):
        with pytest.raises(OriginNotAllowed):
            keys.identify_key(token, headers)


def test_the_parents_pages_and_addresses_hold_for_it_too() -> None:
    keys = ring(origins=["https://app.example"], networks=["10.0.0.0/8"])
    token = mint(keys)
    assert isinstance(keys.identify_key(token, PAGE, lambda: "10.0.0.1"), Identity)
    with pytest.raises(OriginNotAllowed):
        keys.identify_key(token, [], lambda: "10.0.0.1")
    with pytest.raises(NotPermitted):
        keys.identify_key(token, PAGE, lambda: "192.168.0.1")


def test_what_the_parent_may_not_do_cannot_be_wished_for() -> None:
    keys = ring(models=["a"], origins=["https://app.example"])
    with pytest.raises(ModelNotAllowed) as refused:
        mint(keys, models=("z",))
    assert refused.value.param == "models"
    with pytest.raises(OriginNotAllowed) as refused_origin:
        mint(keys, origins=("https://evil.example",))
    assert refused_origin.value.param == "origins"
    wide = keys.identify_key(mint(keys, models=("*",)), PAGE)
    assert isinstance(wide, Identity)
    assert wide.models == (("a",), ("*",))  # a pattern opens no more than both lists allow


def test_a_token_makes_no_tokens() -> None:
    keys = ring()
    token = mint(keys)
    with pytest.raises(NotPermitted, match="cannot make one"):
        keys.client_secrets.mint(token, Wish(60))


def test_what_does_not_fit_into_a_token_is_said() -> None:
    with pytest.raises(InvalidRequest, match="fit"):
        mint(ring(), models=tuple(f"a-very-long-name-of-a-model-{number}" for number in range(200)))


def test_no_bit_of_it_can_be_changed() -> None:
    keys = ring()
    token = mint(keys, models=("a",), max_requests=1)
    body, _, signature = token.removeprefix(b"ek-").partition(b".")
    payload = payload_of(token)
    forged = []
    for change in (
        {"m": ["*"]},
        {"e": 2**40},
        {"n": 10**9},
        {"k": "key_other"},
        {"k": 5},
        {"k": None},
    ):
        text = json.dumps({**payload, **change}, separators=(",", ":")).encode()
        forged.append(b"ek-" + base64.urlsafe_b64encode(text).rstrip(b"=") + b"." + signature)
    empty = base64.urlsafe_b64encode(b"{}").rstrip(b"=")
    forged += [
        b"ek-" + body,
        b"ek-" + body + b".",
        b"ek-" + body + b"." + signature[:-2],
        b"ek-" + body + b"." + body,
        b"ek-" + empty + b"." + signature,
        b"ek-" + base64.urlsafe_b64encode(b"[]") + b"." + signature,
        b"ek-" + base64.urlsafe_b64encode(b"[" * 3000) + b"." + signature,
        token.replace(b".", b".."),
    ]
    for one in forged:
        with pytest.raises(InvalidApiKey):
            keys.identify_key(one)
