"""What is passed on under /v1, what is refused, and how failures look from outside."""

import json
import socket

import httpx
import pytest
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import UPSTREAM_KEY, RunningRelay, StartRelay

JSON = (b"content-type", b"application/json")


@pytest.fixture
def all_of_it(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    return start_relay(
        upstream_url=upstream.url,
        upstream_api_key=UPSTREAM_KEY,
        passthrough=["*"],
        max_body_bytes=200_000,
        max_upload_bytes=400_000,
    )


def raw(relay: RunningRelay, request: bytes) -> bytes:
    """What a relay answers to those very bytes."""
    host, port = relay.root.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(request)
        return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_method_path_query_and_body_arrive_as_they_were_sent(
    all_of_it: RunningRelay, upstream: FakeUpstream, method: str
) -> None:
    upstream.answer(Script(status=201, headers=[JSON, (b"x-vendor", b"1")], body=b'{"n": 1.50}'))
    target = "/v1/files/a%2Fb%20c?after=x%2By+z&list[]=1&list[]=2&empty="
    request = (
        b"%b %b HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-type: text/plain\r\n"
        b"authorization: Bearer theirs\r\nconnection: close\r\n\r\nbody"
    )
    answer = raw(all_of_it, request % (method.encode(), target.encode()))
    [received] = upstream.requests
    assert (received.method, received.target) == (method, target)
    assert received.body == b"body"
    assert received.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    assert received.header("content-type") == "text/plain"
    assert answer.startswith(b"HTTP/1.1 201 ")
    assert b"x-vendor: 1\r\n" in answer
    assert b"x-relay-upstream: upstream\r\n" in answer
    assert b'{"n": 1.50}' in answer


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_an_upstreams_error_comes_back_as_it_is(
    remote: RunningRelay, upstream: FakeUpstream, status: int
) -> None:
    upstream.answer(Script(status=status, headers=[JSON, (b"retry-after", b"7")], body=b'{"e":1}'))
    answer = remote.http.post("/v1/embeddings", json={"input": "x"})
    assert (answer.status_code, answer.content) == (status, b'{"e":1}')
    assert answer.headers["retry-after"] == "7"


def test_an_upstream_that_refuses_the_key_is_502(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(status=401, body=b"secret words"))
    answer = remote.http.post("/v1/embeddings", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_auth")
    assert "secret words" not in answer.text


def test_what_is_not_allowed_is_404_and_the_setting_is_named(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    for method, path in (("GET", "/v1/files"), ("GET", "/v1/embeddings"), ("OPTIONS", "/v1/files")):
        answer = remote.http.request(method, path)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (404, "not_found")
        assert "RELAY_PASSTHROUGH" in error["message"]
    assert not upstream.requests


def test_without_an_upstream_one_sentence_says_so(echo: RunningRelay) -> None:
    answer = echo.http.post("/v1/embeddings", json={"input": "x"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "not_found")
    assert "without an upstream" in error["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../admin",
        "/v1/files/../../admin",
        "/v1/files/%2e%2e/%2E%2e/admin",
        "/v1/files%2f..%2f..%2fadmin",
        "/v1/files/..%5c..%5cadmin",
        "/v1//admin",
        "/v1/files/./x",
        "/v1/",
        "/v1%2ffiles",
        "//v1/files",
    ],
)
def test_nothing_climbs_out_of_the_base_url(
    all_of_it: RunningRelay, upstream: FakeUpstream, path: str
) -> None:
    request = b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % path.encode()
    answer = raw(all_of_it, request)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"not_found"' in answer
    assert not upstream.requests


def test_trace_never_reaches_the_upstream(all_of_it: RunningRelay, upstream: FakeUpstream) -> None:
    answer = raw(all_of_it, b"TRACE /v1/files HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert not upstream.requests


def test_the_key_is_checked_first(start_relay: StartRelay, upstream: FakeUpstream) -> None:
    relay = start_relay(upstream_url=upstream.url, api_keys=["rk-right-0123456789"])
    assert relay.http.post("/v1/embeddings", json={}).status_code == 401
    assert relay.http.get("/v1/files").status_code == 401
    assert not upstream.requests


def test_wrong_methods_of_our_own_paths_stay_405_unless_they_are_switched_on(
    remote: RunningRelay, all_of_it: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(body=b"{}"))
    for method, path in (("PUT", "/v1/chat/completions"), ("DELETE", "/v1/models/ft:x")):
        assert remote.http.request(method, path).status_code == 405
        assert not upstream.requests
    assert all_of_it.http.delete("/v1/models/ft:x").status_code == 200
    assert upstream.requests[0].target == "/v1/models/ft:x"


@pytest.mark.parametrize("status", [200, 204])
def test_answers_without_a_body(
    all_of_it: RunningRelay, upstream: FakeUpstream, status: int
) -> None:
    method = "HEAD" if status == 200 else "DELETE"
    upstream.answer(Script(raw=b"HTTP/1.1 %d X\r\nx-vendor: 1\r\n\r\n" % status))
    for _ in range(2):
        answer = all_of_it.http.request(method, "/v1/files/f")
        assert (answer.status_code, answer.content) == (status, b"")
        assert answer.headers["x-vendor"] == "1"


@pytest.mark.parametrize(
    ("kind", "allowed"), [("application/json", 200_000), ("multipart/form-data", 400_000)]
)
@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "counted"])
def test_a_body_that_is_too_large_is_413(
    all_of_it: RunningRelay, upstream: FakeUpstream, kind: str, allowed: int, chunked: bool
) -> None:
    upstream.answer(Script(body=b"fine"))

    def send(size: int) -> httpx.Response:
        body = b"x" * size
        pieces = (body[at : at + 10_000] for at in range(0, size, 10_000))
        return all_of_it.http.post(
            "/v1/files", content=pieces if chunked else body, headers={"content-type": kind}
        )

    assert send(allowed).status_code == 200
    answer = send(allowed + 1)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    upstream.wait_for(lambda: len(upstream.requests) == 1)
    assert len(upstream.requests[0].body) == allowed


def test_a_body_that_stops_coming_is_408(start_relay: StartRelay, upstream: FakeUpstream) -> None:
    relay = start_relay(upstream_url=upstream.url, body_timeout_s=0.2)
    answer = raw(
        relay,
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\nhalf",
    )
    assert answer.startswith(b"HTTP/1.1 408 ")
    upstream.wait_for(lambda: not upstream.open_connections)


def test_events_pass_piece_by_piece_and_a_broken_stream_ends_with_one_error(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    event = b'event: response.created\ndata: {"type":"response.created"}\n\n'
    gate = Gate()
    upstream.answer(
        Script(
            headers=[(b"content-type", b"text/event-stream; charset=utf-8")],
            pieces=[event, event[:9], event[9:]],
            piece_gates={1: gate},
            close_at=len(event) + 9,
        )
    )
    with remote.http.stream("POST", "/v1/responses", json={"stream": True}) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == event
        gate.open()
        rest = b"".join(pieces)
    assert rest.startswith(b"data: ")
    assert rest.count(b"data: ") == 1
    assert json.loads(rest.removeprefix(b"data: "))["error"]["code"] == "upstream_protocol"


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_any_other_answer_that_breaks_off_is_cut(
    remote: RunningRelay, upstream: FakeUpstream, framing: str, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.answer(
        Script(
            headers=[(b"content-type", b"audio/mpeg")],
            pieces=[b"a" * 1000, b"b" * 1000],
            framing=framing,  # type: ignore[arg-type]
            reset_at=1500,
        )
    )
    with (
        pytest.raises(httpx.RemoteProtocolError),
        remote.http.stream("POST", "/v1/audio/speech", json={}) as answer,
    ):
        answer.read()
    assert remote.http.get("/healthz").status_code == 200
    assert "answer_cut" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_failure_before_the_head_is_a_proper_status(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(raw=b"garbage\r\n\r\n"))
    answer = remote.http.post("/v1/embeddings", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_protocol")


@pytest.fixture
def routed(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    """A relay with named models: one renamed, one with a dead target first, one local."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    return start_relay(
        local="echo",
        retries=0,
        upstreams=[
            {"name": "dead", "base_url": dead},
            {"name": "good", "base_url": upstream.url},
        ],
        models=[
            {"id": "small", "targets": [{"upstream": "good", "model": "text-small-3"}]},
            {
                "id": "sure",
                "targets": [{"upstream": "dead"}],
                "fallback": [{"local": True}, {"upstream": "good"}],
            },
            {"id": "here", "targets": [{"local": True}]},
        ],
    )


def test_with_named_models_the_model_of_the_body_says_where_it_goes(
    routed: RunningRelay, upstream: FakeUpstream
) -> None:
    body = b'{ "input": "\\u00e9", "n": 1.0, "model": "small" }'
    answer = routed.http.post(
        "/v1/embeddings", content=body, headers={"content-type": "application/json"}
    )
    assert answer.headers["x-relay-upstream"] == "good"
    assert upstream.requests[0].body == body.replace(b"small", b"text-small-3")


def test_a_passed_on_call_has_fallbacks_but_the_local_model(
    routed: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(body=b"{}"))
    answer = routed.http.post("/v1/embeddings", json={"model": "sure"})
    assert answer.status_code == 200
    assert answer.headers["x-relay-upstream"] == "good"
    assert answer.headers["x-relay-attempts"] == "2"


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [("other", 404, "model_not_found"), ("here", 503, "no_upstream_available")],
)
def test_a_passed_on_call_for_a_model_that_is_not_there(
    routed: RunningRelay, model: str, status: int, code: str
) -> None:
    answer = routed.http.post("/v1/embeddings", json={"model": model})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": 5}', b'{"model": ""}', b"{}"])
def test_a_body_that_names_no_model_goes_to_the_default_upstream(
    start_relay: StartRelay, upstream: FakeUpstream, body: bytes
) -> None:
    relay = start_relay(
        upstream_url=upstream.url, models=[{"id": "m", "targets": [{"upstream": "upstream"}]}]
    )
    relay.http.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
    assert upstream.requests[0].body == body
