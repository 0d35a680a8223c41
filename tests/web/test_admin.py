"""The admin API: its own key, and the mode."""

from pathlib import Path
from typing import Any

import pytest
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay

KEY = "ak-admin-0123456789"
CLIENT_KEY = "rk-client-0123456789"
ADMIN = {"authorization": f"Bearer {KEY}"}
CLIENT = {"authorization": f"Bearer {CLIENT_KEY}"}


@pytest.fixture
def relay(start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path) -> RunningRelay:
    return start_relay(
        upstream_url=upstream.url,
        local="echo",
        admin_key=KEY,
        api_keys=CLIENT_KEY,
        cors_origins="https://app.example",
        state_file=tmp_path / "state.json",
    )


def put(relay: RunningRelay, body: Any) -> dict[str, Any]:
    answer = relay.http.put("/admin/mode", json=body, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_mode_is_shown(relay: RunningRelay) -> None:
    relay.http.post(
        "/v1/chat/completions",
        json={"model": "m", "messages": [{"role": "user", "content": "x"}]},
        headers=CLIENT,
    ).raise_for_status()
    answer = relay.http.get("/admin/mode", headers=ADMIN)
    state = answer.json()
    assert answer.status_code == 200
    assert isinstance(state.pop("since"), int)
    assert state == {
        "mode": "auto",
        "serving": "remote",
        "moves": {"remote": 0, "local": 0},
        "upstreams": {"upstream": "reachable"},
        "ledger": False,
    }


def test_the_mode_is_changed_for_the_calls_that_follow(relay: RunningRelay) -> None:
    for mode, serving, target in (
        ("local", "local", "local"),
        ("remote", "remote", "upstream"),
        ("auto", "remote", "upstream"),
    ):
        state = put(relay, {"mode": mode})
        assert (state["mode"], state["serving"], state["kept"]) == (mode, serving, True)
        answer = relay.http.post(
            "/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "x"}]},
            headers=CLIENT,
        )
        assert answer.headers["x-relay-upstream"] == target
        assert relay.http.get("/readyz").json()["serving"] == serving
    assert state["moves"] == {"remote": 1, "local": 1}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"{}", b'{"mode": "off"}', b'{"mode": ["local"]}', b"\xff"],
)
def test_a_bad_body_is_told_by_its_field(relay: RunningRelay, body: bytes) -> None:
    answer = relay.http.put("/admin/mode", content=body, headers=ADMIN)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "mode")


def test_a_mode_that_cannot_be_is_refused(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", admin_key=KEY)
    answer = relay.http.put("/admin/mode", json={"mode": "remote"}, headers=ADMIN)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "mode"
    assert relay.http.get("/admin/mode", headers=ADMIN).json()["mode"] == "auto"


@pytest.mark.parametrize(
    "headers", [{}, CLIENT, {"authorization": f"Basic {KEY}"}, {"authorization": f"Bearer {KEY}x"}]
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("path", ["/admin/mode", "/admin", "/admin/nothing"])
def test_only_the_admin_key_opens_it(
    relay: RunningRelay, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = relay.http.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_the_admin_key_opens_nothing_else(relay: RunningRelay) -> None:
    for path in ("/v1/models", "/v1/files", "/administration", "/nothing"):
        assert relay.http.get(path, headers=ADMIN).status_code == 401
    assert relay.http.get("/admin/nothing", headers=ADMIN).status_code == 404


@pytest.mark.parametrize("headers", [{}, ADMIN, CLIENT])
@pytest.mark.parametrize("path", ["/admin/mode", "/admin", "/admin/nothing"])
def test_without_an_admin_key_nothing_is_there(
    start_relay: StartRelay, path: str, headers: dict[str, str]
) -> None:
    relay = start_relay(local="echo", api_keys=CLIENT_KEY)
    for method in ("GET", "PUT", "POST"):
        answer = relay.http.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_pages_that_are_named_may_call_it(relay: RunningRelay) -> None:
    origin = {"origin": "https://app.example"}
    for headers, status in ((ADMIN, 200), (CLIENT, 401)):
        answer = relay.http.get("/admin/mode", headers=headers | origin)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
    preflight = relay.http.options(
        "/admin/mode", headers=origin | {"access-control-request-method": "PUT"}
    )
    assert preflight.status_code in (200, 204)
    elsewhere = relay.http.get("/admin/mode", headers=ADMIN | {"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in elsewhere.headers


def test_a_body_without_an_end_is_refused(relay: RunningRelay) -> None:
    answer = relay.http.put("/admin/mode", content=b" " * 100_000, headers=ADMIN)
    assert answer.status_code == 413
