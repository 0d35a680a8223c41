"""Guarantees 17 and 19 for keys that are made: odd ones get 401, no path gets round them."""

import base64
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import RunningRelay, StartRelay, chat

ADMIN = "ak-admin-0123456789"
Pairs = list[tuple[bytes, bytes]]


@pytest.fixture
def relay(start_relay: StartRelay, tmp_path: Path) -> RunningRelay:
    relay = start_relay(
        local="echo", admin_key=ADMIN, database_url=f"sqlite:///{tmp_path}/relay.db"
    )
    make(relay)  # with the first one everybody needs one
    return relay


def make(relay: RunningRelay, **fields: Any) -> str:
    answer = relay.http.post("/admin/keys", json={"name": "k", **fields}, headers=bearer(ADMIN))
    assert answer.status_code == 201, answer.text
    key: str = answer.json()["key"]
    return key


def mint(relay: RunningRelay, key: str, **wish: Any) -> str:
    answer = relay.http.post("/v1/client_secrets", json=wish, headers=bearer(key))
    token: str = answer.json()["value"]
    return token


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def one(key: bytes) -> Pairs:
    return [(b"authorization", b"Bearer " + key)]


ODD: dict[str, Callable[[bytes], Pairs]] = {
    "cut": lambda key: one(key[:-1]),
    "longer": lambda key: one(key + b"A"),
    "other case": lambda key: one(key.swapcase()),
    "spaces inside": lambda key: one(key[:9] + b" " + key[9:]),
    "two in one": lambda key: one(key + b"," + key),
    "twice": lambda key: one(key) * 2,
    "with a wrong one": lambda key: one(key) + one(b"rk-wrong"),
    "not ASCII": lambda key: one(key[:-2] + "ü".encode()),
    "no text": lambda key: one(key[:-2] + b"\xff\xfe"),
    "padded": lambda key: one(key + b"="),
    "quoted": lambda key: one(b'"' + key + b'"'),
    "percent": lambda key: one(key.replace(b"-", b"%2d")),
    "only its beginning": lambda key: one(key[:3]),
    "basic": lambda key: [(b"authorization", b"Basic " + base64.b64encode(b"x:" + key))],
    "bare": lambda key: [(b"authorization", key)],
    "another header": lambda key: [(b"x-api-key", key)],
    "a cookie": lambda key: [(b"cookie", b"authorization=Bearer " + key)],
    "very long": lambda key: one(key * 100),
}


@pytest.mark.parametrize("kind", ["key", "token"])
def test_19_odd_keys_and_tokens_are_401(relay: RunningRelay, kind: str) -> None:
    key = make(relay)
    shown = key if kind == "key" else mint(relay, key)
    assert relay.http.get("/v1/models", headers=bearer(shown)).status_code == 200
    for odd, made in ODD.items():
        for answer in (
            relay.http.post("/v1/chat/completions", json=chat(), headers=made(shown.encode())),
            relay.http.get("/v1/models", headers=made(shown.encode())),
        ):
            assert answer.status_code == 401, (odd, answer.text)
            assert answer.json()["error"]["code"] == "invalid_api_key", odd
            assert shown not in answer.text, odd


