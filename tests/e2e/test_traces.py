"""Traces of real relays, as a collector gets them."""

import hashlib
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import transcripts
from collector import Collector, Span
from fake_realtime import FakeRealtime
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay, chat, process
from test_realtime_models import DONE
from test_workers import workers
from waiting import until
from websockets.sync.client import connect

from relay.settings import Settings, SettingsError
from relay.telemetry import tracing
from relay.telemetry.traced import TracedBackend
from relay.web.door import Door
from relay.web.traced_door import TracedDoor

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
STREAM = [(b"content-type", b"text/event-stream")]
CLIENT = "rk-canary-client-0123456789"


@pytest.fixture
def traced(start_relay: StartRelay, upstream: FakeUpstream, collector: Collector) -> RunningRelay:
    """A relay in front of the fake upstream, which traces."""
    return start_relay(upstream_url=upstream.url, traces_url=collector.url)


@pytest.fixture
def backup() -> Iterator[FakeUpstream]:
    with FakeUpstream.in_thread() as fake:
        yield fake


def two(upstream: FakeUpstream, backup: FakeUpstream, **model: Any) -> dict[str, Any]:
    """Settings of a model with two targets, or one and a fallback."""
    return {
        "upstreams": [
            {"name": "a", "base_url": upstream.url},
            {"name": "b", "base_url": backup.url},
        ],
        "models": [{"id": "m", **model}],
    }


def good(text: str = "ok") -> Script:
    return Script(body=transcripts.chat_body(text))


def request_and_attempts(spans: list[Span]) -> tuple[Span, list[Span]]:
    """The one span of a request, and those of its attempts in the order they began."""
    (request,) = [span for span in spans if span.kind == "SERVER"]
    attempts = [span for span in spans if span.kind == "CLIENT"]
    assert all(span.parent == request.id for span in attempts)
    assert all(span.trace == request.trace for span in spans)
    assert len({span.id for span in spans}) == len(spans)
    return request, sorted(attempts, key=lambda span: span["relay.attempt"])


def header(upstream: FakeUpstream, name: bytes, number: int = -1) -> str | None:
    """What an upstream was sent under that name."""
    found = [value for key, value in upstream.requests[number].headers if key.lower() == name]
    assert len(found) < 2
    return found[0].decode() if found else None


def test_a_call_is_a_span_of_its_request_and_one_of_its_attempt(
    traced: RunningRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(good())
    reply = traced.http.post("/v1/chat/completions", json=chat(model="gpt-x"))
    request, (attempt,) = request_and_attempts(collector.after(traced))
    assert request.name == "POST /v1/chat/completions"
    assert request.parent == ""
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "relay.request.id": reply.headers["x-request-id"],
        "relay.attempts": 1,
        "relay.upstream": "upstream",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.response.model": "gpt-x",
    }
    assert attempt.name == "chat gpt-x"
    usage = reply.json()["usage"]
    assert attempt.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": upstream.port,
        "relay.upstream": "upstream",
        "relay.attempt": 1,
        "relay.attempt.outcome": "answered",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.response.model": "gpt-x",
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
    }
    assert not request.failed
    assert not attempt.failed
    assert request.began_ns <= attempt.began_ns < attempt.ended_ns <= request.ended_ns
    assert request.resource["service.name"] == "relay"
    assert request.resource["telemetry.sdk.name"] == "opentelemetry"


