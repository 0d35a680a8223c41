"""`GET /admin/usage` and `/admin/requests`."""

import time
from pathlib import Path
from typing import Any

import ledger_file
import pytest
import transcripts
from fake_script import Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay

KEY = "ak-admin-0123456789"
CLIENT_KEY = "rk-client-0123456789"
ADMIN = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def relay(start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path) -> RunningRelay:
    """One that has answered three calls, refused one, and written that down."""
    path = tmp_path / "relay.db"
    relay = start_relay(
        upstream_url=upstream.url,
        admin_key=KEY,
        api_keys=CLIENT_KEY,
        prices=[{"model": "gpt-*", "prompt_usd": 1, "completion_usd": 2}],
        database_url=ledger_file.url(path),
        ledger_flush_s=0.05,
    )
    relay.http.headers["authorization"] = f"Bearer {CLIENT_KEY}"
    upstream.answer(Script(body=transcripts.chat_body("x")))
    for model in ("gpt-1", "gpt-1", "gpt-2"):
        relay.ask(model=model).raise_for_status()
    assert relay.ask(model="gpt-2", messages=[]).status_code == 400
    while len(ledger_file.rows(path)) < 4:
        time.sleep(0.005)  # the relay's thread rings no bell
    return relay


def get(relay: RunningRelay, path: str, **params: Any) -> Any:
    answer = relay.http.get(f"/admin/{path}", params=params, headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_usage_is_summed_by_what_was_asked_for(relay: RunningRelay) -> None:
    report = get(relay, "usage", group_by="model,upstream")
    lines = {line["model"]: line for line in report["data"]}
    assert set(lines) == {"gpt-1", "gpt-2", ""}  # the one that was refused reached no model
    assert (lines["gpt-1"]["requests"], lines["gpt-1"]["cost_usd"]) == (2, 0.000026)
    assert (lines["gpt-1"]["upstream"], lines[""]["upstream"]) == ("upstream", "")
    assert (lines[""]["errors"], lines[""]["cost_usd"]) == (1, 0)
    assert report["total"]["requests"] == 4
    assert report["total"]["prompt_tokens"] == 9
    assert get(relay, "usage", model="gpt-2")["total"]["requests"] == 1
    assert get(relay, "usage", to="2026-01-01")["data"] == []
    assert [line["key_name"] for line in get(relay, "usage", group_by="key,team")["data"]]


def test_requests_are_listed_page_by_page(relay: RunningRelay) -> None:
    first = get(relay, "requests", limit=3)
    assert [one["status"] for one in first["data"]] == [400, 200, 200]
    assert first["data"][1]["cost_usd"] == 0.000013
    rest = get(relay, "requests", before=first["next_before"])
    assert [one["model_asked"] for one in rest["data"]] == ["gpt-1"]
    assert rest["next_before"] is None
    assert CLIENT_KEY not in str(first)


def test_requests_are_found_by_key_model_upstream_and_status(relay: RunningRelay) -> None:
    assert [one["status"] for one in get(relay, "requests", status="failed")["data"]] == [400]
    key = get(relay, "requests")["data"][0]["key_id"]
    found = get(relay, "requests", model="gpt-1", status="ok", upstream="upstream", key=key)
    assert [one["model_served"] for one in found["data"]] == ["gpt-1", "gpt-1"]
    assert get(relay, "requests", status="429")["data"] == []


def test_percentiles_are_told_when_they_are_asked_for(relay: RunningRelay) -> None:
    report = get(relay, "usage", group_by="hour,model", percentiles="true")
    lines = {line["model"]: line["latency_s"] for line in report["data"]}
    assert 0 < lines["gpt-1"]["p50"] <= lines["gpt-1"]["p99"] < 60
    assert lines[""] == {"p50": None, "p95": None, "p99": None}
    assert 0 < report["total"]["latency_s"]["p95"] < 60
    assert "latency_s" not in get(relay, "usage")["total"]


@pytest.mark.parametrize(
    ("path", "params", "param"),
    [
        ("usage", {"group_by": "colour"}, "group_by"),
        ("usage", {"from": "yesterday"}, "from"),
        ("usage", {"form": "2026-01-01"}, "form"),
        ("usage", [("to", "1"), ("to", "2")], "to"),
        ("usage", {"percentiles": "1"}, "percentiles"),
        ("requests", {"limit": "many"}, "limit"),
        ("requests", {"status": "bad"}, "status"),
        ("requests", {"team": "t"}, "team"),
    ],
)
def test_a_wrong_question_is_refused_by_its_name(
    relay: RunningRelay, path: str, params: Any, param: str
) -> None:
    answer = relay.http.get(f"/admin/{path}", params=params, headers=ADMIN)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_nobody_but_the_operator_may_ask(relay: RunningRelay) -> None:
    for path in ("usage", "requests"):
        assert relay.http.get(f"/admin/{path}").status_code == 401


def test_a_store_that_is_away_is_told_and_no_reason_to_refuse_calls(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.answer(Script(body=transcripts.chat_body("x")))
    away = ledger_file.url(tmp_path / "not there" / "relay.db")
    relay = start_relay(
        upstream_url=upstream.url, admin_key=KEY, database_url=away, api_keys=["client"]
    )
    answer = relay.http.get("/admin/usage", headers=ADMIN)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "folder" in answer.json()["error"]["message"]
    relay.http.headers["authorization"] = "Bearer client"
    assert relay.ask().status_code == 200
    assert relay.http.get("/readyz").status_code == 200


def test_where_nothing_is_kept_there_is_nothing_to_tell(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = start_relay(upstream_url=upstream.url, admin_key=KEY)
    answer = relay.http.get("/admin/usage", headers=ADMIN)
    assert answer.status_code == 404
    assert "database_url is none" in answer.json()["error"]["message"]
