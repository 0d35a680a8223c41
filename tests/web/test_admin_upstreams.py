"""`GET /admin/upstreams` shows how each of them is doing, and none of the keys."""

from fake_script import Script
from fake_upstream import FakeUpstream
from running import StartRelay

ADMIN = {"authorization": "Bearer ak-1"}


def test_it_shows_breakers_calls_and_keys(start_relay: StartRelay, upstream: FakeUpstream) -> None:
    upstream.answer(Script(status=429, headers=[(b"retry-after", b"30")], body=b"{}"), times=1)
    upstream.answer(Script(status=500, body=b"{}"), times=2)
    relay = start_relay(
        admin_key="ak-1",
        upstreams=[
            {
                "name": "busy",
                "base_url": upstream.url,
                "api_keys": ["sk-canary-1", "sk-canary-2"],
                "breaker": {"failures": 2},
            },
            {"name": "idle", "base_url": "https://idle.example/v1"},
        ],
        models=[{"id": "m", "targets": [{"upstream": "busy"}]}],
    )
    for _ in range(2):
        relay.ask()
    answer = relay.http.get("/admin/upstreams", headers=ADMIN)
    assert "canary" not in answer.text
    busy, idle = answer.json()
    assert (busy["name"], busy["state"], busy["opened"]) == ("busy", "open", 1)
    assert (busy["calls"], busy["failures"], busy["in_flight"]) == (3, 2, 0)
    assert "500" in busy["last_error"]
    assert [key["state"] for key in busy["keys"]] == ["resting", "ok"]
    assert busy["keys"][0]["until_s"] > 20
    assert (idle["state"], idle["calls"], idle["keys"]) == ("closed", 0, [])


def test_it_is_for_the_operator_alone(start_relay: StartRelay, upstream: FakeUpstream) -> None:
    relay = start_relay(upstream_url=upstream.url, admin_key="ak-1", api_keys=["client"])
    for key in ("client", "ak-2"):
        headers = {"authorization": f"Bearer {key}"}
        assert relay.http.get("/admin/upstreams", headers=headers).status_code == 401
    assert relay.http.get("/admin/upstreams", headers=ADMIN).status_code == 200


def test_without_an_admin_key_there_is_nothing(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo")
    assert relay.http.get("/admin/upstreams", headers=ADMIN).status_code == 404
