"""Whatever is sent, the answer is OpenAI's envelope with the right status, and never a 500."""

import json
import socket
from typing import Any

import pytest
from fake_upstream import FakeUpstream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import RunningRelay, StartRelay, chat
from waiting import until

JSON = {"content-type": "application/json"}


def envelope(answer: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """The error of an answer, checked to be exactly OpenAI's shape."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    if code is not None:
        assert body["error"]["code"] == code
    return dict(body["error"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"model": "m",}',
        b'{"model": NaN}',
        b'{"a": Infinity}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
        b"[]",
        b'"text"',
        b"null",
        b"42",
    ],
)
def test_a_body_that_is_no_json_object_is_400(echo: RunningRelay, body: bytes) -> None:
    answer = echo.http.post("/v1/chat/completions", content=body, headers=JSON)
    assert envelope(answer, 400)["type"] == "invalid_request_error"


def user(content: Any = "hi", **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content, **more}]


WRONG_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 3}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [{}]}, "messages[0].role"),
    ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
    ({"messages": user(5)}, "messages[0].content"),
    ({"messages": user([5])}, "messages[0].content[0]"),
    ({"messages": user([{"text": "x"}])}, "messages[0].content[0].type"),
    ({"messages": user(tool_calls="x")}, "messages[0].tool_calls"),
    ({"stream": "yes"}, "stream"),
    ({"stream": 1}, "stream"),
    ({"stream_options": 3}, "stream_options"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": []}, "top_p"),
    ({"n": 1.5}, "n"),
    ({"max_tokens": "many"}, "max_tokens"),
    ({"max_completion_tokens": {}}, "max_completion_tokens"),
    ({"max_length": "x"}, "max_length"),
    ({"stop": 7}, "stop"),
    ({"seed": "x"}, "seed"),
    ({"frequency_penalty": "x"}, "frequency_penalty"),
    ({"presence_penalty": {}}, "presence_penalty"),
    ({"logprobs": "x"}, "logprobs"),
    ({"top_logprobs": "x"}, "top_logprobs"),
    ({"logit_bias": []}, "logit_bias"),
    ({"response_format": "json"}, "response_format"),
    ({"tools": {}}, "tools"),
    ({"tool_choice": 4}, "tool_choice"),
    ({"parallel_tool_calls": "x"}, "parallel_tool_calls"),
    ({"user": 5}, "user"),
]


@pytest.mark.parametrize(("fields", "param"), WRONG_FIELDS)
@pytest.mark.parametrize("target", ["echo", "remote"])
def test_a_wrong_field_is_named(
    request: pytest.FixtureRequest, target: str, fields: dict[str, Any], param: str
) -> None:
    relay: RunningRelay = request.getfixturevalue(target)
    answer = relay.http.post("/v1/chat/completions", json=chat() | fields)
    error = envelope(answer, 400)
    assert error["param"] == param
    assert param in error["message"]


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named(echo: RunningRelay, missing: str) -> None:
    body = chat()
    del body[missing]
    answer = echo.http.post("/v1/chat/completions", json=body)
    assert envelope(answer, 400)["param"] == missing


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": "x"}],
        [{"role": "system", "content": "x"}],
        [*user(), {"role": "assistant", "content": "x"}],
        [*user(), {"role": "tool", "content": "x", "tool_call_id": "nobody-asked"}],
    ],
)
@pytest.mark.parametrize("target", ["echo", "remote"])
def test_the_last_message_must_ask_something(
    request: pytest.FixtureRequest, target: str, messages: list[dict[str, Any]]
) -> None:
    relay: RunningRelay = request.getfixturevalue(target)
    answer = relay.http.post("/v1/chat/completions", json=chat() | {"messages": messages})
    assert envelope(answer, 400)["param"] == "messages"


def test_reject_refuses_what_normalize_would_mend(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", history="reject")
    answer = relay.http.post("/v1/chat/completions", json=chat() | {"messages": [*user(), *user()]})
    assert str(envelope(answer, 400)["param"]).startswith("messages")


def test_passthrough_leaves_the_conversation_alone(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = start_relay(upstream_url=upstream.url, history="passthrough")
    messages = [*user(), *user(), {"role": "assistant", "content": "And so"}]
    relay.http.post("/v1/chat/completions", json=chat() | {"messages": messages}).raise_for_status()
    assert json.loads(upstream.requests[0].body)["messages"] == messages


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "a b", ""])
def test_another_content_type_is_415(echo: RunningRelay, kind: str) -> None:
    answer = echo.http.post(
        "/v1/chat/completions", content=json.dumps(chat()), headers={"content-type": kind}
    )
    envelope(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.x+json"])
def test_json_may_be_declared_in_its_variants(echo: RunningRelay, kind: str) -> None:
    answer = echo.http.post(
        "/v1/chat/completions", content=json.dumps(chat()), headers={"content-type": kind}
    )
    assert answer.status_code == 200


def test_unknown_routes_and_methods_have_the_envelope(echo: RunningRelay) -> None:
    envelope(echo.http.get("/nothing"), 404, "not_found")
    envelope(echo.http.get("/v1/nothing"), 404, "not_found")
    envelope(echo.http.post("/v1/chat/completions/"), 404, "not_found")
    wrong = echo.http.get("/v1/chat/completions")
    envelope(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    envelope(echo.http.delete("/v1/models"), 405, "method_not_allowed")
    envelope(echo.http.get("/static/none.js"), 404, "not_found")
    assert echo.http.head("/nothing").content == b""


def test_a_body_over_the_limit_is_413_announced_or_counted(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", max_body_bytes=1000)
    big = json.dumps(chat("x" * 2000)).encode()
    announced = relay.http.post("/v1/chat/completions", content=big, headers=JSON)
    envelope(announced, 413, "request_too_large")
    counted = relay.http.post(
        "/v1/chat/completions", content=iter([big[:600], big[600:]]), headers=JSON
    )
    envelope(counted, 413, "request_too_large")
    assert relay.ask("small").status_code == 200
    in_pieces = iter([b'{"model": "m", "messages": ', b'[{"role": "user", "content": "x"}]}'])
    assert (
        relay.http.post("/v1/chat/completions", content=in_pieces, headers=JSON).status_code == 200
    )


def test_an_endless_body_is_refused_without_being_read(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", max_body_bytes=1000)
    with socket.create_connection(relay.server.servers[0].sockets[0].getsockname()) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
            b"content-type: application/json\r\ncontent-length: 1000000000\r\n\r\n"
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 413")
        while client.recv(1000):  # and the connection is closed
            pass


def test_a_body_that_does_not_come_is_408(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", body_timeout_s=0.2)
    with socket.create_connection(relay.server.servers[0].sockets[0].getsockname()) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
            b"content-type: application/json\r\ncontent-length: 10\r\n\r\nabc"
        )
        assert b" 408 " in client.recv(1000)


def test_a_client_that_leaves_while_sending_leaves_nothing_behind(echo: RunningRelay) -> None:
    address = echo.server.servers[0].sockets[0].getsockname()
    with socket.create_connection(address) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
            b"content-type: application/json\r\ncontent-length: 10\r\n\r\nabc"
        )
    assert echo.ask("still there").status_code == 200
    until(lambda: len(echo.relay.presence) == 0)


@pytest.mark.parametrize("sane", [True, False])
def test_the_request_id_is_the_clients_when_it_is_sane(echo: RunningRelay, sane: bool) -> None:
    given_id = "abc-123" if sane else "a b;<script>"
    answer = echo.http.post("/v1/chat/completions", json=chat(), headers={"x-request-id": given_id})
    assert (answer.headers["x-request-id"] == given_id) is sane


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = sorted({name for fields, _ in WRONG_FIELDS for name in fields})
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "tool", "developer"]) | ANY_JSON,
        "content": st.text(max_size=8) | ANY_JSON,
        "tool_calls": ANY_JSON,
        "tool_call_id": ANY_JSON,
        "name": ANY_JSON,
    },
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(FIELDS, ANY_JSON),
        "model": st.just("m") | ANY_JSON,
        "messages": st.lists(MESSAGE | ANY_JSON, max_size=4) | ANY_JSON,
    },
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=REQUEST)
def test_no_request_is_a_fault_of_ours(echo: RunningRelay, body: dict[str, Any]) -> None:
    answer = echo.http.post("/v1/chat/completions", content=json.dumps(body).encode(), headers=JSON)
    if answer.status_code == 200 and body.get("stream") is True:
        assert answer.text.endswith("data: [DONE]\n\n")
    elif answer.status_code == 200:
        assert answer.json()["choices"]
    else:
        envelope(answer, 400)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
def test_no_bytes_are_a_fault_of_ours(echo: RunningRelay, body: bytes) -> None:
    envelope(echo.http.post("/v1/chat/completions", content=body, headers=JSON), 400)


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
def test_a_key_is_no_request_id(start_relay: StartRelay, name: str) -> None:
    """It would stand in the log and in the ledger."""
    key = "words-of-no-known-form"
    relay = start_relay(local="echo", api_keys=[key])
    path = {"authorization": "/v1/chat/completions", "x-api-key": "/v1/messages"}[name]
    shown = {name: f"Bearer {key}" if name == "authorization" else key}
    body = {**chat(), "max_tokens": 5}
    for id_, kept in ((key, False), ("rk-another-0123456789", False), ("form", True)):
        answer = relay.http.post(path, json=body, headers={**shown, "x-request-id": id_})
        assert answer.status_code == 200
        assert (answer.headers["x-request-id"] == id_) is kept