def rewritten(token: str, **fields: Any) -> str:
    """The token with another claim, under the old signature."""
    signed, _, signature = token.removeprefix("ek-").partition(".")
    claims = json.loads(base64.urlsafe_b64decode(signed + "=="))
    text = json.dumps({**claims, **fields}, separators=(",", ":")).encode()
    return f"ek-{base64.urlsafe_b64encode(text).rstrip(b'=').decode()}.{signature}"


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = [json.dumps(part).encode() for part in (header, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


FORGED: dict[str, Callable[[str], str]] = {
    "a later end": lambda token: rewritten(token, e=time.time() + 10_000),
    "another parent": lambda token: rewritten(token, k="key_0000000000000000"),
    "all models": lambda token: rewritten(token, m=None),
    "no signature": lambda token: token.partition(".")[0],
    "an empty signature": lambda token: token.partition(".")[0] + ".",
    "another's signature": lambda token: token[:-6] + ("AAAAAA" if token[-6:] != "AAAAAA" else "B"),
    "no claims": lambda token: "ek-." + token.partition(".")[2],
    "claims that are no object": lambda token: "ek-W10." + token.partition(".")[2],
    "alg none": lambda _: unsigned({"alg": "none"}, {"sub": "x", "exp": time.time() + 99}),
}


def test_19_forged_tokens_are_401(relay: RunningRelay) -> None:
    token = mint(relay, make(relay), models=["small"])
    for forged, made in FORGED.items():
        answer = relay.http.get("/v1/models", headers=bearer(made(token)))
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), (
            forged
        )


def test_19_what_is_over_opens_nothing(relay: RunningRelay) -> None:
    ended = make(relay, expires_at=time.time() - 1)
    key = make(relay)
    token = mint(relay, key, expires_in_s=1)
    listed = relay.http.get("/admin/keys", headers=bearer(ADMIN)).json()["data"]
    assert relay.http.get("/v1/models", headers=bearer(ended)).status_code == 401
    deadline = time.monotonic() + 20
    while relay.http.get("/v1/models", headers=bearer(token)).status_code != 401:
        assert time.monotonic() < deadline
    relay.http.delete(f"/admin/keys/{listed[-1]['id']}", headers=bearer(ADMIN)).raise_for_status()
    assert relay.http.get("/v1/models", headers=bearer(key)).status_code == 401


def test_17_one_kind_of_key_opens_nothing_of_the_other(relay: RunningRelay) -> None:
    key = make(relay)
    for shown in (key, mint(relay, key)):
        for path in ("keys", "teams", "audit", "usage", "upstreams", "mode"):
            assert relay.http.get(f"/admin/{path}", headers=bearer(shown)).status_code == 401
        assert relay.http.post("/admin/keys", json={}, headers=bearer(shown)).status_code == 401
    assert relay.http.get("/v1/models", headers=bearer(ADMIN)).status_code == 401
    assert relay.http.post("/v1/client_secrets", json={}, headers=bearer(ADMIN)).status_code == 401


TARGETS = [
    b"/admin/keys",
    b"//admin/keys",
    b"/admin//keys",
    b"/admin/./keys",
    b"/healthz/../admin/keys",
    b"/healthz/%2e%2e/admin/keys",
    b"/static/..%2fadmin/keys",
    b"/static/%2e%2e%2fadmin%2fkeys",
    b"/v1/../admin/keys",
    b"/v1/models/../../admin/keys",
    b"/v1/models/..;/..;/admin/keys",
    b"/ADMIN/keys",
    b"/%61dmin/keys",
    b"/admin%2fkeys",
    b"/admin/keys;/healthz",
    b"/admin/keys?/healthz",
    b"/admin/keys#/healthz",
    b"/admin/keys/",
    b"/admin\\keys",
    b"/docs/../admin/keys",
    b"http://127.0.0.1/admin/keys",
    b"http://healthz/admin/keys",
]


HOSTS = (b"127.0.0.1", b"x/healthz?", b"healthz")
TRICKS = b"x-forwarded-host: localhost\r\nx-original-url: /healthz\r\nx-rewrite-url: /healthz\r\n"


def raw(relay: RunningRelay, target: bytes, host: bytes) -> bytes:
    address = httpx.URL(relay.root)
    with socket.create_connection((address.host, address.port or 0)) as client:
        head = b"GET " + target + b" HTTP/1.1\r\nhost: " + host + b"\r\n" + TRICKS
        client.sendall(head + b"connection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize("place", [b"admin/keys", b"v1/models"])
def test_17_no_path_or_host_gets_round_a_key(relay: RunningRelay, place: bytes) -> None:
    folder, name = place.split(b"/")
    for written in TARGETS:
        target = written.replace(b"admin", folder).replace(b"keys", name)
        for host in HOSTS:
            answer = raw(relay, target, host)
            refused = (b"HTTP/1.1 401", b"HTTP/1.1 404", b"HTTP/1.1 400")
            assert answer.startswith(refused), (target, host, answer[:200])
            assert b'"prefix"' not in answer, target
            assert b'"object":"list"' not in answer, target
