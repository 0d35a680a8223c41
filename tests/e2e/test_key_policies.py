"""What keys and tokens may do, over HTTP and over the WebSocket: models, pages, addresses."""

import hashlib
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_script import Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay, chat
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

ADMIN_KEY = "ak-admin-0123456789"
FULL = "rk-full-0123456789"
SMALL = "rk-small-0123456789"
PAGE = "rk-page-0123456789"
AWAY = "rk-away-0123456789"
ORIGIN = "https://app.example"


def named(name: str, key: str, **policy: Any) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), **policy}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def relay(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    return start_relay(
        upstream_url=upstream.url,
        cors_origins=[ORIGIN, "https://other.example"],
        passthrough=["default", "/v1/files*"],
        keys=[
            named("full", FULL),
            named("small", SMALL, models=["small", "vendor/*"]),
            named("page", PAGE, origins=[ORIGIN]),
            named("away", AWAY, networks=["10.0.0.0/8"]),
        ],
    )


def ask(relay: RunningRelay, key: str, model: str = "small", **more: Any) -> httpx.Response:
    body = {**chat(), "model": model}
    return relay.http.post("/v1/chat/completions", json=body, headers=bearer(key), **more)


def error_of(answer: httpx.Response) -> tuple[int, str, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["type"], error["code"], error["param"]


NOT_ALLOWED = (403, "permission_error", "model_not_allowed", "model")


def test_a_key_uses_the_models_of_its_list(relay: RunningRelay, upstream: FakeUpstream) -> None:
    for model in ("small", "vendor/big"):
        assert ask(relay, SMALL, model).status_code == 200
    asked = len(upstream.requests)
    assert error_of(ask(relay, SMALL, "big")) == NOT_ALLOWED
    answer = relay.http.post("/v1/chat/completions", json=chat(stream=True), headers=bearer(SMALL))
    assert error_of(answer) == NOT_ALLOWED
    message = {"model": "big", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    answer = relay.http.post("/v1/messages", json=message, headers={"x-api-key": SMALL})
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")
    assert len(upstream.requests) == asked
    assert ask(relay, FULL, "big").status_code == 200


def test_what_is_passed_on_has_to_show_its_model(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(body=b'{"object": "list", "data": []}'), times=4)

    def embed(key: str, **body: Any) -> httpx.Response:
        return relay.http.post("/v1/embeddings", json={"input": "x", **body}, headers=bearer(key))

    assert embed(SMALL, model="small").status_code == 200
    assert error_of(embed(SMALL, model="big")) == NOT_ALLOWED
    assert error_of(embed(SMALL)) == NOT_ALLOWED
    file = {"file": ("a.wav", b"x")}
    for key, model, allowed in ((SMALL, "big", False), (FULL, "big", True)):
        answers = [
            relay.http.post(
                "/v1/audio/transcriptions", files=file, data={"model": model}, headers=bearer(key)
            ),
            relay.http.get("/v1/files", headers=bearer(key)),
        ]
        assert all((answer.status_code == 200) is allowed for answer in answers)
        if not allowed:
            assert all(error_of(answer) == NOT_ALLOWED for answer in answers)
    short = relay.http.post(
        "/v1/audio/transcriptions", files=file, data={"model": "small"}, headers=bearer(SMALL)
    )
    assert short.status_code == 200
    long = {"file": ("a.wav", b"x" * 100_000)}
    unseen = relay.http.post(
        "/v1/audio/transcriptions", files=long, data={"model": "small"}, headers=bearer(SMALL)
    )
    assert error_of(unseen) == NOT_ALLOWED
    named_in_vain = relay.http.request(
        "DELETE", "/v1/files/f", json={"model": "small"}, headers=bearer(SMALL)
    )
    assert error_of(named_in_vain) == NOT_ALLOWED
    assert relay.http.delete("/v1/files/f", headers=bearer("rk-none")).status_code == 401


OTHERS: list[dict[str, Any]] = [
    {"models": ["big"]},
    {"models": ["small", "big"]},
    {"fallbacks": ["big"]},
    {"fallbacks": [{"model": "small"}]},
    {"tools": [{"type": "image_generation", "model": "big"}]},
]


@pytest.mark.parametrize("more", OTHERS)
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"]
)
def test_no_other_member_brings_a_key_to_another_model(
    relay: RunningRelay, upstream: FakeUpstream, path: str, more: dict[str, Any]
) -> None:
    body = {**chat(), "model": "small", "max_tokens": 5, "input": "x", **more}
    answer = relay.http.post(path, json=body, headers=bearer(SMALL))
    assert answer.status_code == 403, answer.text
    assert "model" in answer.json()["error"]["message"]
    assert not upstream.requests
    relay.http.post(path, json=body, headers=bearer(FULL))
    if path != "/v1/messages":  # goes as a chat completion, to which some of it is nothing
        assert json.loads(upstream.requests[-1].body) == body


def test_neither_query_nor_path_nor_form_brings_a_key_to_another_model(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = start_relay(
        upstream_url=upstream.url, passthrough="*", keys=[named("small", SMALL, models=["small"])]
    )

    def post(path: str, **more: Any) -> tuple[int, str, str, str | None]:
        return error_of(relay.http.post(path, headers=bearer(SMALL), **more))

    body = {"model": "small", "input": "x"}
    for path in (
        "/v1/embeddings?model=big",
        "/v1/embeddings?models%5B%5D=big",
        "/v1/engines/big/embeddings",
        "/v1/deployments/big/completions",
        "/v1/models/big:generate",
        "/v1/batches",
    ):
        assert post(path, json=body) == NOT_ALLOWED, path
    sound = {"file": ("a.wav", b"x")}
    for form in (
        {"model": "big"},
        {"model": ["small", "big"]},
        {"model": "small", "models": "big"},
    ):
        status, _, _, param = post("/v1/audio/transcriptions", data=form, files=sound)
        assert (status in (400, 403), param) == (True, "model"), form
    assert not upstream.requests
    upstream.answer(Script(body=b"{}"))
    allowed = relay.http.post("/v1/embeddings", json=body, headers=bearer(SMALL))
    assert allowed.status_code == 200


def test_models_are_listed_for_whom_may_use_them(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    cards = [{"id": name, "object": "model", "x": 1} for name in ("big", "small", "vendor/a")]
    script = Script(body=json.dumps({"object": "list", "data": [*cards, {"no": "id"}]}).encode())
    upstream.answer(script, path="/v1/models", times=2)
    shown = relay.http.get("/v1/models", headers=bearer(SMALL))
    assert shown.json() == {"object": "list", "data": cards[1:]}
    assert shown.headers["content-type"] == "application/json"
    assert len(relay.http.get("/v1/models", headers=bearer(FULL)).json()["data"]) == 4
    assert relay.http.get("/v1/models/big", headers=bearer(SMALL)).status_code == 404
    upstream.answer(Script(body=b'{"id": "small"}'), path="/v1/models/small")
    assert relay.http.get("/v1/models/small", headers=bearer(SMALL)).json() == {"id": "small"}
    upstream.answer(Script(body=b'{"data": 5}'), path="/v1/models")
    assert relay.http.get("/v1/models", headers=bearer(SMALL)).json()["data"] == []


def test_configured_models_are_listed_likewise(start_relay: StartRelay) -> None:
    targets = [{"local": True}]
    relay = start_relay(
        local="echo",
        keys=[named("small", SMALL, models=["a*"])],
        models=[{"id": name, "targets": targets} for name in ("ab", "bc")],
    )
    shown = relay.http.get("/v1/models", headers=bearer(SMALL)).json()["data"]
    assert [card["id"] for card in shown] == ["ab"]
    assert relay.http.get("/v1/models/bc", headers=bearer(SMALL)).status_code == 404


@pytest.mark.parametrize("origin", [None, "https://other.example", "https://evil.example"])
def test_a_key_for_a_page_opens_nothing_elsewhere_and_says_so_to_pages(
    relay: RunningRelay, origin: str | None
) -> None:
    headers = bearer(PAGE) | ({} if origin is None else {"origin": origin})
    answer = relay.http.post("/v1/chat/completions", json=chat(), headers=headers)
    assert error_of(answer)[:3] == (403, "permission_error", "origin_not_allowed")
    shared = answer.headers.get("access-control-allow-origin")
    assert shared == (origin if origin == "https://other.example" else None)


def test_a_key_for_a_page_opens_there(relay: RunningRelay) -> None:
    headers = bearer(PAGE) | {"origin": ORIGIN}
    answer = relay.http.post("/v1/chat/completions", json=chat(), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN


def test_a_key_for_a_network_opens_nothing_elsewhere(relay: RunningRelay) -> None:
    assert error_of(ask(relay, AWAY))[:3] == (403, "permission_error", "address_not_allowed")


def test_a_key_for_this_network_opens(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", keys=[named("here", AWAY, networks=["127.0.0.0/8"])])
    assert ask(relay, AWAY).status_code == 200
    assert relay.http.get("/v1/models", headers=bearer(AWAY)).status_code == 200


# Tokens


def mint(relay: RunningRelay, key: str, **wish: Any) -> httpx.Response:
    return relay.http.post("/v1/client_secrets", json=wish, headers=bearer(key))


def token(relay: RunningRelay, key: str = FULL, **wish: Any) -> str:
    answer = mint(relay, key, **wish)
    assert answer.status_code == 200, answer.text
    value: str = answer.json()["value"]
    return value


def test_a_token_is_made_used_and_limited(relay: RunningRelay) -> None:
    made = mint(relay, FULL, expires_in_s=60, models=["small"], origins=[ORIGIN])
    assert made.headers["cache-control"] == "no-store"
    assert made.json()["expires_at"] == pytest.approx(time.time() + 60, abs=20)
    value = made.json()["value"]
    headers = bearer(value) | {"origin": ORIGIN}
    body = {**chat(), "model": "small"}
    answer = relay.http.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200
    big = relay.http.post("/v1/chat/completions", json=chat(), headers=headers)
    assert error_of(big) == NOT_ALLOWED
    assert error_of(ask(relay, value))[2] == "origin_not_allowed"
    assert mint(relay, FULL).json()["expires_at"] == pytest.approx(time.time() + 600, abs=20)


@pytest.mark.parametrize(
    ("wish", "status", "param"),
    [
        ({"expires_in_s": 0}, 400, "expires_in_s"),
        ({"expires_in_s": 3601}, 400, "expires_in_s"),
        ({"models": []}, 400, "models"),
        ({"max_requests": 0}, 400, "max_requests"),
        ({"origin": ORIGIN}, 400, "origin"),
        ({"models": ["big"]}, 403, "models"),
    ],
)
def test_a_wish_that_cannot_be_granted_is_named(
    relay: RunningRelay, wish: dict[str, Any], status: int, param: str
) -> None:
    answer = mint(relay, SMALL, **wish)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_a_token_makes_no_tokens_and_a_wrong_key_none_either(relay: RunningRelay) -> None:
    assert error_of(mint(relay, token(relay)))[:3] == (403, "permission_error", "not_permitted")
    assert mint(relay, "rk-wrong").status_code == 401
    assert relay.http.get("/v1/client_secrets", headers=bearer(FULL)).status_code == 405


def test_where_nobody_needs_a_key_there_are_no_tokens(echo: RunningRelay) -> None:
    answer = echo.http.post("/v1/client_secrets", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert "no keys" in answer.json()["error"]["message"]


def test_another_replica_knows_a_token_and_its_parents_end_is_its_own(
    start_relay: StartRelay, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "local": "echo",
        "admin_key": ADMIN_KEY,
        "database_url": f"sqlite:///{tmp_path}/relay.db",
        "keys_refresh_s": 0.05,
    }
    here, there = start_relay(**settings), start_relay(**settings)
    made = here.http.post("/admin/keys", json={"name": "app"}, headers=bearer(ADMIN_KEY)).json()
    value = token(here, made["key"])
    assert ask(there, value).status_code == 200  # its parent is new there, so it is looked for
    rotated = there.http.post(
        f"/admin/keys/{made['id']}/rotate", json={"grace_s": 300}, headers=bearer(ADMIN_KEY)
    ).json()
    younger = token(there, rotated["key"])
    assert [ask(there, one).status_code for one in (value, younger)] == [200, 200]
    here.http.delete(f"/admin/keys/{made['id']}", headers=bearer(ADMIN_KEY)).raise_for_status()
    assert [ask(here, one).status_code for one in (value, younger)] == [401, 401]
    deadline = time.monotonic() + 5
    while ask(there, younger).status_code != 401:
        assert time.monotonic() < deadline
    assert ask(there, value).status_code == 401


# The WebSocket


def dial(relay: RunningRelay, key: str, **more: Any) -> ClientConnection:
    address = relay.root.replace("http", "ws") + "/ws"
    return connect(address, proxy=None, subprotocols=["relay", f"key.{key}"], **more)


def turn(socket: ClientConnection, **frame: Any) -> dict[str, Any]:
    """The last frame of an answer."""
    socket.send(json.dumps({"query": "x", **frame}))
    while (answer := json.loads(socket.recv(timeout=20)))["status"] == 202:
        pass
    found: dict[str, Any] = answer
    return found


def test_the_socket_holds_to_models_and_takes_an_allowed_one_when_none_is_named(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    cards = [{"id": name} for name in ("big", "vendor/a", "small")]
    upstream.answer(Script(body=json.dumps({"data": cards}).encode()), path="/v1/models")
    with dial(relay, SMALL) as socket:
        assert turn(socket) == {"status": 200}
        assert json.loads(upstream.requests[-1].body)["model"] == "vendor/a"
        refused = turn(socket, model="big")
        assert (refused["status"], refused["error"]["code"]) == (403, "model_not_allowed")


def test_the_socket_holds_to_pages(relay: RunningRelay) -> None:
    value = token(relay, FULL, origins=[ORIGIN])
    for key in (PAGE, value):
        with dial(relay, key, origin=ORIGIN) as socket:
            assert turn(socket, model="small") == {"status": 200}
        with pytest.raises(InvalidStatus) as refused, dial(relay, key):
            pass
        assert refused.value.response.status_code == 403
        with connect(relay.root.replace("http", "ws") + "/ws", proxy=None) as socket:
            socket.send(json.dumps({"key": key}))
            answer = json.loads(socket.recv(timeout=20))
            assert answer["error"]["code"] == "origin_not_allowed"
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=20)


def test_an_open_socket_ends_with_its_key(start_relay: StartRelay, tmp_path: Path) -> None:
    relay = start_relay(
        local="echo", admin_key=ADMIN_KEY, database_url=f"sqlite:///{tmp_path}/relay.db"
    )
    made = relay.http.post("/admin/keys", json={"name": "a"}, headers=bearer(ADMIN_KEY)).json()
    with dial(relay, made["key"]) as socket:
        assert turn(socket) == {"status": 200}
        relay.http.delete(f"/admin/keys/{made['id']}", headers=bearer(ADMIN_KEY))
        assert turn(socket)["error"]["code"] == "invalid_api_key"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_a_key_that_cannot_be_looked_for_is_told_to_come_again(
    start_relay: StartRelay, tmp_path: Path
) -> None:
    relay = start_relay(
        local="echo", admin_key=ADMIN_KEY, database_url=f"sqlite:///{tmp_path}/no/relay.db"
    )
    unknown = "rk-" + "A" * 43
    with pytest.raises(InvalidStatus) as refused, dial(relay, unknown):
        pass
    assert refused.value.response.status_code == 503
    with connect(relay.root.replace("http", "ws") + "/ws", proxy=None) as socket:
        socket.send(json.dumps({"key": unknown}))
        assert json.loads(socket.recv(timeout=20))["error"]["code"] == "overloaded"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013
    assert relay.http.get("/v1/models").status_code == 401


def test_what_is_remembered_of_calls_opens_no_way_round_and_wrong_keys_leave_nothing(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path
) -> None:
    relay = start_relay(
        upstream_url=upstream.url,
        admin_key=ADMIN_KEY,
        database_url=f"sqlite:///{tmp_path}/relay.db",
        passthrough=["*"],
        keys=[named("small", SMALL, models=["small"])],
    )
    answer = relay.http.request(
        "DELETE", "/v1/files/f", json={"model": "small"}, headers=bearer(SMALL)
    )
    assert error_of(answer) == NOT_ALLOWED
    assert not upstream.requests
    for number in range(20):
        key = bearer(f"rk-{number:043}")
        assert relay.http.post("/v1/chat/completions", json=chat(), headers=key).status_code == 401
    assert ask(relay, SMALL).status_code == 200
    relay.stop()
    rows = sqlite3.connect(tmp_path / "relay.db").execute("SELECT key_id FROM relay_ledger")
    assert {row[0] for row in rows.fetchall()} == {"key_small"}
