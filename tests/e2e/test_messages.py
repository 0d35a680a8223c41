"""`POST /v1/messages` on the wire: what passes, what is translated, and how errors look."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic_fake as fake
import httpx
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay

KEY = "rk-right-0123456789"
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
ODD = b'{ "model":"m", "max_tokens" : 5, "odd": 1e2, "messages":[{"role":"user","content":"hi"}]}'
CONVERSATION = [
    {"role": "user", "content": "one"},
    {"role": "user", "content": "two"},
    {"role": "assistant", "content": "thr"},
]


def claude(upstream: FakeUpstream, **more: Any) -> dict[str, Any]:
    """The settings of an upstream that speaks Anthropic's API."""
    return {
        "name": "claude",
        "kind": "anthropic",
        "base_url": upstream.url,
        "api_keys": [fake.KEY],
        **more,
    }


@pytest.fixture
def native(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    fake.speak_anthropic(upstream)
    return start_relay(upstreams=[claude(upstream)])


def body(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "one two three"}]
    return {"model": "m", "max_tokens": 50, "messages": messages, **fields}


def post(relay: RunningRelay, content: bytes | dict[str, Any], **headers: str) -> httpx.Response:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"content-type": "application/json"} | named
    return relay.http.post(MESSAGES, content=data, headers=sent)


