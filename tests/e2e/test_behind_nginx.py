"""Two relays behind a real nginx, by deploy/nginx/nginx.conf: it holds nothing back."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from front import in_front
from running import RunningRelay, StartRelay, chat
from websockets.sync.client import connect

KEY = "rk-nginx-canary-0123456789"
STREAM = [(b"content-type", b"text/event-stream")]


@pytest.fixture
def two(start_relay: StartRelay, upstream: FakeUpstream) -> list[RunningRelay]:
    return [start_relay(upstream_url=upstream.url, api_keys=KEY) for _ in range(2)]


@pytest.fixture
def front(two: list[RunningRelay], tmp_path: Path) -> Iterator[httpx.Client]:
    with (
        in_front(tmp_path, [relay.root for relay in two]) as root,
        httpx.Client(
            base_url=root,
            timeout=30,
            trust_env=False,
            headers={"authorization": f"Bearer {KEY}"},
        ) as client,
    ):
        yield client


def test_what_is_streamed_comes_at_once_and_who_leaves_ends_the_upstream(
    front: httpx.Client, upstream: FakeUpstream
) -> None:
    gates = {2: Gate(), 3: Gate()}
    events = transcripts.chat_stream(["one", "two", "three"])
    upstream.answer(Script(pieces=events, headers=STREAM, piece_gates=gates))
    with front.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        pieces = answer.iter_raw()
        while b"one" not in next(pieces):  # the second piece waits for us
            pass
        gates[2].open()
        while b"two" not in next(pieces):
            pass
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)


def test_sockets_are_open_both_ways(
    two: list[RunningRelay], front: httpx.Client, upstream: FakeUpstream
) -> None:
    gate = Gate()
    events = transcripts.chat_stream(["one", "two"])
    upstream.answer(Script(pieces=events, headers=STREAM, piece_gates={2: gate}))
    url = str(front.base_url.copy_with(scheme="ws", path="/ws"))
    with connect(url, proxy=None, subprotocols=["relay", f"key.{KEY}"]) as socket:
        socket.send(json.dumps({"query": "x", "model": "m"}))
        assert json.loads(socket.recv(timeout=20))["status"] == 202
        gate.open()
        while json.loads(socket.recv(timeout=20))["status"] == 202:
            pass


def test_a_body_is_passed_on_while_it_comes_and_may_be_large(
    front: httpx.Client, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(body=b"{}"))
    answer = front.post(
        "/v1/audio/transcriptions",
        data={"model": "w"},
        files={"file": ("a.wav", b"x" * 4_000_000)},
    )
    assert answer.status_code == 200
    assert len(upstream.requests[0].body) > 4_000_000


def test_errors_and_their_headers_are_the_relays_and_metrics_are_not_for_everybody(
    front: httpx.Client, upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.answer(Script(status=429, headers=[(b"retry-after", b"7")], body=b'{"error": {}}'))
    busy = front.post("/v1/chat/completions", json=chat())
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "7")
    wrong = front.post("/v1/chat/completions", json=chat(), headers={"authorization": "Bearer no"})
    assert wrong.json()["error"]["code"] == "invalid_api_key"
    assert front.get("/metrics").status_code == 404
    assert front.get("/v1/models/%2e%2e/%2e%2e/metrics").status_code in (400, 404)
    front.post("/v1/chat/completions?key=canary-query", json=chat())
    logged = (tmp_path / "calls").read_text()
    assert [json.loads(line)["status"] for line in logged.splitlines()][:2] == [429, 401]
    assert "canary" not in logged


def test_when_a_relay_is_gone_the_other_one_answers(
    two: list[RunningRelay], front: httpx.Client, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(body=transcripts.chat_body("x")))
    two[0].http.get("/healthz").raise_for_status()
    statuses = [front.post("/v1/chat/completions", json=chat()).status_code for _ in range(6)]
    two[0].server.should_exit = True
    two[0].thread.join(30)
    statuses += [front.post("/v1/chat/completions", json=chat()).status_code for _ in range(12)]
    assert statuses == [200] * 18
