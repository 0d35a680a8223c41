"""The classic WebSocket chat, by a client written from its description alone."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import transcripts
from fake_script import Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay
from sockets import dial
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

KEY = "rk-socket-0123456789"


def ask(socket: ClientConnection, query: str, history: list[Any] | None = None) -> list[Any]:
    """One turn: the frames up to the one that ends it."""
    socket.send(json.dumps({"query": query, "history": history or []}))
    return list(frames(socket))


def frames(socket: ClientConnection) -> Iterator[dict[str, Any]]:
    while True:
        frame = json.loads(socket.recv(timeout=20))
        yield frame
        if frame["status"] != 202:
            return


@pytest.mark.parametrize("target", ["echo", "remote"])
def test_two_turns_are_cumulative_and_carry_the_history(
    request: pytest.FixtureRequest, target: str
) -> None:
    relay: RunningRelay = request.getfixturevalue(target)
    with dial(relay) as socket:
        first = ask(socket, "one two")
        *growing, end = first
        assert end == {"status": 200}
        texts = [frame["response"] for frame in growing]
        assert texts[-1] == "one two"
        assert len(texts) > 1
        assert all(later.startswith(text) for text, later in itertools.pairwise(texts))
        assert all(frame["status"] == 202 for frame in growing)
        assert all(set(frame) == {"response", "history", "status"} for frame in growing)
        assert growing[0]["history"] == [["one two", texts[0]]]
        second = ask(socket, "three", growing[-1]["history"])
        assert second[-2]["history"] == [["one two", "one two"], ["three", "three"]]


def test_the_history_and_the_first_model_go_upstream(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    with dial(remote) as socket:
        ask(socket, "and now?", [["q", "a"]])
    sent = json.loads(upstream.requests[-1].body)
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    listed = remote.http.get("/v1/models").json()["data"]
    assert len(listed) > 1
    assert sent["model"] == listed[0]["id"]
    assert sent["stream"] is True


def test_a_default_model_and_a_frames_own_model_are_asked(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = start_relay(upstream_url=upstream.url, default_model="chosen")
    with dial(relay) as socket:
        ask(socket, "x")
        assert json.loads(upstream.requests[-1].body)["model"] == "chosen"
        socket.send(json.dumps({"query": "x", "model": "other"}))
        list(frames(socket))
    assert json.loads(upstream.requests[-1].body)["model"] == "other"


@pytest.mark.parametrize(
    ("frame", "param"),
    [
        ("nonsense", None),
        ("[1]", None),
        ("[" * 100_000, None),
        ('{"history": []}', "query"),
        ('{"query": "  "}', "query"),
        ('{"query": 5}', "query"),
        ('{"query": "x", "history": "no"}', "history"),
        ('{"query": "x", "history": [["only one"]]}', "history"),
        ('{"query": "x", "history": [["a", 5]]}', "history"),
        ('{"query": "x", "model": 5}', "model"),
    ],
)
def test_a_wrong_frame_is_told_what_is_wrong_and_the_socket_lives(
    echo: RunningRelay, frame: str, param: str | None
) -> None:
    with dial(echo) as socket:
        socket.send(frame)
        [answer] = frames(socket)
        assert answer["type"] == "error"
        assert answer["status"] == 400
        assert answer["error"]["param"] == param
        assert ask(socket, "still here")[-1] == {"status": 200}


def test_a_frame_may_come_as_bytes_and_an_unneeded_key_is_ignored(echo: RunningRelay) -> None:
    with dial(echo) as socket:
        socket.send(json.dumps({"key": "whatever"}))
        socket.send(json.dumps({"query": "hi"}).encode())
        assert list(frames(socket))[-1] == {"status": 200}


def test_stop_ends_the_answer_and_the_upstream(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(
        Script(
            pieces=transcripts.chat_stream(["a", "b"]),
            stall_after=2,
            headers=[(b"content-type", b"text/event-stream")],
        ),
        path="/v1/chat/completions",
        times=1,
    )
    with dial(remote) as socket:
        socket.send(json.dumps({"query": "long"}))
        assert json.loads(socket.recv(timeout=20))["response"] == "a"
        socket.send(json.dumps({"query": "impatient"}))
        busy = json.loads(socket.recv(timeout=20))
        assert "still running" in busy["error"]["message"]
        socket.send(json.dumps({"type": "stop"}))
        assert json.loads(socket.recv(timeout=20)) == {"status": 200}
        upstream.wait_for(lambda: upstream.requests[-1].closed_at is not None)
        socket.send(json.dumps({"type": "stop"}))  # nothing runs: nothing is said
        assert ask(socket, "next")[-1] == {"status": 200}


def test_leaving_closes_the_upstream(remote: RunningRelay, upstream: FakeUpstream) -> None:
    upstream.answer(
        Script(
            pieces=transcripts.chat_stream(["a", "b"]),
            stall_after=2,
            headers=[(b"content-type", b"text/event-stream")],
        ),
        path="/v1/chat/completions",
    )
    with dial(remote) as socket:
        socket.send(json.dumps({"query": "long"}))
        socket.recv(timeout=20)
    upstream.wait_for(lambda: upstream.requests[-1].closed_at is not None)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (Script(status=429, body=transcripts.error_body("slow down")), "slow down"),
        (Script(status=500, body=b"<html>oops"), "status 500"),
        (Script(status=500, body=b'{"error": "oops"}'), "status 500"),
        (Script(status=401, body=b"{}"), "refuses"),
        (Script(body=b"data: {nonsense\n\n"), "cannot be read"),
        (Script(body=b"data: []\n\n"), "cannot be read"),
        (Script(body=b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'), "broke off"),
        (Script(body=b'data: {"error": {"message": "out of luck"}}\n\n'), "out of luck"),
        (Script(body=b'data: {"error": "bad"}\n\n'), "failed"),
    ],
)
def test_a_failure_is_an_error_frame_and_the_socket_lives(
    start_relay: StartRelay, upstream: FakeUpstream, script: Script, message: str
) -> None:
    relay = start_relay(upstream_url=upstream.url, default_model="m")
    upstream.answer(script, times=1)
    with dial(relay) as socket:
        last = ask(socket, "x")[-1]
        assert last["type"] == "error"
        assert message in last["error"]["message"]
        assert ask(socket, "again")[-1] == {"status": 200}


def test_an_upstream_without_models_is_said_clearly(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(body=b'{"data": []}'), path="/v1/models")
    with dial(remote) as socket:
        [answer] = ask(socket, "x")
        assert "RELAY_DEFAULT_MODEL" in answer["error"]["message"]


@pytest.fixture
def guarded(start_relay: StartRelay) -> RunningRelay:
    return start_relay(local="echo", api_keys=[KEY])


def test_the_key_comes_as_header_subprotocol_or_first_frame(guarded: RunningRelay) -> None:
    with dial(guarded, additional_headers={"authorization": f"Bearer {KEY}"}) as socket:
        assert ask(socket, "x")[-1] == {"status": 200}
    with dial(guarded, subprotocols=["relay", f"key.{KEY}"]) as socket:
        assert socket.subprotocol == "relay"
        assert ask(socket, "x")[-1] == {"status": 200}
    with dial(guarded) as socket:
        socket.send(json.dumps({"key": KEY}))
        assert ask(socket, "x")[-1] == {"status": 200}


@pytest.mark.parametrize(
    "more",
    [
        {"additional_headers": {"authorization": "Bearer wrong"}},
        {"subprotocols": ["relay", "key.wrong"]},
    ],
)
def test_a_wrong_key_is_refused_at_the_handshake(
    guarded: RunningRelay, more: dict[str, Any]
) -> None:
    with pytest.raises(InvalidStatus) as refused, dial(guarded, **more):
        pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body)["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    "frame", ['{"key": "wrong"}', '{"key": 5}', '{"query": "x"}', "nonsense", '{"key": "\\ud800"}']
)
def test_a_wrong_first_frame_is_answered_and_the_socket_closed(
    guarded: RunningRelay, frame: str
) -> None:
    with dial(guarded) as socket:
        socket.send(frame)
        answer = json.loads(socket.recv(timeout=20))
        assert answer["error"]["code"] == "invalid_api_key"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_a_key_that_does_not_come_is_not_waited_for_for_ever(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", api_keys=[KEY], websocket={"key_wait_s": 0.1})
    with dial(relay) as socket:
        assert "in time" in json.loads(socket.recv(timeout=20))["error"]["message"]


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("http://localhost:3000", True), ("https://evil.example", False), ("null", False)],
)
def test_the_origin_is_held_against_the_list(
    echo: RunningRelay, origin: str, allowed: bool
) -> None:
    if allowed:
        with dial(echo, origin=origin) as socket:
            assert ask(socket, "x")[-1] == {"status": 200}
        return
    with pytest.raises(InvalidStatus) as refused, dial(echo, origin=origin):
        pass
    assert refused.value.response.status_code == 403
    assert json.loads(refused.value.response.body)["error"]["code"] == "origin_not_allowed"


def test_there_is_no_socket_anywhere_else(echo: RunningRelay) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(echo.root.replace("http", "ws") + "/ws/other", proxy=None)
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body)["error"]["code"] == "not_found"


def test_the_page_of_the_relay_itself_may_connect(echo: RunningRelay) -> None:
    with dial(echo, origin=echo.root) as socket:
        assert ask(socket, "x")[-1] == {"status": 200}