@contextmanager
def streaming(relay: RunningRelay) -> Iterator[Iterator[bytes]]:
    with relay.http.stream("POST", MESSAGES, json=body(stream=True)) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
        yield answer.iter_raw()


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, type and message of an error in Anthropic's envelope."""
    told = answer.json()
    assert told["type"] == "error"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["request-id"] == told["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, told["error"]["type"], told["error"]["message"]


def test_the_bytes_of_an_anthropic_upstream_pass_both_ways(
    native: RunningRelay, upstream: FakeUpstream
) -> None:
    odd = b'{"type" : "message", "odd": 1e2, "content": []}'
    upstream.answer(Script(headers=[fake.JSON, *fake.LIMITS], body=odd), path=MESSAGES)
    answer = post(native, ODD, anthropic_beta="b", x_api_key="the client's own")
    assert answer.content == odd
    assert answer.headers["x-relay-upstream"] == "claude"
    assert answer.headers["x-relay-attempts"] == "1"
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert answer.headers["x-upstream-request-id"] == "req_011fake"
    [received] = upstream.requests
    assert received.body == ODD
    assert received.header("anthropic-beta") == "b"
    assert received.header("x-api-key") == fake.KEY


def test_the_events_of_an_anthropic_upstream_pass_as_they_are(
    native: RunningRelay, upstream: FakeUpstream
) -> None:
    events = fake.message_stream(fake.said("one two"), fake.called("f", {"a": 1}))
    upstream.answer(Script(headers=EVENTS, pieces=events), path=MESSAGES)
    with streaming(native) as stream:
        assert b"".join(stream) == b"".join(events)


def test_only_the_model_is_renamed_on_the_way(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    fake.speak_anthropic(upstream)
    target = {"upstream": "claude", "model": "claude-x"}
    relay = start_relay(upstreams=[claude(upstream)], models=[{"id": "m", "targets": [target]}])
    assert post(relay, ODD).status_code == 200
    assert upstream.requests[0].body == ODD.replace(b'"m"', b'"claude-x"')


@pytest.mark.parametrize("history", ["normalize", "reject"])
def test_no_history_of_anthropics_is_normalised(
    start_relay: StartRelay, upstream: FakeUpstream, history: str
) -> None:
    upstream.answer(fake.plain(fake.said("ee")), path=MESSAGES)
    relay = start_relay(upstreams=[claude(upstream)], history=history)
    assert post(relay, body(messages=CONVERSATION)).status_code == 200
    assert json.loads(upstream.requests[-1].body)["messages"] == CONVERSATION


def test_the_history_of_others_is_normalised_as_in_any_chat(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    assert post(remote, body(messages=CONVERSATION[:2])).status_code == 200
    [message] = json.loads(upstream.requests[-1].body)["messages"]
    assert "one" in message["content"]
    assert "two" in message["content"]


def test_a_fallback_to_another_kind_is_translated(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    fake.speak_anthropic(upstream)
    upstream.answer(fake.error(529, "overloaded_error", "busy"), path=MESSAGES)
    plain = {"name": "plain", "base_url": upstream.url, "api_keys": ["k"]}
    model = {
        "id": "m",
        "targets": [{"upstream": "claude"}],
        "fallback": [{"upstream": "plain"}],
    }
    relay = start_relay(upstreams=[claude(upstream), plain], models=[model])
    answer = post(relay, body())
    assert answer.headers["x-relay-upstream"] == "plain"
    assert answer.headers["x-relay-attempts"] == "2"
    assert answer.json()["content"] == [fake.said("one two three")]
    assert [received.path for received in upstream.requests] == [MESSAGES, CHAT]


def test_a_prompt_that_is_too_long_there_has_its_fallback(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    long = fake.error(400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum")
    upstream.answer(long, path=MESSAGES)
    plain = {"name": "plain", "base_url": upstream.url, "api_keys": ["k"]}
    model = {
        "id": "m",
        "targets": [{"upstream": "claude"}],
        "context_fallback": [{"upstream": "plain"}],
    }
    relay = start_relay(upstreams=[claude(upstream), plain], models=[model])
    assert post(relay, body()).headers["x-relay-upstream"] == "plain"


def test_time_limits_of_a_request_hold_here_as_well(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(gate=Gate()))
    relay = start_relay(upstream_url=upstream.url)
    answer = post(relay, body(), x_relay_timeouts="first_byte_s=0.05")
    assert problem(answer)[:2] == (504, "timeout_error")


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (b"{", 400, "invalid_request_error"),
        (b"[]", 400, "invalid_request_error"),
        (body(model=None), 400, "invalid_request_error"),
        (body(model=""), 400, "invalid_request_error"),
        (body(stream="yes"), 400, "invalid_request_error"),
        (body(max_tokens=None), 400, "invalid_request_error"),
        (body(messages="hi"), 400, "invalid_request_error"),
        (body(messages=[]), 400, "invalid_request_error"),
        (body(mcp_servers=[{}]), 400, "invalid_request_error"),
        (body(temperature="hot"), 400, "invalid_request_error"),
        (body(system="x" * 3000), 413, "request_too_large"),
    ],
)
def test_a_request_that_is_wrong_is_said_so_in_anthropics_envelope(
    start_relay: StartRelay, content: bytes | dict[str, Any], status: int, kind: str
) -> None:
    relay = start_relay(local="echo", max_body_bytes=2000)
    assert problem(post(relay, content))[:2] == (status, kind)


def test_another_content_type_is_refused(echo: RunningRelay) -> None:
    answer = post(echo, body(), content_type="text/plain")
    assert problem(answer)[:2] == (415, "invalid_request_error")


def test_a_body_that_is_nested_too_deeply_to_be_translated_is_refused(echo: RunningRelay) -> None:
    deep = json.dumps(body()).encode()[:-1] + b', "odd": ' + b"[" * 1015 + b"]" * 1015 + b"}"
    status, kind, message = problem(post(echo, deep))
    assert (status, kind) == (400, "invalid_request_error")
    assert "nested too deeply" in message


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-api-key", b"")],
        [(b"x-api-key", b"wrong")],
        [(b"x-api-key", b"Bearer " + KEY.encode())],
        [(b"x-api-key", b"\xff\xfe")],
        [(b"x-api-key", KEY.encode()), (b"x-api-key", b"wrong")],
        [(b"x-api-key", KEY.encode()), (b"authorization", b"Bearer wrong")],
        [(b"x-api-key", KEY.encode()), (b"authorization", b"Bearer " + KEY.encode())],
        [(b"authorization", KEY.encode())],
        [(b"api-key", KEY.encode())],
    ],
)
def test_every_odd_key_is_401_in_anthropics_envelope(
    start_relay: StartRelay, path: str, headers: list[tuple[bytes, bytes]]
) -> None:
    relay = start_relay(local="echo", api_keys=[KEY])
    answer = relay.http.post(path, json=body(), headers=headers)
    assert problem(answer)[:2] == (401, "authentication_error")
    assert KEY not in answer.text


def test_the_key_is_taken_in_either_header_here_and_in_one_elsewhere(
    start_relay: StartRelay,
) -> None:
    relay = start_relay(local="echo", api_keys=[KEY])
    assert post(relay, body(), x_api_key=KEY).status_code == 200
    assert post(relay, body(), authorization=f"Bearer {KEY}").status_code == 200
    elsewhere = relay.http.post(CHAT, json=body(), headers={"x-api-key": KEY})
    assert elsewhere.status_code == 401
    assert elsewhere.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
def test_another_method_is_not_found_in_the_same_envelope(echo: RunningRelay, path: str) -> None:
    assert problem(echo.http.get(path))[:2] == (404, "not_found_error")


@pytest.mark.parametrize("path", ["/v1/%6dessages", "/v1/messages?beta=true"])
def test_another_spelling_of_the_path_is_the_same_path(
    native: RunningRelay, upstream: FakeUpstream, path: str
) -> None:
    assert native.http.post(path, json=body()).status_code == 200
    assert upstream.requests[-1].path == MESSAGES


def test_a_page_may_read_the_id_and_the_limits(echo: RunningRelay) -> None:
    answer = post(echo, body(), origin="http://localhost:5173")
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"request-id", "anthropic-ratelimit-tokens-remaining"} <= set(exposed)


def test_a_fault_of_ours_is_told_in_the_same_envelope(start_relay: StartRelay) -> None:
    class Broken:
        def generate(self, prompt: object) -> Iterator[str]:
            raise RuntimeError("secret detail")

    answer = post(start_relay(local=Broken()), body())
    status, kind, message = problem(answer)
    assert (status >= 500, kind) == (True, "api_error")
    assert "secret" not in message


def test_nobody_there_is_told_in_the_same_envelope(start_relay: StartRelay) -> None:
    relay = start_relay(upstream_url="http://127.0.0.1:1/v1")
    assert problem(post(relay, body()))[:2] == (502, "api_error")


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_silence_is_filled_with_pings_of_anthropics(
    start_relay: StartRelay, upstream: FakeUpstream, kind: str
) -> None:
    events = fake.message_stream(fake.said("one two"))
    if kind == "openai":
        events = transcripts.chat_stream(["one ", "two"])
    gate = Gate()
    upstream.answer(Script(headers=EVENTS, pieces=events, piece_gates={2: gate}))
    relay = start_relay(upstreams=[claude(upstream, kind=kind)], ping_s=0.02)
    with streaming(relay) as stream:
        received = b""
        while received.count(PING) < 3:
            received += next(stream)
        gate.open()
        received += b"".join(stream)
    assert b"\n: ping" not in received
    without = received.replace(PING, b"")
    assert without.endswith(b'data: {"type":"message_stop"}\n\n')
    if kind == "anthropic":
        assert without == b"".join(events)


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_a_stream_that_breaks_ends_with_one_error_event(
    start_relay: StartRelay, upstream: FakeUpstream, kind: str
) -> None:
    events = fake.message_stream(fake.said("one two"))
    if kind == "openai":
        events = transcripts.chat_stream(["one ", "two"])
    cut = len(b"".join(events[:3])) + 5
    upstream.answer(Script(headers=EVENTS, pieces=events, reset_at=cut))
    relay = start_relay(upstreams=[claude(upstream, kind=kind)])
    with streaming(relay) as stream:
        received = b"".join(stream)
    assert received.count(b"event: error\n") == 1
    last = json.loads(received.rpartition(b"data: ")[2])
    assert (last["type"], last["error"]["type"]) == ("error", "api_error")
    assert b"message_stop" not in received


def test_what_becomes_of_the_connection_after_the_end_is_nobodys_business(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    whole = b"".join(transcripts.chat_stream(["one"]))
    upstream.answer(Script(headers=EVENTS, pieces=[whole, b"x"], reset_at=len(whole)))
    with streaming(remote) as stream:
        received = b"".join(stream)
    assert received.endswith(b'data: {"type":"message_stop"}\n\n')
    assert b"event: error" not in received


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_a_client_that_leaves_ends_the_upstreams_work(
    start_relay: StartRelay, upstream: FakeUpstream, kind: str
) -> None:
    events = fake.message_stream(fake.said("one two"))
    if kind == "openai":
        events = transcripts.chat_stream(["one ", "two"])
    upstream.answer(Script(headers=EVENTS, pieces=events, stall_after=3))
    relay = start_relay(upstreams=[claude(upstream, kind=kind)])
    with streaming(relay) as stream:
        next(stream)
    upstream.wait_for(lambda: upstream.requests[-1].closed_at is not None)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_the_tokens_are_in_the_log(
    start_relay: StartRelay,
    upstream: FakeUpstream,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    stream: bool,
) -> None:
    if kind == "anthropic":
        fake.speak_anthropic(upstream)
    caplog.set_level(logging.DEBUG, logger="relay")
    relay = start_relay(upstreams=[claude(upstream, kind=kind)], log_level="debug")
    assert post(relay, body(stream=stream)).status_code == 200
    relay.stop()
    ended = [record.__dict__["fields"] for record in caplog.records if "fields" in record.__dict__]
    [tokens] = [fields for fields in ended if fields["path"] == MESSAGES]
    assert tokens["completion_tokens"] == 3
    assert tokens["prompt_tokens"] == (14 if kind == "anthropic" else 3)