def test_a_stream_has_the_time_to_its_first_bytes(
    traced: RunningRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(Script(pieces=transcripts.chat_stream(["one", "two"]), headers=STREAM))
    traced.ask(stream=True)
    request, (attempt,) = request_and_attempts(collector.after(traced))
    for span in (request, attempt):
        took_s = (span.ended_ns - span.began_ns) / 1e9
        assert 0 < span["gen_ai.response.time_to_first_chunk"] <= took_s
        assert span["gen_ai.request.stream"] is True
    assert attempt["gen_ai.usage.output_tokens"] > 0
    assert "gen_ai.usage.output_tokens" not in request.attributes  # or sums would be twice that


def test_attempts_that_failed_are_spans_and_say_why(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(Script(status=500, body=b'{"error": {"message": "secret words"}}'))
    backup.answer(good())
    settings = two(upstream, backup, targets=[{"upstream": "a"}], fallback=[{"upstream": "b"}])
    settings["models"][0]["fallback"][0]["model"] = "other"
    relay = start_relay(traces_url=collector.url, **settings)
    assert relay.ask().status_code == 200
    request, (first, second) = request_and_attempts(collector.after(relay))
    assert first.failed
    assert first["error.type"] == "500"
    assert first["http.response.status_code"] == 500
    assert first["relay.attempt.outcome"] == "failed"
    assert first.message == "The upstream answered with status 500."
    assert not second.failed
    assert second.name == "chat other"
    assert (first["relay.upstream"], second["relay.upstream"]) == ("a", "b")
    assert not request.failed
    assert request["relay.attempts"] == 2
    assert request["relay.upstream"] == "b"
    assert request["gen_ai.request.model"] == "m"
    assert request["gen_ai.response.model"] == "other"
    assert b"secret words" not in b"".join(collector.bodies)


def test_a_request_that_nobody_answers_has_failed(
    start_relay: StartRelay, collector: Collector
) -> None:
    relay = start_relay(
        upstream_url="http://127.0.0.1:9/v1", retries=2, mode="remote", traces_url=collector.url
    )
    assert relay.ask().status_code == 502
    request, attempts = request_and_attempts(collector.after(relay))
    assert request.failed
    assert request["error.type"] == "upstream_unreachable"
    assert request["http.response.status_code"] == 502
    assert [span["relay.attempt"] for span in attempts] == [1, 2, 3]
    assert {span["error.type"] for span in attempts} == {"upstream_unreachable"}
    assert all(
        span.failed and "http.response.status_code" not in span.attributes for span in attempts
    )


@pytest.mark.parametrize("streamed", [False, True])
def test_of_two_hedged_attempts_one_is_lost(
    start_relay: StartRelay,
    upstream: FakeUpstream,
    backup: FakeUpstream,
    collector: Collector,
    streamed: bool,
) -> None:
    late = Gate()
    upstream.answer(
        Script(
            pieces=transcripts.chat_stream(["late"]),
            headers=STREAM,
            piece_gates={1: late},  # it has begun, but its first token does not come
        )
        if streamed
        else Script(gate=late)
    )
    backup.answer(
        Script(pieces=transcripts.chat_stream(["quick"]), headers=STREAM) if streamed else good()
    )
    targets = [{"upstream": "a"}, {"upstream": "b"}]
    settings = two(upstream, backup, targets=targets, hedge_after_s=0.05)
    relay = start_relay(traces_url=collector.url, **settings)
    assert relay.ask(stream=streamed).headers["x-relay-upstream"] == "b"
    request, (first, second) = request_and_attempts(collector.after(relay))
    assert first["relay.attempt.outcome"] == "lost"
    assert second["relay.attempt.outcome"] == "answered"
    assert not first.failed
    assert request["relay.attempts.lost"] == 1
    assert "gen_ai.usage.output_tokens" in second.attributes
    assert "gen_ai.usage.output_tokens" not in first.attributes


def test_a_stream_that_the_client_left_is_cancelled(
    traced: RunningRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    events = transcripts.chat_stream(["one", "two"])
    upstream.answer(Script(pieces=events, headers=STREAM, piece_gates={2: Gate()}))
    with traced.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        next(answer.iter_raw())
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
    request, (attempt,) = request_and_attempts(collector.after(traced))
    assert attempt["relay.attempt.outcome"] == "cancelled"
    assert request["http.response.status_code"] == 499
    assert request["error.type"] == "client_left"
    assert not request.failed
    assert not attempt.failed


def test_a_call_that_the_client_left_before_its_answer_is_cancelled(
    traced: RunningRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(Script(gate=Gate()))
    with pytest.raises(httpx.ReadTimeout):
        traced.http.post("/v1/chat/completions", json=chat(), timeout=0.2)
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
    _, (attempt,) = request_and_attempts(collector.after(traced))
    assert attempt["relay.attempt.outcome"] == "cancelled"
    assert "http.response.status_code" not in attempt.attributes


def test_a_stream_that_breaks_off_has_failed(
    traced: RunningRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    events = transcripts.chat_stream(["one", "two"])
    upstream.answer(Script(pieces=events, headers=STREAM, reset_at=len(events[0]) + 5))
    traced.ask(stream=True)
    request, (attempt,) = request_and_attempts(collector.after(traced))
    for span in (request, attempt):
        assert span.failed
        assert span["error.type"] == "upstream_protocol"
        assert span["http.response.status_code"] == 200


def test_a_refused_call_has_no_attempt_and_no_key(
    start_relay: StartRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    relay = start_relay(upstream_url=upstream.url, traces_url=collector.url, api_keys=CLIENT)
    for path in ("/v1/chat/completions", f"/v1/files/{CLIENT}"):
        wrong = {"authorization": f"Bearer {CLIENT}x", "x-request-id": CLIENT}
        relay.http.post(path, headers=wrong, params={"key": CLIENT})
    spans = collector.after(relay)
    assert [span.kind for span in spans] == ["SERVER", "SERVER"]
    for span in spans:
        assert span["http.response.status_code"] == 401
        assert span["error.type"] == "invalid_api_key"
        assert not span.failed
    assert spans[1]["url.path"] == "/v1/files/[redacted]"
    assert b"canary" not in b"".join(collector.bodies)


def test_keys_and_teams_are_told_by_their_ids(
    start_relay: StartRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    digest = hashlib.sha256(CLIENT.encode()).hexdigest()
    relay = start_relay(
        upstream_url=upstream.url,
        traces_url=collector.url,
        keys=[{"name": "one", "sha256": digest, "team": "blue"}],
        teams=[{"name": "blue"}],
    )
    upstream.answer(good())
    relay.http.headers["authorization"] = f"Bearer {CLIENT}"
    assert relay.ask().status_code == 200
    request, _ = request_and_attempts(collector.after(relay))
    assert "one" in request["relay.key.id"]
    assert "blue" in request["relay.team.id"]
    assert b"canary" not in b"".join(collector.bodies)


def test_a_turn_of_a_socket_is_a_request(
    traced: RunningRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(Script(pieces=transcripts.chat_stream(["one"]), headers=STREAM))
    headers = {"traceparent": PARENT}
    with connect(traced.root.replace("http", "ws") + "/ws", additional_headers=headers) as socket:
        for number in ("1", "2"):
            socket.send(json.dumps({"type": "chat", "id": number, "request": chat()}))
            while json.loads(socket.recv())["type"] != "done":
                pass
    spans = collector.after(traced)
    requests = [span for span in spans if span.kind == "SERVER"]
    attempts = [span for span in spans if span.kind == "CLIENT"]
    assert [span.name for span in requests] == ["GET /ws", "GET /ws"]
    assert {span.parent for span in requests} == {SPAN}
    assert [span.parent for span in attempts] == [span.id for span in requests]
    assert {span.trace for span in spans} == {TRACE}
    assert {header(upstream, b"traceparent", n) for n in (0, 1)} == {
        f"00-{TRACE}-{span.id}-01" for span in attempts
    }


def test_a_session_is_one_attempt_and_a_request_for_each_response(
    start_relay: StartRelay, collector: Collector
) -> None:
    with FakeRealtime() as fake:
        relay = start_relay(upstream_url=fake.url, traces_url=collector.url)
        address = relay.root.replace("http", "ws") + "/v1/realtime?model=gpt-realtime"
        with connect(address) as socket:
            for _ in range(2):
                socket.send(json.dumps({"say": [{"type": "response.created"}, DONE]}))
                while json.loads(socket.recv())["type"] != "response.done":
                    pass
        spans = collector.after(relay)
    requests = [span for span in spans if span.kind == "SERVER"]
    (attempt,) = [span for span in spans if span.kind == "CLIENT"]
    assert [span.name for span in requests] == ["GET /v1/realtime"] * 2
    assert len({span.id for span in requests}) == 2
    assert {span.trace for span in spans} == {attempt.trace}
    assert attempt.parent == requests[0].id
    assert attempt["http.response.status_code"] == 101
    told = [span["gen_ai.usage.output_tokens"] for span in (attempt, *requests)]
    assert told.count(None) == 1, "what a response used stands on one span"


def test_a_clients_traceparent_is_the_parent_and_the_upstream_gets_the_attempts(
    traced: RunningRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(good())
    headers = {"traceparent": PARENT, "tracestate": "vendor=a,other=b"}
    traced.http.post("/v1/chat/completions", json=chat(), headers=headers)
    assert header(upstream, b"tracestate") == "vendor=a,other=b"
    sent = header(upstream, b"traceparent")
    request, (attempt,) = request_and_attempts(collector.after(traced))
    assert request.trace == TRACE
    assert request.parent == SPAN
    assert {request.state, attempt.state} == {"vendor=a,other=b"}
    assert sent == f"00-{TRACE}-{attempt.id}-01"


def test_each_attempt_goes_out_in_its_own_span(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(Script(status=503))
    backup.answer(good())
    settings = two(upstream, backup, targets=[{"upstream": "a"}], fallback=[{"upstream": "b"}])
    relay = start_relay(traces_url=collector.url, **settings)
    relay.ask()
    sent = [header(upstream, b"traceparent"), header(backup, b"traceparent")]
    request, attempts = request_and_attempts(collector.after(relay))
    assert sent == [f"00-{request.trace}-{span.id}-01" for span in attempts]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/files", "/v1/messages"])
def test_calls_of_other_kinds_are_traced_likewise(
    start_relay: StartRelay, upstream: FakeUpstream, collector: Collector, path: str
) -> None:
    upstream.answer(good())
    relay = start_relay(upstream_url=upstream.url, traces_url=collector.url, passthrough="*")
    reply = relay.http.post(path, json=chat(max_tokens=5), headers={"traceparent": PARENT})
    assert reply.status_code == 200
    sent = header(upstream, b"traceparent")
    request, (attempt,) = request_and_attempts(collector.after(relay))
    assert request.name == f"POST {path}"
    assert sent == f"00-{TRACE}-{attempt.id}-01"
    named = {"/v1/embeddings": "embeddings m", "/v1/messages": "chat m"}
    assert attempt.name == named.get(path, f"POST {path}")


def test_requests_that_end_at_the_same_time_keep_to_their_own_traces(
    traced: RunningRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    # Pieces of requests that wait on connections, so that the relay reads all of them at once.
    body = json.dumps(chat()).encode()
    upstream.answer(good())
    address = urlsplit(traced.root)
    parents = {f"request-{number}": f"{number + 1:032x}" for number in range(40)}
    sockets = []
    for name, trace in parents.items():
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: relay\r\nx-request-id: {name}\r\n"
            f"traceparent: 00-{trace}-{SPAN}-01\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        sockets.append(socket.create_connection((address.hostname, address.port)))
        sockets[-1].sendall(head.encode() + body[:-1])
    for one in sockets:
        one.sendall(body[-1:])
    for one in sockets:
        assert one.recv(65536).startswith(b"HTTP/1.1 200")
        one.close()
    spans = collector.after(traced)
    requests = [span for span in spans if span.kind == "SERVER"]
    assert {span["relay.request.id"]: span.trace for span in requests} == parents
    for request in requests:
        own = [span for span in spans if span.trace == request.trace]
        assert request_and_attempts(own)[0] is request


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "nonsense",
        PARENT.upper(),
        PARENT + "-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
    ],
)
def test_a_malformed_traceparent_is_as_if_it_had_not_come(
    traced: RunningRelay, upstream: FakeUpstream, collector: Collector, wrong: str
) -> None:
    upstream.answer(good())
    headers = {"traceparent": wrong, "tracestate": "vendor=a"}
    traced.http.post("/v1/chat/completions", json=chat(), headers=headers)
    sent = header(upstream, b"traceparent")
    assert header(upstream, b"tracestate") is None
    request, (attempt,) = request_and_attempts(collector.after(traced))
    assert request.parent == ""
    assert request.trace != TRACE
    assert sent == f"00-{request.trace}-{attempt.id}-01"


def test_what_the_client_does_not_want_traced_is_not_and_goes_on_as_it_came(
    traced: RunningRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(good())
    headers = {"traceparent": PARENT[:-1] + "0", "tracestate": "vendor=a"}
    traced.http.post("/v1/chat/completions", json=chat(), headers=headers)
    assert header(upstream, b"traceparent") == PARENT[:-1] + "0"
    assert header(upstream, b"tracestate") == "vendor=a"
    assert collector.after(traced) == []


def test_with_a_sample_of_none_only_those_are_traced_that_ask_for_it(
    start_relay: StartRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(good())
    relay = start_relay(upstream_url=upstream.url, traces_url=collector.url, traces_sample=0)
    relay.ask()
    sent = header(upstream, b"traceparent")
    assert sent is not None
    assert sent.endswith("-00")
    relay.http.post("/v1/chat/completions", json=chat(), headers={"traceparent": PARENT})
    assert {span.trace for span in collector.after(relay)} == {TRACE}


def test_a_part_is_sampled_and_the_upstream_is_told_which(
    start_relay: StartRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(good())
    relay = start_relay(upstream_url=upstream.url, traces_url=collector.url, traces_sample=0.5)
    for _ in range(100):
        relay.ask()
    told = [header(upstream, b"traceparent", number) or "" for number in range(100)]
    sampled = {one.split("-")[1] for one in told if one.endswith("-01")}
    assert 10 < len(sampled) < 90
    assert {span.trace for span in collector.after(relay)} == sampled
    assert len({one.split("-")[1] for one in told}) == 100


def test_where_nothing_is_traced_headers_of_traces_pass_as_they_are(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(good())
    for parent in (PARENT, "nonsense", f"00-{'0' * 32}-{SPAN}-01"):
        headers = {"traceparent": parent, "tracestate": "vendor=a ,, b", "baggage": "x=y"}
        remote.http.post("/v1/chat/completions", json=chat(), headers=headers)
        assert header(upstream, b"traceparent") == parent
        assert header(upstream, b"tracestate") == "vendor=a ,, b"
        assert header(upstream, b"baggage") == "x=y"
    remote.ask()
    assert header(upstream, b"traceparent") is None


def test_where_nothing_is_traced_nothing_stands_between(
    remote: RunningRelay, traced: RunningRelay
) -> None:
    for relay, wrapped in ((remote, False), (traced, True)):
        now = relay.relay.now
        backend = relay.relay.router.default().backend
        assert isinstance(backend, TracedBackend) is wrapped
        assert isinstance(now._door, TracedDoor) is wrapped
        assert isinstance(now._door, Door) is not wrapped
        assert now.layers._app is now._door


def test_pages_probes_and_unknown_paths_are_not_traced(
    traced: RunningRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    for path in ("/", "/healthz", "/readyz", "/metrics", "/docs", "/nothing"):
        traced.http.get(path)
    assert collector.after(traced) == []


def test_calls_behind_cors_and_of_one_flight_are_traced(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream, collector: Collector
) -> None:
    gate = Gate()
    upstream.answer(Script(body=transcripts.chat_body("ok"), gate=gate))
    settings = two(upstream, backup, targets=[{"upstream": "a"}], single_flight=True)
    relay = start_relay(traces_url=collector.url, api_keys=CLIENT, **settings)
    relay.http.headers["authorization"] = f"Bearer {CLIENT}"
    relay.http.headers["origin"] = "http://localhost:3000"
    asking = [threading.Thread(target=relay.ask) for _ in range(2)]
    for one in asking:
        one.start()
    until(lambda: relay.relay.in_flight == 2)
    gate.open()
    for one in asking:
        one.join()
    spans = collector.after(relay)
    requests = [span for span in spans if span.kind == "SERVER"]
    (attempt,) = [span for span in spans if span.kind == "CLIENT"]
    assert len(requests) == 2
    assert attempt.parent in {span.id for span in requests}
    used = [span for span in spans if "gen_ai.usage.input_tokens" in span.attributes]
    assert used == [attempt]


def test_the_collector_gets_its_headers(
    start_relay: StartRelay, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(good())
    relay = start_relay(
        upstream_url=upstream.url,
        traces_url=collector.url + "/v1/traces",
        traces_headers="Authorization=Bearer%20canary, x-team = blue",
    )
    relay.ask()
    assert collector.after(relay)
    assert collector.headers[0]["authorization"] == "Bearer canary"
    assert collector.headers[0]["x-team"] == "blue"


def test_without_a_collector_calls_go_on_and_the_end_is_in_time(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    upstream.answer(good())
    settings = {"upstream_url": upstream.url, "traces_url": "http://127.0.0.1:9"}
    with process(tmp_path, **settings) as (relay, root):
        for _ in range(20):
            answer = httpx.post(f"{root}/v1/chat/completions", json=chat(), trust_env=False)
            assert answer.status_code == 200
        relay.send_signal(signal.SIGTERM)
        said, _ = relay.communicate(timeout=20)
        assert relay.returncode == 0
    (line,) = [line for line in said.splitlines() if "traces_lost" in line]
    assert "url=http://127.0.0.1:9/v1/traces requests=20" in line
    for theirs in ("Traceback", "Transient", "export"):
        assert theirs not in said, "the libraries say nothing of their own"


def test_a_collector_that_hangs_holds_up_nobody(
    tmp_path: Path, upstream: FakeUpstream, collector: Collector
) -> None:
    collector.hangs = True
    upstream.answer(good())
    settings = {"upstream_url": upstream.url, "traces_url": collector.url}
    with process(tmp_path, **settings) as (relay, root):
        url = f"{root}/v1/chat/completions"
        assert httpx.post(url, json=chat(), trust_env=False).status_code == 200
        until(lambda: collector.headers)
        for _ in range(20):
            assert httpx.post(url, json=chat(), trust_env=False).status_code == 200
        relay.send_signal(signal.SIGTERM)
        said, _ = relay.communicate(timeout=20)
        assert relay.returncode == 0
    assert "traces_lost" in said
    assert "requests=21" in said


def test_what_a_collector_does_not_take_is_told_once(
    tmp_path: Path, upstream: FakeUpstream, collector: Collector
) -> None:
    collector.status = 401
    upstream.answer(good())
    with process(tmp_path, upstream_url=upstream.url, traces_url=collector.url) as (relay, root):
        for asked in (1, 2, 3):
            httpx.post(f"{root}/v1/chat/completions", json=chat(), trust_env=False)
            until(lambda asked=asked: len(collector.headers) == asked)
        relay.send_signal(signal.SIGTERM)
        said, _ = relay.communicate(timeout=20)
    first, *rest = [line for line in said.splitlines() if "traces_lost" in line]
    assert 'reason="it answers with status 401"' in first
    assert len(rest) < 2, "what follows within a minute is told of at the end"
    assert sum(int(count) for count in re.findall(r"requests=(\d+)", said)) == 3


def test_each_worker_sends_for_itself(
    tmp_path: Path, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(good())
    settings = {"upstream_url": upstream.url, "traces_url": collector.url, "workers": 2}
    asked = 0

    def both_have_sent() -> bool:
        nonlocal asked
        asked += 1  # each on a connection of its own: the system deals them out
        httpx.post(f"{root}/v1/chat/completions", json=chat(), trust_env=False)
        return len({span.resource["service.instance.id"] for span in collector.spans}) == 2

    with process(tmp_path, **settings) as (relay, root):
        until(lambda: len(workers(relay)) == 2)
        until(both_have_sent)
        relay.send_signal(signal.SIGTERM)
        relay.communicate(timeout=20)
    assert len(collector.spans) == 2 * asked


def test_the_usual_variables_name_the_service(
    tmp_path: Path, upstream: FakeUpstream, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gateway")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    with process(tmp_path, local="echo", traces_url=collector.url) as (relay, root):
        httpx.post(f"{root}/v1/chat/completions", json=chat(), trust_env=False)
        relay.send_signal(signal.SIGTERM)
        relay.communicate(timeout=20)
    request, (attempt,) = request_and_attempts(collector.spans)
    assert request.resource["service.name"] == "gateway"
    assert request.resource["deployment.environment.name"] == "test"
    assert attempt["relay.upstream"] == "local"


def test_a_reload_goes_on_tracing(
    tmp_path: Path, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.answer(good())
    config = tmp_path / "relay.toml"
    config.write_text(f'upstream_url = "{upstream.url}"')
    with process(tmp_path, traces_url=collector.url, admin_key="ak-0123456789") as (relay, root):
        bearer = {"authorization": "Bearer ak-0123456789"}
        config.write_text(f'upstream_url = "{upstream.url}"\nretries = 1\ntraces_sample = 0.5')
        told = httpx.post(f"{root}/admin/reload", headers=bearer, trust_env=False, timeout=30)
        assert told.json() == {"changed": ["retries"], "after_restart": ["traces_sample"]}
        httpx.post(f"{root}/v1/chat/completions", json=chat(), trust_env=False)
        os.kill(relay.pid, signal.SIGTERM)
        relay.communicate(timeout=20)
    assert "POST /v1/chat/completions" in {span.name for span in collector.spans}
    assert "chat m" in {span.name for span in collector.spans}


def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "NEEDED", ("opentelemetry.nothing.of.this",))
    with pytest.raises(SettingsError, match=re.escape("pip install 'openai-relay[otel]'")):
        tracing.open_traces(Settings(traces_url="http://127.0.0.1:4318"))
    assert tracing.open_traces(Settings()) is tracing.NO_TRACES
