"""`/admin/keys`, `/admin/teams`, `/admin/audit`: over HTTP, on a real database."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import RunningRelay, StartRelay, chat
from waiting import until

from relay.telemetry.logs import redact

KEY = "ak-admin-0123456789"
ADMIN = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def relay(start_relay: StartRelay, tmp_path: Path) -> RunningRelay:
    return start_relay(
        local="echo",
        admin_key=KEY,
        database_url=f"sqlite:///{tmp_path}/relay.db",
        state_file=tmp_path / "state.json",
    )


def call(relay: RunningRelay, method: str, path: str, body: Any = None) -> httpx.Response:
    content = b"" if body is None else json.dumps(body).encode()
    return relay.http.request(method, f"/admin/{path}", content=content, headers=ADMIN)


def make(relay: RunningRelay, **fields: Any) -> dict[str, Any]:
    answer = call(relay, "POST", "keys", {"name": "ci", **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def status(relay: RunningRelay, key: str) -> int:
    return relay.http.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code


def test_a_key_is_shown_once_and_opens_the_relay_at_once(relay: RunningRelay) -> None:
    assert relay.http.get("/v1/models").status_code == 200  # nobody has a key yet
    made = make(relay, rpm=60, budget_usd=2.5, budget_window="month", metadata={"a": [1]})
    assert made["key"].startswith("rk-")
    assert len(made["key"]) == 46
    assert made["key"].startswith(made["prefix"])
    assert status(relay, made["key"]) == 200
    assert relay.http.get("/v1/models").status_code == 401  # from now on a key is needed
    shown = call(relay, "GET", f"keys/{made['id']}")
    listed = call(relay, "GET", "keys")
    assert made["key"] not in shown.text + listed.text
    state = shown.json()
    assert listed.json()["data"] == [state]
    assert {name: state[name] for name in ("name", "status", "rpm", "tpm", "metadata")} == {
        "name": "ci",
        "status": "active",
        "rpm": 60,
        "tpm": None,
        "metadata": {"a": [1]},
    }
    assert (state["budget_usd"], state["budget_window"]) == (2.5, "month")
    assert state["last_used_at"] == pytest.approx(time.time(), abs=60)


def test_only_what_is_given_changes_and_null_clears(relay: RunningRelay) -> None:
    made = make(
        relay,
        models=["a"],
        rpm=1,
        budget_usd=1,
        budget_window="day",
        origins=["https://a.example"],
        networks=["10.0.0.1/8"],
        expires_at="2099-01-01",
        keep_bodies=True,
        metadata={"x": 1},
    )
    path = f"keys/{made['id']}"
    assert made["networks"] == ["10.0.0.0/8"]
    assert made["expires_at"] == 4070908800
    changed = call(relay, "PATCH", path, {"tpm": 5, "name": "new"}).json()
    assert {name for name in changed if changed[name] != made.get(name)} <= {"tpm", "name"}
    cleared = call(
        relay,
        "PATCH",
        path,
        dict.fromkeys(
            (
                "models",
                "rpm",
                "budget_usd",
                "budget_window",
                "origins",
                "networks",
                "expires_at",
                "keep_bodies",
                "metadata",
                "team",
            )
        ),
    ).json()
    for name in ("models", "rpm", "budget_usd", "origins", "networks", "expires_at", "team"):
        assert cleared[name] is None
    assert (cleared["budget_window"], cleared["keep_bodies"], cleared["metadata"]) == (
        "total",
        False,
        {},
    )
    assert (cleared["tpm"], cleared["name"]) == (5, "new")
    assert call(relay, "PATCH", path).json() == cleared


def test_a_revoked_key_ends_at_once_and_stays_to_be_seen(relay: RunningRelay) -> None:
    made = make(relay)
    assert status(relay, made["key"]) == 200
    gone = call(relay, "DELETE", f"keys/{made['id']}")
    assert (gone.status_code, gone.json()["status"]) == (200, "revoked")
    assert status(relay, made["key"]) == 401
    assert call(relay, "DELETE", f"keys/{made['id']}").json() == gone.json()
    assert call(relay, "GET", "keys").json()["data"] == []
    assert call(relay, "GET", "keys?revoked=true").json()["data"] == [gone.json()]
    for method, path in (("PATCH", ""), ("POST", "/rotate")):
        answer = call(relay, method, f"keys/{made['id']}{path}", {})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert relay.http.get("/v1/models").status_code == 401  # the last key's end opens nothing


def test_a_rotated_key_has_a_grace(relay: RunningRelay) -> None:
    made = make(relay)
    new = call(relay, "POST", f"keys/{made['id']}/rotate", {"grace_s": 60}).json()
    assert (new["id"], new["name"]) == (made["id"], "ci")
    assert new["previous_until"] == pytest.approx(time.time() + 60, abs=20)
    assert [status(relay, key) for key in (made["key"], new["key"])] == [200, 200]
    newest = call(relay, "POST", f"keys/{made['id']}/rotate").json()
    keys = (made["key"], new["key"], newest["key"])
    assert [status(relay, key) for key in keys] == [401, 401, 200]


def test_what_is_spent_of_a_budget_is_shown_and_when_it_begins_anew(
    start_relay: StartRelay, tmp_path: Path
) -> None:
    relay = start_relay(
        local="echo",
        admin_key=KEY,
        database_url=f"sqlite:///{tmp_path}/relay.db",
        ledger_flush_s=0.05,
        prices=[{"model": "*", "completion_usd": 1_000_000}],
    )
    team = call(relay, "POST", "teams", {"name": "t", "budget_usd": 500}).json()
    made = make(relay, team="t", budget_usd=100, budget_window="day")
    assert (made["spent_usd"], team["spent_usd"], team["budget_resets_at"]) == (0, 0, None)
    assert 0 < made["budget_resets_at"] - time.time() <= 86400
    free = make(relay)
    assert (free["spent_usd"], free["budget_resets_at"]) == (None, None)
    answer = relay.http.post(
        "/v1/chat/completions",
        json=chat("one two three", max_tokens=3),
        headers={"authorization": f"Bearer {made['key']}"},
    )
    spent = answer.json()["usage"]["completion_tokens"]
    assert spent
    until(lambda: call(relay, "GET", f"keys/{made['id']}").json()["spent_usd"] == spent)
    assert call(relay, "GET", f"teams/{team['id']}").json()["spent_usd"] == spent
    for kind in ("keys", "teams"):
        assert spent in [one["spent_usd"] for one in call(relay, "GET", kind).json()["data"]]


def test_an_expired_key_is_401_and_shown_as_such(relay: RunningRelay) -> None:
    made = make(relay, expires_at=time.time() - 1)
    assert made["status"] == "expired"
    assert status(relay, made["key"]) == 401


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": 5}, "name"),
        ({"name": "a", "rpm": 0}, "rpm"),
        ({"name": "a", "rpm": 1.5}, "rpm"),
        ({"name": "a", "budget_usd": -1}, "budget_usd"),
        ({"name": "a", "budget_window": "year"}, "budget_window"),
        ({"name": "a", "models": []}, "models"),
        ({"name": "a", "models": "m"}, "models"),
        ({"name": "a", "models": ["a", 5]}, "models[1]"),
        ({"name": "a", "origins": ["https://a.example/path"]}, "origins[0]"),
        ({"name": "a", "networks": ["10.0.0.0/99"]}, "networks[0]"),
        ({"name": "a", "expires_at": "soon"}, "expires_at"),
        ({"name": "a", "metadata": []}, "metadata"),
        ({"name": "a", "team": "nobody"}, "team"),
        ({"name": "a", "rqm": 5}, "rqm"),
        ([], None),
    ],
)
def test_what_is_wrong_is_named(relay: RunningRelay, body: Any, param: str | None) -> None:
    answer = call(relay, "POST", "keys", body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_an_origin_that_is_none_is_told_how_one_is_written(relay: RunningRelay) -> None:
    answer = call(relay, "POST", "keys", {"name": "a", "origins": ["https://A.example/"]})
    message = answer.json()["error"]["message"]
    assert "'https://A.example/' is no origin" in message
    assert "in lower case and without a path or a slash at the end" in message


def test_no_json_is_said_so_and_a_name_cannot_be_taken_away(relay: RunningRelay) -> None:
    answer = relay.http.post("/admin/keys", content=b"{", headers=ADMIN)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, None)
    made = make(relay)
    team = call(relay, "POST", "teams", {"name": "t"}).json()
    for path in (f"keys/{made['id']}", f"teams/{team['id']}"):
        answer = call(relay, "PATCH", path, {"name": None})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "name")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "keys/key_0"),
        ("PATCH", "keys/key_0"),
        ("DELETE", "keys/key_0"),
        ("POST", "keys/key_0/rotate"),
        ("GET", "teams/team_0"),
        ("PATCH", "teams/team_0"),
        ("DELETE", "teams/team_0"),
    ],
)
def test_an_id_that_is_not_there_is_404(relay: RunningRelay, method: str, path: str) -> None:
    answer = call(relay, method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_team_is_made_changed_joined_and_ends_last(relay: RunningRelay) -> None:
    made = call(relay, "POST", "teams", {"name": "ops", "tpm": 10, "models": ["m"]})
    assert made.status_code == 201
    team = made.json()
    assert call(relay, "POST", "teams", {"name": "ops"}).status_code == 409
    key = make(relay, team="ops")
    assert key["team"] == team["id"]
    path = f"teams/{team['id']}"
    changed = call(
        relay, "PATCH", path, {"tpm": None, "budget_usd": 5, "models": None, "metadata": {"a": 1}}
    ).json()
    assert (changed["tpm"], changed["budget_usd"], changed["models"]) == (None, 5, None)
    assert call(relay, "GET", path).json() == changed
    assert call(relay, "GET", "teams").json()["data"] == [changed]
    call(relay, "POST", "teams", {"name": "dev"})
    assert call(relay, "PATCH", path, {"name": "dev"}).status_code == 409
    assert call(relay, "PATCH", path, {"name": "sre"}).json()["name"] == "sre"
    assert call(relay, "DELETE", path).status_code == 409
    call(relay, "PATCH", f"keys/{key['id']}", {"team": None})
    assert call(relay, "DELETE", path).status_code == 200
    assert [one["name"] for one in call(relay, "GET", "teams").json()["data"]] == ["dev"]


def test_every_act_is_noted_and_none_of_it_holds_a_key(
    relay: RunningRelay, caplog: pytest.LogCaptureFixture
) -> None:
    made = make(relay, rpm=5)
    call(relay, "PATCH", f"keys/{made['id']}", {"rpm": None})
    new = call(relay, "POST", f"keys/{made['id']}/rotate", {"grace_s": 1}).json()
    call(relay, "DELETE", f"keys/{made['id']}")
    team = call(relay, "POST", "teams", {"name": "t"}).json()
    call(relay, "PATCH", f"teams/{team['id']}", {"rpm": 1})
    call(relay, "DELETE", f"teams/{team['id']}")
    call(relay, "PUT", "mode", {"mode": "local"})
    call(relay, "POST", "reload")
    told = call(relay, "GET", "audit")
    acts = told.json()["data"]
    assert [(act["act"], act["subject"]) for act in reversed(acts)] == [
        ("key.create", made["id"]),
        ("key.update", made["id"]),
        ("key.rotate", made["id"]),
        ("key.revoke", made["id"]),
        ("team.create", team["id"]),
        ("team.update", team["id"]),
        ("team.delete", team["id"]),
        ("mode.set", "local"),
        ("reload", "configuration"),
    ]
    assert [redact(act["act"]) for act in acts] == [act["act"] for act in acts], "in the log, too"
    created = acts[-1]
    assert created["source"] == "127.0.0.1"
    assert created["detail"]["by"].startswith("admin-")
    assert (created["detail"]["name"], created["detail"]["rpm"]) == ("ci", 5)
    for secret in (KEY, made["key"], new["key"]):
        assert secret not in told.text + caplog.text
    assert call(relay, "GET", "audit?limit=1").json()["data"] == acts[:1]
    older = call(relay, "GET", f"audit?limit=2&before={acts[0]['at']}").json()["data"]
    assert older == acts[1:3]
    assert call(relay, "GET", "audit?limit=0").json()["error"]["param"] == "limit"


def test_without_a_database_the_admin_api_says_so_and_the_rest_goes_on(
    start_relay: StartRelay, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    relay = start_relay(
        local="echo",
        admin_key=KEY,
        api_keys="rk-file-0123456789",
        database_url=f"sqlite:///{tmp_path}/no/relay.db",
        state_file=tmp_path / "state.json",
    )
    for method, path in (("POST", "keys"), ("GET", "keys"), ("GET", "teams"), ("GET", "audit")):
        answer = call(relay, method, path, {"name": "a"} if method == "POST" else None)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"]
        assert "cannot be opened" in error["message"]
    assert call(relay, "PUT", "mode", {"mode": "local"}).status_code == 200
    assert "admin_act_not_kept" in caplog.text
    assert status(relay, "rk-file-0123456789") == 200
    assert status(relay, "wrong") == 401
    assert status(relay, "rk-" + "A" * 43) == 503


def test_where_nothing_is_remembered_there_are_no_keys_to_make(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", admin_key=KEY)
    assert call(relay, "POST", "keys", {"name": "a"}).status_code == 404
    assert call(relay, "POST", "reload").status_code == 409
