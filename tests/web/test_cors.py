"""Every status carries the right CORS headers; strangers' pages get nothing."""

import pytest
from fake_script import Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay, chat

LOCAL_PAGE = "http://localhost:3000"
STRANGER = "https://evil.example"
KEY = "rk-browser-0123456789"


def preflight(relay: RunningRelay, origin: str, headers: str = "authorization, content-type"):  # type: ignore[no-untyped-def]  # httpx's
    return relay.http.options(
        "/v1/chat/completions",
        headers={
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": headers,
        },
    )


def test_a_page_on_port_3000_may_call_port_8000(echo: RunningRelay) -> None:
    allowed = preflight(echo, LOCAL_PAGE, "authorization, content-type, x-stainless-os")
    assert allowed.status_code == 204
    assert allowed.headers["access-control-allow-origin"] == LOCAL_PAGE
    assert "x-stainless-os" in allowed.headers["access-control-allow-headers"]
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert allowed.headers["access-control-max-age"] == "600"
    assert "Origin" in allowed.headers["vary"]
    answer = echo.http.post("/v1/chat/completions", json=chat(), headers={"origin": LOCAL_PAGE})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == LOCAL_PAGE
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin",
    [
        STRANGER,
        "null",
        "http://localhost.evil.example:3000",
        "http://localhost:3000.evil.example",
        "http://xlocalhost:3000",
        "http://localhost:",
        "localhost:3000",
        "http://LOCALHOST:3000x",
        "",
    ],
)
def test_a_strangers_page_gets_403_and_no_permission(echo: RunningRelay, origin: str) -> None:
    refused = preflight(echo, origin)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "origin_not_allowed"
    answer = echo.http.post("/v1/chat/completions", json=chat(), headers={"origin": origin})
    assert answer.status_code == 403
    reading = echo.http.get("/v1/models", headers={"origin": origin})
    for one in (refused, answer, reading):
        assert "access-control-allow-origin" not in one.headers
        assert "Origin" in one.headers["vary"]


def test_a_strangers_page_is_refused_in_the_words_of_the_api_it_called(echo: RunningRelay) -> None:
    refused = echo.http.post("/v1/messages", json={}, headers={"origin": STRANGER})
    assert refused.status_code == 403
    body = refused.json()
    assert (body["type"], body["error"]["type"]) == ("error", "permission_error")
    assert body["request_id"] == refused.headers["x-request-id"]


def test_with_a_key_a_stranger_is_served_but_not_shared_with(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", api_keys=[KEY])
    headers = {"origin": STRANGER, "authorization": f"Bearer {KEY}"}
    answer = relay.http.post("/v1/chat/completions", json=chat(), headers=headers)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_a_preflight_needs_no_key(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", api_keys=[KEY])
    assert preflight(relay, LOCAL_PAGE).status_code == 204


@pytest.mark.parametrize("status", [200, 400, 404, 429, 500, 502, 503])
@pytest.mark.parametrize("streamed", [False, True])
def test_every_status_carries_the_headers_once(
    remote: RunningRelay, upstream: FakeUpstream, status: int, streamed: bool
) -> None:
    upstream.answer(
        Script(
            status=status,
            body=b"{}",
            headers=[
                (b"access-control-allow-origin", b"*"),
                (b"access-control-allow-credentials", b"true"),
            ],
        )
    )
    answer = remote.http.post(
        "/v1/chat/completions", json=chat(stream=streamed), headers={"origin": LOCAL_PAGE}
    )
    assert answer.status_code == status
    assert answer.headers.get_list("access-control-allow-origin") == [LOCAL_PAGE]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", "/v1/chat/completions", {}, 405),
        ("POST", "/v1/chat/completions", {"content-type": "text/plain"}, 415),
        ("POST", "/v1/chat/completions", {"content-type": "application/json"}, 400),
    ],
)
def test_our_own_errors_carry_them_too(
    echo: RunningRelay, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = echo.http.request(method, path, headers={**headers, "origin": LOCAL_PAGE})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == LOCAL_PAGE


def test_a_401_carries_them_too(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", api_keys=[KEY])
    answer = relay.http.get("/v1/models", headers={"origin": LOCAL_PAGE})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == LOCAL_PAGE


def test_the_four_knobs(start_relay: StartRelay) -> None:
    relay = start_relay(
        local="echo",
        cors_origins=["https://app.example", "https://dev.example:*"],
        cors_credentials=True,
        cors_methods=["POST"],
        cors_headers=["authorization"],
        cors_max_age_s=5,
    )
    for origin in ("https://app.example", "https://dev.example", "https://dev.example:8443"):
        allowed = preflight(relay, origin, "Authorization, X-Other")
        assert allowed.headers["access-control-allow-origin"] == origin
        assert allowed.headers["access-control-allow-credentials"] == "true"
        assert allowed.headers["access-control-allow-methods"] == "POST"
        assert allowed.headers["access-control-allow-headers"] == "authorization"
        assert allowed.headers["access-control-max-age"] == "5"
    assert preflight(relay, LOCAL_PAGE).status_code == 403


def test_a_preflight_that_asks_for_no_headers_is_allowed_none(echo: RunningRelay) -> None:
    answer = echo.http.options(
        "/v1/models", headers={"origin": LOCAL_PAGE, "access-control-request-method": "GET"}
    )
    assert answer.status_code == 204
    assert "access-control-allow-headers" not in answer.headers


def test_everyone_may_call_when_the_operator_says_so_but_without_cookies(
    start_relay: StartRelay,
) -> None:
    relay = start_relay(local="echo", cors_origins=["*"])
    answer = relay.http.post("/v1/chat/completions", json=chat(), headers={"origin": STRANGER})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers
    assert "vary" not in relay.ask().headers


def test_an_options_request_that_is_no_preflight_is_routed(echo: RunningRelay) -> None:
    assert echo.http.options("/v1/models", headers={"origin": LOCAL_PAGE}).status_code == 405


def test_the_relays_own_page_may_call_it_but_not_under_a_foreign_name(
    start_relay: StartRelay,
) -> None:
    relay = start_relay(local="echo", cors_origins=["https://app.example"])
    own = relay.http.post("/v1/chat/completions", json=chat(), headers={"origin": relay.root})
    assert own.status_code == 200
    rebound = relay.http.post(
        "/v1/chat/completions",
        json=chat(),
        headers={"origin": "http://evil.example", "host": "evil.example"},
    )
    assert rebound.status_code == 403
    guarded = start_relay(local="echo", cors_origins=["https://app.example"], api_keys=[KEY])
    proxied = guarded.http.post(
        "/v1/chat/completions",
        json=chat(),
        headers={
            "origin": "https://relay.company.example",
            "host": "relay.company.example",
            "authorization": f"Bearer {KEY}",
        },
    )
    assert proxied.headers["access-control-allow-origin"] == "https://relay.company.example"
