"""From a client's socket to the upstream's and back, plain and streamed."""

import json

import httpx
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import UPSTREAM_KEY, RunningRelay, StartRelay, chat


def test_a_plain_answer_comes_back_byte_for_byte(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    body = b'{ "id":"x", "score": 1.50E+2, "odd": "\\u00e9\xc3\xa9", "choices": [] }\n'
    upstream.answer(
        Script(body=body, headers=[(b"content-type", b"application/json; charset=utf-8")])
    )
    answer = remote.ask()
    assert answer.status_code == 200
    assert answer.content == body
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["x-relay-upstream"] == "upstream"
    assert answer.headers["x-relay-attempts"] == "1"
    assert "relay;dur=" in answer.headers["server-timing"]
    assert "upstream;dur=" in answer.headers["server-timing"]


def test_the_clients_very_bytes_go_up_when_nothing_must_change(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    body = (
        b'{"messages" : [ {"content":"h\\u00e9llo \xe4\xbd\xa0", "role":"user"} ],'
        b'\n "temperature": 1.0e-1, "x_unknown": {"deep": [1, 2.50]}, "model": "m" }'
    )
    remote.http.post(
        "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
    ).raise_for_status()
    [received] = upstream.requests
    assert received.body == body
    assert received.path == "/v1/chat/completions"


def test_the_hidden_key_goes_up_and_the_clients_secrets_stay(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    remote.http.post(
        "/v1/chat/completions",
        json=chat(),
        headers={
            "authorization": "Bearer what-the-client-has",
            "cookie": "session=1",
            "x-forwarded-for": "10.1.2.3",
            "openai-organization": "org-of-the-client",
            "connection": "x-hop",
            "x-hop": "1",
            "x-custom": "kept",
            "user-agent": "tester/1",
        },
    ).raise_for_status()
    [received] = upstream.requests
    assert received.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    for gone in ("cookie", "x-forwarded-for", "openai-organization", "x-hop"):
        assert received.header(gone) is None
    assert received.header("x-custom") == "kept"
    assert received.header("user-agent") == "tester/1"
    assert received.header("accept-encoding") == "identity"


def test_a_stream_passes_byte_for_byte_and_piece_by_piece(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    pieces = transcripts.chat_stream(["Hel", "lo ", "wörld"])
    gate = Gate()
    upstream.answer(
        Script(
            pieces=pieces,
            piece_gates={2: gate},
            headers=[
                (b"content-type", b"text/event-stream"),
                (b"x-ratelimit-limit-requests", b"7"),
            ],
        )
    )
    with remote.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["x-ratelimit-limit-requests"] == "7"
        received = b""
        stream = answer.iter_raw()
        while received != b"".join(pieces[:2]):  # what came before the gate is not held back
            received += next(stream)
        gate.open()
        received += b"".join(stream)
    assert received == b"".join(pieces)


def test_a_conversation_that_does_not_alternate_is_normalised(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    remote.http.post(
        "/v1/chat/completions", json={"model": "m", "messages": messages, "seed": 7}
    ).raise_for_status()
    [received] = upstream.requests
    sent = json.loads(received.body)
    assert sent["messages"] == [{"role": "user", "content": "a\n\nb"}]
    assert sent["seed"] == 7


def test_a_lone_surrogate_survives_normalising(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    body = (
        rb'{"model":"m","messages":[{"role":"user","content":"a\ud800"},'
        rb'{"role":"user","content":"b"}]}'
    )
    upstream.answer(Script(body=b"{}"))
    remote.http.post(
        "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
    ).raise_for_status()
    assert b"a\\ud800\\n\\nb" in upstream.requests[0].body


@pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 500, 503, 529])
@pytest.mark.parametrize("stream", [False, True])
def test_an_upstreams_own_error_passes_as_it_is(
    remote: RunningRelay, upstream: FakeUpstream, status: int, stream: bool
) -> None:
    body = b'{"error": {"message": "no", "type": "t", "param": null, "code": "c"}, "x": 1.0}'
    upstream.answer(
        Script(
            status=status,
            body=body,
            headers=[
                (b"content-type", b"application/json"),
                (b"retry-after", b"3"),
                (b"x-ratelimit-remaining-tokens", b"0"),
                (b"set-cookie", b"a=b"),
                (b"access-control-allow-origin", b"*"),
            ],
        )
    )
    answer = remote.ask(stream=stream)
    assert answer.status_code == status
    assert answer.content == body
    assert answer.headers["retry-after"] == "3"
    assert answer.headers["x-ratelimit-remaining-tokens"] == "0"
    assert "set-cookie" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_key_is_the_operators_fault_and_its_body_stays_hidden(
    remote: RunningRelay, upstream: FakeUpstream, status: int, stream: bool
) -> None:
    upstream.answer(Script(status=status, body=b'{"error": {"message": "key sk-hid*** is bad"}}'))
    answer = remote.ask(stream=stream)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_auth"
    assert "sk-" not in answer.text


def test_a_redirect_is_not_followed(remote: RunningRelay, upstream: FakeUpstream) -> None:
    upstream.answer(Script(status=302, headers=[(b"location", b"http://127.0.0.1:9/steal")]))
    answer = remote.ask()
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_protocol"
    assert "location" not in answer.headers
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_before_the_head_is_502(
    remote: RunningRelay, upstream: FakeUpstream, stream: bool
) -> None:
    upstream.answer(Script(raw=b"HTTP/1.1 200 OK\r\n", reset_at=5))
    answer = remote.ask(stream=stream)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_protocol"


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_a_failure_in_mid_stream_is_one_error_event_and_no_done(
    remote: RunningRelay, upstream: FakeUpstream, framing: str
) -> None:
    pieces = transcripts.chat_stream(["a", "b", "c"])
    cut = len(pieces[0]) + len(pieces[1]) + 9  # in the middle of the third event
    upstream.answer(
        Script(
            pieces=pieces,
            framing=framing,
            reset_at=cut,
            headers=[(b"content-type", b"text/event-stream")],
        )
    )
    answer = remote.ask(stream=True)
    assert answer.status_code == 200
    events = answer.content.split(b"\n\n")
    assert b"\n\n".join(events[:2]) + b"\n\n" == pieces[0] + pieces[1]
    assert len(events) == 4
    assert events[3] == b""
    error = json.loads(events[2].removeprefix(b"data: "))["error"]
    assert error["code"] == "upstream_protocol"
    assert b"[DONE]" not in answer.content


@pytest.mark.parametrize(
    ("limit", "script", "streamed"),
    [
        ("first_byte_s", Script(gate=Gate()), False),
        ("first_byte_s", Script(gate=Gate()), True),
        ("first_byte_s", Script(pieces=[b"never"], piece_gates={0: Gate()}), True),
    ],
)
def test_a_late_first_byte_is_504(
    start_relay: StartRelay, upstream: FakeUpstream, limit: str, script: Script, streamed: bool
) -> None:
    relay = start_relay(upstream_url=upstream.url, timeouts={limit: 0.2})
    upstream.answer(script)
    answer = relay.ask(stream=streamed)
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "upstream_timeout"
    assert limit in answer.json()["error"]["message"]


@pytest.mark.parametrize("limit", ["idle_s", "total_s"])
def test_a_stream_that_falls_silent_ends_with_an_error_event(
    start_relay: StartRelay, upstream: FakeUpstream, limit: str
) -> None:
    relay = start_relay(upstream_url=upstream.url, timeouts={limit: 0.4})
    pieces = transcripts.chat_stream(["a", "b"])
    upstream.answer(
        Script(pieces=pieces, stall_after=2, headers=[(b"content-type", b"text/event-stream")])
    )
    answer = relay.ask(stream=True)
    assert answer.content.startswith(pieces[0] + pieces[1])
    error = json.loads(answer.content.split(b"\n\n")[2].removeprefix(b"data: "))["error"]
    assert error["code"] == "upstream_timeout"
    assert limit in error["message"]


def test_a_host_that_takes_no_connection_is_504_within_the_connect_limit(
    start_relay: StartRelay, silent_listener: str
) -> None:
    relay = start_relay(
        upstream_url=f"https://{silent_listener}/v1", timeouts={"connect_s": 0.2}, retries=1
    )
    answer = relay.ask()
    assert answer.status_code == 504
    assert "connect_s" in answer.json()["error"]["message"]
    assert answer.headers["x-relay-attempts"] == "2"


def test_a_dead_port_is_502_after_the_configured_retries(start_relay: StartRelay) -> None:
    relay = start_relay(upstream_url="http://127.0.0.1:9/v1", retries=2)
    for streamed in (False, True):
        answer = relay.ask(stream=streamed)
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "upstream_unreachable"
        assert answer.headers["x-relay-attempts"] == "3"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("where", ["before the head", "mid-stream"])
def test_a_client_that_leaves_closes_the_upstream(
    remote: RunningRelay, upstream: FakeUpstream, streamed: bool, where: str
) -> None:
    script = Script(gate=Gate())
    if where == "mid-stream":
        script = Script(
            pieces=transcripts.chat_stream(["a", "b"]),
            stall_after=1,
            headers=[(b"content-type", b"text/event-stream")],
        )
    upstream.answer(script)
    client = httpx.Client(base_url=remote.root, timeout=0.3, trust_env=False)
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=chat(stream=streamed))
    client.close()
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
    assert len(remote.relay.presence) == 0


def test_models_come_from_the_upstream(remote: RunningRelay, upstream: FakeUpstream) -> None:
    direct = httpx.get(f"{upstream.url}/models", trust_env=False)
    relayed = remote.http.get("/v1/models")
    assert relayed.json() == direct.json()
    name = relayed.json()["data"][0]["id"]
    one = remote.http.get(f"/v1/models/{name}")
    assert one.json()["id"] == name
    assert upstream.requests[-1].header("authorization") == f"Bearer {UPSTREAM_KEY}"


def test_a_model_id_with_a_slash_stays_one_segment(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    remote.http.get("/v1/models/vendor%2Fname")
    assert upstream.requests[-1].path == "/v1/models/vendor%2Fname"


@pytest.mark.parametrize("path", ["/v1/models/..", "/v1/models/a/%2e%2e/%2e%2e/%2e%2e/secrets"])
def test_a_model_id_cannot_climb_out_of_the_base_url(
    remote: RunningRelay, upstream: FakeUpstream, path: str
) -> None:
    raw = httpx.URL(remote.root).copy_with(raw_path=path.encode())
    assert remote.http.get(raw).status_code in (401, 404)
    assert upstream.requests == []


def test_named_models_are_routed_and_renamed_and_others_do_not_exist(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = start_relay(
        upstreams=[{"name": "eu", "base_url": upstream.url, "api_keys": ["k1"]}],
        models=[
            {"id": "fast", "targets": [{"upstream": "eu", "model": "gpt-fast-2026"}]},
            {"id": "open/*", "targets": [{"upstream": "eu"}]},
            {"id": "here", "targets": [{"local": True}]},
        ],
        local="echo",
    )
    body = b'{"model": "fast", "messages": [{"role": "user", "content": "1"}], "top_p": 0.50}'
    answer = relay.http.post(
        "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
    )
    assert answer.headers["x-relay-upstream"] == "eu"
    assert json.loads(upstream.requests[-1].body)["model"] == "gpt-fast-2026"
    relay.http.post("/v1/chat/completions", json=chat() | {"model": "open/x"})
    assert json.loads(upstream.requests[-1].body)["model"] == "open/x"
    local = relay.http.post("/v1/chat/completions", json=chat("hi") | {"model": "here"})
    assert local.headers["x-relay-upstream"] == "local"
    unknown = relay.http.post("/v1/chat/completions", json=chat() | {"model": "fas"})
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"
    listed = [card["id"] for card in relay.http.get("/v1/models").json()["data"]]
    assert listed == ["fast", "here"]
    assert relay.http.get("/v1/models/fast").json()["id"] == "fast"
    assert relay.http.get("/v1/models/none").status_code == 404


def test_a_gzipped_answer_passes_with_its_encoding(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(
        Script(
            body=b'{"big": "answer"}', gzip=True, headers=[(b"content-type", b"application/json")]
        )
    )
    answer = remote.ask()
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json() == {"big": "answer"}
