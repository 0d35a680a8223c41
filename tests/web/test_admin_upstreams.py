"""`GET /admin/upstreams` shows how each of them is doing, and none of the keys."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import StartRelay
from waiting import until

from relay.local import Prompt
from relay.settings import BreakerSettings

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


@pytest.mark.parametrize("transport", ["direct", "httpx"])
def test_it_shows_who_waits_and_what_is_out_of_reach(
    start_relay: StartRelay, upstream: FakeUpstream, transport: str
) -> None:
    gate = Gate()
    upstream.answer(Script(gate=gate, body=transcripts.chat_body("ok")))
    narrow = {"base_url": upstream.url, "max_parallel": 1, "transport": transport}
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gone = {"base_url": f"http://127.0.0.1:{closed.getsockname()[1]}/v1", "kind": "anthropic"}
        relay = start_relay(
            admin_key="ak-1",
            local="echo",
            retries=0,
            upstreams=[{"name": "narrow", **narrow}, {"name": "gone", **gone}],
            models=[
                {"id": "m", "targets": [{"upstream": "narrow"}]},
                {"id": "n", "targets": [{"upstream": "gone"}]},
            ],
        )

        def shown() -> list[dict[str, Any]]:
            answer = relay.http.get("/admin/upstreams", headers=ADMIN)
            return cast(list[dict[str, Any]], answer.json())

        with ThreadPoolExecutor(3) as callers:
            answers = [callers.submit(relay.ask) for _ in range(3)]
            until(lambda: shown()[0]["waiting"] == 2)
            assert (shown()[0]["in_flight"], shown()[0]["max_parallel"]) == (3, 1)
            gate.open()
            assert [answer.result().status_code for answer in answers] == [200] * 3
        assert relay.ask(model="n").status_code == 502
        narrow, gone, _ = shown()
    assert (narrow["waiting"], narrow["reach"]) == (0, "reachable")
    assert (gone["waiting"], gone["reach"]) == (0, "unreachable")


class Moody:
    """A model of one's own, which answers only once it is asked nicely."""

    name = "moody"

    def generate(self, prompt: Prompt) -> Iterator[str]:
        if "please" not in str(prompt.messages):
            raise RuntimeError("not today")
        yield "all right"


def test_the_local_target_has_a_breaker_as_well(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = start_relay(admin_key="ak-1", local=Moody(), upstream_url=upstream.url, mode="local")
    for _ in range(BreakerSettings().failures):
        assert relay.ask().status_code == 502
    far, local = relay.http.get("/admin/upstreams", headers=ADMIN).json()
    assert (far["name"], far["models"]) == ("upstream", None)
    assert (local["name"], local["kind"], local["base_url"]) == ("local", "local", "")
    assert (local["state"], local["opened"]) == ("open", 1)
    assert local["failures"] == local["calls"] == BreakerSettings().failures
    assert local["last_error"]
    assert "not today" not in local["last_error"]
    assert (local["models"], local["reach"], local["max_parallel"]) == (
        {"moody": "loaded"},
        "reachable",
        None,
    )
    assert relay.ask("please").status_code == 200, "nobody else is there"
    _, local = relay.http.get("/admin/upstreams", headers=ADMIN).json()
    assert (local["state"], local["opens_in_s"]) == ("closed", 0)


def test_a_local_target_that_nobody_has_needed_is_not_shown(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path
) -> None:
    relay = start_relay(
        admin_key="ak-1", upstream_url=upstream.url, state_file=tmp_path / "state.json"
    )

    def names() -> list[str]:
        shown = relay.http.get("/admin/upstreams", headers=ADMIN).json()
        return [one["name"] for one in shown]

    assert names() == ["upstream"]
    moved = relay.http.put("/admin/mode", json={"mode": "local"}, headers=ADMIN)
    assert moved.json()["serving"] == "local"
    assert names() == ["upstream", "local"]


def test_it_is_for_the_operator_alone(start_relay: StartRelay, upstream: FakeUpstream) -> None:
    relay = start_relay(upstream_url=upstream.url, admin_key="ak-1", api_keys=["client"])
    for key in ("client", "ak-2"):
        headers = {"authorization": f"Bearer {key}"}
        assert relay.http.get("/admin/upstreams", headers=headers).status_code == 401
    assert relay.http.get("/admin/upstreams", headers=ADMIN).status_code == 200


def test_without_an_admin_key_there_is_nothing(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo")
    assert relay.http.get("/admin/upstreams", headers=ADMIN).status_code == 404
