"""Tokens of an identity provider as keys: a real one with real signatures, over HTTP."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from fake_realtime import FakeRealtime
from identity_provider import AUDIENCE, IdentityProvider, unsigned
from running import RunningRelay, StartRelay, chat
from sockets import answer as told_answer
from sockets import ask as ask_socket
from sockets import close_code, dial, told
from waiting import until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from relay.keys import jwks


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider.in_thread() as provider:
        yield provider


Start = Callable[..., RunningRelay]


@pytest.fixture
def start(start_relay: StartRelay, provider: IdentityProvider) -> Start:
    def start(teams: Any = (), **issuer: Any) -> RunningRelay:
        named = {"issuer": provider.issuer, "audience": AUDIENCE, **issuer}
        return start_relay(local="echo", issuers=[named], teams=teams)

    return start


def ask(relay: RunningRelay, token: str, model: str = "m") -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"}
    return relay.http.post("/v1/chat/completions", json={**chat(), "model": model}, headers=headers)


@pytest.mark.parametrize("kid", ["rsa-1", "ec-1"])
def test_a_good_token_is_a_key(start: Start, provider: IdentityProvider, kid: str) -> None:
    relay = start()
    for _ in range(3):
        assert ask(relay, provider.token(kid, aud=["other", AUDIENCE])).status_code == 200
    assert provider.asked == ["/realm/.well-known/openid-configuration", "/realm/keys"]
    assert relay.http.post("/v1/chat/completions", json=chat()).status_code == 401


def public_pem(provider: IdentityProvider) -> bytes:
    key, _ = provider.keys["rsa-1"]
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def confused(provider: IdentityProvider) -> str:
    """Signed with HMAC, the public key taken for the secret."""
    header = {"alg": "HS256", "typ": "JWT", "kid": "rsa-1"}
    signing = unsigned(header, provider.claims()).rpartition(".")[0]
    signature = hmac.digest(public_pem(provider), signing.encode(), hashlib.sha256)
    return unsigned(header, provider.claims(), signature)


def tampered(provider: IdentityProvider) -> str:
    head, _, signature = provider.token().split(".")
    return f"{head}.{provider.token(sub='root').split('.')[1]}.{signature}"


BAD: dict[str, Callable[[IdentityProvider], str]] = {
    "alg none": lambda it: unsigned({"alg": "none"}, it.claims()),
    "alg None with a known key": lambda it: unsigned({"alg": "None", "kid": "rsa-1"}, it.claims()),
    "no alg": lambda it: unsigned({"kid": "rsa-1"}, it.claims()),
    "a public key as a shared secret": confused,
    "another's claims": tampered,
    "another algorithm's key": lambda it: it.token("ec-1", headers={"kid": "rsa-1"}),
    "another audience": lambda it: it.token(aud="somebody"),
    "no audience": lambda it: it.token(aud=None),
    "another issuer": lambda it: it.token(iss="https://evil.example"),
    "no issuer": lambda it: it.token(iss=None),
    "an issuer that is no text": lambda it: unsigned({"alg": "RS256"}, it.claims(iss=["x"])),
    "expired": lambda it: it.token(exp=int(time.time()) - 60),
    "without an end": lambda it: it.token(exp=None),
    "not yet valid": lambda it: it.token(nbf=int(time.time()) + 60),
    "from the future": lambda it: it.token(iat=int(time.time()) + 60),
    "nobody's": lambda it: it.token(sub=None),
    "an unprintable name": lambda it: it.token(sub="a\nb"),
    "an endless name": lambda it: it.token(sub="a" * 200),
    "no key id where there are several": lambda it: it.token(headers={"kid": None}),
    "an unknown key": lambda it: it.token(headers={"kid": "rsa-9"}),
    "no JSON": lambda it: "eyJ.eyJ.x",
    "not ASCII": lambda it: "eyJ.\u00e9.x",
    "cut": lambda it: it.token()[:-5],
}


@pytest.mark.parametrize("fault", BAD)
def test_any_other_is_401(start: Start, provider: IdentityProvider, fault: str) -> None:
    token = BAD[fault](provider)
    relay = start()
    headers = [(b"authorization", b"Bearer " + token.encode())]
    answer = relay.http.post("/v1/chat/completions", json=chat(), headers=headers)
    assert answer.status_code == 401, fault
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert ask(relay, provider.token()).status_code == 200  # and nothing is spoilt by it


def test_an_algorithm_that_was_not_chosen_is_none(start: Start, provider: IdentityProvider) -> None:
    relay = start(algorithms=["RS256"])
    assert ask(relay, provider.token("rsa-1")).status_code == 200
    assert ask(relay, provider.token("ec-1")).status_code == 401


def test_a_single_key_needs_no_id(
    start: Start, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.jwks = provider.jwks[:1]
    relay = start(jwks_url=f"{provider.issuer}/keys")
    assert ask(relay, provider.token(headers={"kid": None})).status_code == 200
    provider.add_key("rsa-2", "RS256")
    provider.jwks = provider.jwks[-1:]
    newer = provider.token("rsa-2", headers={"kid": None})
    assert ask(relay, newer).status_code == 401  # its keys were fetched a moment ago
    assert provider.asked == ["/realm/keys"]
    monkeypatch.setattr(jwks, "AGAIN_S", 0.0)
    assert ask(relay, newer).status_code == 200


def test_new_keys_are_fetched_when_they_are_met_and_not_for_each_wrong_one(
    start: Start, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = start(jwks_url=f"{provider.issuer}/keys")
    assert ask(relay, provider.token()).status_code == 200
    assert provider.asked == ["/realm/keys"]
    for number in range(20):
        unknown = provider.token(headers={"kid": f"unknown-{number}"})
        assert ask(relay, unknown).status_code == 401
    assert provider.asked == ["/realm/keys"]  # it was asked a moment ago
    provider.add_key("rsa-2", "RS256")
    provider.jwks = [one for one in provider.jwks if one["kid"] != "rsa-1"]
    monkeypatch.setattr(jwks, "AGAIN_S", 0.0)
    assert ask(relay, provider.token("rsa-2")).status_code == 200
    assert provider.asked == ["/realm/keys"] * 2
    assert ask(relay, provider.token("rsa-1")).status_code == 401  # checked before, and over now


def test_old_keys_are_renewed_beside_the_calls(
    start: Start, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = start(jwks_url=f"{provider.issuer}/keys")
    assert ask(relay, provider.token()).status_code == 200
    monkeypatch.setattr(jwks, "FRESH_S", 0.0)
    provider.broken = True
    deadline = time.monotonic() + 10
    while len(provider.asked) < 2:
        assert ask(relay, provider.token(jti=str(time.time_ns()))).status_code == 200
        assert time.monotonic() < deadline


def test_while_the_provider_was_never_there_the_caller_is_told_to_come_again(
    start: Start, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "AGAIN_S", 0.0)
    relay = start()
    for fault in ("broken", "foreign", "no keys", "no list", "too long"):
        provider.broken = fault == "broken"
        provider.claims_issuer = "https://evil.example" if fault == "foreign" else None
        kept = provider.jwks
        provider.jwks = [] if fault == "no keys" else kept
        if fault == "no list":
            provider.jwks = {"rsa-1": kept[0]}  # type: ignore[assignment]
        if fault == "too long":
            provider.jwks = [{"kty": "RSA", "n": "x" * jwks.MAX_BYTES}]
        answer = ask(relay, provider.token())
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded"), fault
        assert answer.headers["retry-after"]
        provider.jwks = kept
    provider.broken, provider.claims_issuer = False, None
    assert ask(relay, provider.token()).status_code == 200


def test_what_a_provider_publishes_beside_its_signing_keys_is_passed_by(
    start: Start, provider: IdentityProvider
) -> None:
    provider.jwks += [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"},
        {**provider.jwks[0], "kid": "enc", "use": "enc"},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": "??"},
    ]
    relay = start(algorithms=["RS256"])
    assert ask(relay, provider.token()).status_code == 200
    assert ask(relay, provider.token(headers={"kid": "enc"})).status_code == 401


def test_claims_say_who_it_is_and_what_he_may(start: Start, provider: IdentityProvider) -> None:
    relay = start(
        teams=[{"name": "ops", "models": ["a", "b"]}],
        claims={"name": "email", "team": "team", "models": "relay.models", "rpm": "relay.rpm"},
    )

    def status(token: str, model: str) -> int:
        return ask(relay, token, model).status_code

    good = provider.token(
        email="ann@x.example", team="ops", relay={"models": ["a", "c"], "rpm": 1000}
    )
    assert [status(good, model) for model in "abc"] == [200, 403, 403]
    spaced = provider.token(relay={"models": "a b"})
    assert [status(spaced, model) for model in "abc"] == [200, 200, 403]
    assert status(provider.token(), "a") == 403  # no list is no model, where a list is expected
    for claims in (
        {"team": "nobody"},
        {"team": ["ops"]},
        {"relay": {"models": ["a"], "rpm": "many"}},
        {"relay": {"models": ["a"], "rpm": True}},
        {"relay": {"models": ["a"], "rpm": 0}},
    ):
        answer = ask(relay, provider.token(**claims), "a")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_permitted")


def test_the_first_policy_that_fits_holds_and_none_is_none(
    start: Start, provider: IdentityProvider
) -> None:
    relay = start(
        teams=[{"name": "ops"}],
        policies=[
            {"claim": "groups", "value": "ml", "models": ["*"], "team": "ops", "parallel": 5},
            {"claim": "scope", "value": "relay:small", "models": ["small"]},
            {"claim": "realm.roles", "value": "far away", "networks": ["10.0.0.0/8"]},
        ],
    )
    everything = provider.token(groups=["x", "ml"], scope="relay:small")
    assert ask(relay, everything, "big").status_code == 200
    small = provider.token(scope="openid relay:small")
    assert [ask(relay, small, model).status_code for model in ("small", "big")] == [200, 403]
    away = ask(relay, provider.token(realm={"roles": "far away"}), "big")
    assert away.json()["error"]["code"] == "address_not_allowed"
    for claims in ({}, {"groups": "mlx"}, {"groups": {"ml": 1}}, {"scope": 5}):
        nobody = ask(relay, provider.token(**claims))
        assert (nobody.status_code, nobody.json()["error"]["code"]) == (403, "not_permitted")


def test_a_token_mints_no_browser_tokens(start: Start, provider: IdentityProvider) -> None:
    relay = start()
    answer = relay.http.post(
        "/v1/client_secrets",
        json={},
        headers={"authorization": f"Bearer {provider.token()}"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_permitted")


@contextmanager
def carrying(relay: RunningRelay, token: str, how: str, path: str) -> Iterator[ClientConnection]:
    """A socket that has its key in one of the places that there are for it."""
    subprotocols = {
        "subprotocol": ["relay", f"key.{token}"],
        "openai's subprotocol": ["realtime", f"openai-insecure-api-key.{token}"],
    }.get(how)
    headers = {"authorization": f"Bearer {token}"} if how == "header" else {}
    with dial(relay, path, subprotocols=subprotocols, additional_headers=headers) as socket:
        if how == "first frame":
            socket.send(json.dumps({"key": token}))
        yield socket


@pytest.mark.parametrize("how", ["header", "subprotocol", "first frame"])
def test_a_token_opens_a_chat_socket(start: Start, provider: IdentityProvider, how: str) -> None:
    policies = [{"claim": "groups", "value": "ml", "models": ["m"]}]
    relay = start(policies=policies)
    with carrying(relay, provider.token(groups=["ml"]), how, "/ws") as socket:
        ask_socket(socket, "a", model="m")
        assert told_answer(socket)[-1] == {"type": "done", "id": "a"}
        ask_socket(socket, "b", model="other")
        assert told(socket)["error"]["code"] == "model_not_allowed"
    wrong = provider.token(groups=["ml"], aud="somebody")
    if how == "first frame":
        with carrying(relay, wrong, how, "/ws") as socket:
            assert told(socket)["error"]["code"] == "invalid_api_key"
            assert close_code(socket) == 1008
        return
    for token, status in ((wrong, 401), (provider.token(), 403)):
        with pytest.raises(InvalidStatus) as refused, carrying(relay, token, how, "/ws"):
            pass
        assert refused.value.response.status_code == status


def test_a_token_that_has_ended_asks_nothing_more_on_its_socket(
    start: Start, provider: IdentityProvider
) -> None:
    relay = start(leeway_s=0)
    ends = int(time.time()) + 3
    with carrying(relay, provider.token(exp=ends), "header", "/ws") as socket:
        ask_socket(socket, "a")
        assert told_answer(socket)[-1]["type"] == "done"
        until(lambda: time.time() > ends)
        ask_socket(socket, "b")
        assert told(socket)["error"]["code"] == "invalid_api_key"
        assert close_code(socket) == 1008


@pytest.mark.parametrize("how", ["header", "openai's subprotocol"])
def test_a_token_opens_a_realtime_session(
    start_relay: StartRelay, provider: IdentityProvider, how: str
) -> None:
    with FakeRealtime() as realtime:
        named = {"issuer": provider.issuer, "audience": AUDIENCE}
        named |= {"policies": [{"claim": "groups", "value": "ml", "models": ["voice"]}]}
        relay = start_relay(upstream_url=realtime.url, issuers=[named])
        path, token = "/v1/realtime?model=voice", provider.token(groups=["ml"])
        with carrying(relay, token, how, path) as session:
            assert told(session) == {"type": "session.created"}
            session.send(json.dumps({"type": "session.update", "session": {"model": "other"}}))
            assert told(session)["error"]["code"] == "model_not_allowed"
        assert token not in str(realtime.handshakes[0].headers)
        for query, given, status in (
            ("?model=other", token, 403),
            ("", token, 403),
            ("?model=voice", provider.token(groups=["ml"], exp=1), 401),
        ):
            with (
                pytest.raises(InvalidStatus) as refused,
                carrying(relay, given, how, f"/v1/realtime{query}"),
            ):
                pass
            assert refused.value.response.status_code == status
        assert len(realtime.handshakes) == 1


def test_without_pyjwt_the_start_says_what_to_install(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from relay.keys import issuers
    from relay.settings import SettingsError

    monkeypatch.setattr(issuers, "MODULE", "relay.keys.is_not_there")
    with pytest.raises(SettingsError, match=r"openai-relay\[oidc\]"):
        start()
