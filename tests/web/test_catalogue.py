"""`GET /v1/models` of a relay with several upstreams, with names of its own, or with both."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_upstream import FakeUpstream, Gate, Script
from running import RunningRelay, StartRelay
from transcripts import error_body, models_body
from websockets.sync.client import connect

DEAD = "http://127.0.0.1:1/v1"


@pytest.fixture
def other() -> Iterator[FakeUpstream]:
    """A second upstream."""
    with FakeUpstream.in_thread() as fake:
        yield fake


@pytest.fixture
def serve(start_relay: StartRelay) -> Callable[..., RunningRelay]:
    """Starts a relay in front of the upstreams given by name."""

    def serve(
        upstreams: dict[str, str], models: list[dict[str, Any]] | None = None, **settings: Any
    ) -> RunningRelay:
        tables = [{"name": name, "base_url": url} for name, url in upstreams.items()]
        return start_relay(upstreams=tables, models=models or [], **{"local": "echo"} | settings)

    return serve


Serve = Callable[..., RunningRelay]


def listed(relay: RunningRelay) -> list[str]:
    answer = relay.http.get("/v1/models")
    assert answer.status_code == 200
    assert answer.json()["object"] == "list"
    return [card["id"] for card in answer.json()["data"]]


def has(fake: FakeUpstream, *models: str) -> None:
    fake.answer(Script(body=models_body(*models)), path="/v1/models")


def target(upstream: str, **more: Any) -> dict[str, Any]:
    return {"upstream": upstream, **more}


def test_the_lists_of_all_upstreams_are_merged_and_the_first_wins(
    serve: Serve, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    has(upstream, "a", "both")
    other.answer(Script(body=b'{"data": [{"id": "both", "owned_by": "x"}, {"id": "b"}]}'))
    relay = serve({"eu": upstream.url, "us": other.url})

    assert listed(relay) == ["a", "both", "b"]
    assert relay.http.get("/v1/models/both").json()["owned_by"] == "fake"
    assert relay.http.get("/v1/models/b").json()["id"] == "b"
    missing = relay.http.get("/v1/models/none")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_the_lists_are_remembered(
    serve: Serve, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    relay = serve({"eu": upstream.url, "us": other.url})
    for _ in range(3):
        listed(relay)
    assert (len(upstream.requests), len(other.requests)) == (1, 1)


@pytest.mark.parametrize("fault", ["refused", "silent", "error", "no list"])
def test_an_upstream_that_fails_takes_only_its_own_models_away(
    serve: Serve, upstream: FakeUpstream, other: FakeUpstream, fault: str
) -> None:
    answers = {
        "silent": Script(gate=Gate()),
        "error": Script(status=500, body=error_body("Out of order.")),
        "no list": Script(body=b"<html>"),
    }
    if fault in answers:
        other.answer(answers[fault])
    relay = serve({"us": DEAD if fault == "refused" else other.url, "eu": upstream.url})

    assert listed(relay) == ["fake-1", "fake-2"]


def test_the_upstreams_are_asked_at_the_same_time(
    serve: Serve, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    gate = Gate()

    def opens(_: object) -> Script:
        gate.open()
        return Script(body=models_body("b"))

    upstream.answer(Script(body=models_body("a"), gate=gate))  # until the other is asked, too
    other.answer(opens)
    relay = serve({"eu": upstream.url, "us": other.url})

    assert listed(relay) == ["a", "b"]


def test_when_no_upstream_tells_its_models_that_is_said(serve: Serve) -> None:
    answer = serve({"eu": DEAD, "us": DEAD}).http.get("/v1/models")

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_upstream_available"


def test_upstreams_without_models_give_an_empty_list(
    serve: Serve, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    has(upstream)
    has(other)
    assert listed(serve({"eu": upstream.url, "us": other.url})) == []


def test_one_upstream_answers_for_itself(serve: Serve, upstream: FakeUpstream) -> None:
    body = b'{ "object":"list","data":[ ], "more": 1 }'
    relay = serve({"eu": upstream.url})
    upstream.answer(Script(body=body, headers=[(b"x-more", b"1")]), times=1)
    upstream.answer(Script(status=418, body=b"tea"), times=1)

    first, second = relay.http.get("/v1/models"), relay.http.get("/v1/models")

    assert (first.status_code, first.content, first.headers["x-more"]) == (200, body, "1")
    assert (second.status_code, second.content) == (418, b"tea")


def test_configured_names_and_aliases_need_no_upstream(
    serve: Serve, upstream: FakeUpstream
) -> None:
    relay = serve(
        {"eu": upstream.url},
        [
            {"id": "fast", "aliases": ["quick", "gpt"], "targets": [target("eu")]},
            {"id": "here", "targets": [{"local": True}]},
        ],
    )

    assert listed(relay) == ["fast", "quick", "gpt", "here"]
    card = relay.http.get("/v1/models/quick").json()
    assert card == {"id": "quick", "object": "model", "created": 0, "owned_by": "relay"}
    assert upstream.requests == []


def test_a_pattern_stands_for_what_its_targets_have_and_it_routes(
    serve: Serve, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    has(upstream, "open/a", "fast", "x")
    has(other, "open/b", "open/c", "y")
    relay = serve(
        {"eu": upstream.url, "us": other.url},
        [
            {"id": "*", "targets": [target("us")]},
            {"id": "fast", "targets": [target("eu")]},
            {"id": "mine", "aliases": ["open/*"], "targets": [target("eu"), {"local": True}]},
        ],
    )

    # "open/b" of the other upstream would go by "open/*", whose target does not have it.
    assert listed(relay) == ["y", "fast", "mine", "open/a"]
    assert relay.http.get("/v1/models/open/a").json()["owned_by"] == "fake"


def test_a_pattern_asks_only_the_upstreams_of_its_targets(
    serve: Serve, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    relay = serve(
        {"eu": upstream.url, "us": other.url},
        [{"id": "fake-*", "targets": [target("eu")], "fallback": [target("us")]}],
    )

    assert listed(relay) == ["fake-1", "fake-2"]
    assert other.requests == []


def test_the_local_model_stands_for_a_pattern_that_it_matches(
    serve: Serve, upstream: FakeUpstream
) -> None:
    relay = serve(
        {"eu": upstream.url},
        [{"id": "e*", "targets": [{"local": True}]}, {"id": "fake-*", "targets": [target("eu")]}],
    )

    assert listed(relay) == ["echo", "fake-1", "fake-2"]


def test_serving_locally_asks_nobody(
    serve: Serve, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    upstreams = {"eu": upstream.url, "us": other.url}
    merged = serve(upstreams, mode="local")
    named = serve(
        upstreams,
        [{"id": "*", "targets": [target("eu")]}, {"id": "m", "targets": [target("us")]}],
        mode="local",
    )

    assert (listed(merged), listed(named)) == (["echo"], ["echo", "m"])
    assert upstream.requests == other.requests == []


def test_without_any_upstream_the_local_models_are_the_list(serve: Serve) -> None:
    assert listed(serve({})) == ["echo"]


def test_clients_who_ask_at_once_share_one_request_upstream(
    serve: Serve, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    relay = serve({"eu": upstream.url, "us": other.url})
    with ThreadPoolExecutor(8) as pool:
        lists = list(pool.map(listed, [relay] * 8))

    assert lists == [["fake-1", "fake-2"]] * 8
    assert (len(upstream.requests), len(other.requests)) == (1, 1)


def test_who_names_no_model_gets_the_first_of_the_list(
    serve: Serve, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    has(other, "x", "open/a", "open/b")
    relay = serve(
        {"eu": upstream.url, "us": other.url}, [{"id": "open/*", "targets": [target("us")]}]
    )

    with connect(relay.root.replace("http", "ws") + "/ws", proxy=None) as socket:
        socket.send(json.dumps({"query": "hello", "history": []}))
        while json.loads(socket.recv(timeout=20))["status"] == 202:
            pass

    assert json.loads(other.requests[-1].body)["model"] == "open/a"
