"""Chat frames: requests of OpenAI's API on a socket, several at a time."""

import json
from typing import Any

import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import UPSTREAM_KEY, RunningRelay, StartRelay, chat
from sockets import EVENTS, answer, ask, dial, stalling, told


def text(frames: list[dict[str, Any]]) -> str:
    pieces = []
    for frame in frames:
        for choice in frame.get("data", {}).get("choices", []):
            pieces.append(choice["delta"].get("content") or "")
    return "".join(pieces)


@pytest.mark.parametrize("target", ["echo", "remote"])
def test_chunks_come_as_they_are_and_then_done(request: pytest.FixtureRequest, target: str) -> None:
    with dial(request.getfixturevalue(target)) as socket:
        ask(socket, "a", "one two three")
        *chunks, end = answer(socket)
        assert end == {"type": "done", "id": "a"}
        assert all(set(frame) == {"type", "id", "data"} for frame in chunks)
        assert {frame["id"] for frame in chunks} == {"a"}
        assert chunks[0]["data"]["object"] == "chat.completion.chunk"
        assert text(chunks) == "one two three"
        ask(socket, "a")  # an id may be used again
        assert answer(socket)[-1] == {"type": "done", "id": "a"}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ('{"model" : "m", %s, "x": 1.50}', '{"model" : "m", %s, "x": 1.50, "stream": true}'),
        ('{"stream":false,"model":"m",%s}', '{"stream":true,"model":"m",%s}'),
        ('{"stream": true, "model":"m",%s }', '{"stream": true, "model":"m",%s }'),
    ],
)
def test_the_request_goes_up_with_its_own_bytes(
    remote: RunningRelay, upstream: FakeUpstream, given: str, sent: str
) -> None:
    messages = '"messages" :[{"role":"user","content":"h\\u00e9 \\n"}]'
    with dial(remote) as socket:
        socket.send('{"id":"b", "request": %s, "type":"chat"}' % (given % messages))
        assert answer(socket)[-1]["type"] == "done"
        socket.send(b'{"id":"b", "request": %s, "type":"chat"}' % (given % messages).encode())
        assert answer(socket)[-1]["type"] == "done"
    for received in upstream.requests:
        assert received.body.decode() == sent % messages
        assert received.header("authorization") == f"Bearer {UPSTREAM_KEY}"
        assert received.header("sec-websocket-key") is None


def test_several_answers_run_at_once_and_each_can_be_stopped(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(stalling("slow"), times=2)
    with dial(remote) as socket:
        ask(socket, "first")
        assert [told(socket)["id"] for _ in range(2)] == ["first", "first"]
        ask(socket, "second")
        assert [told(socket)["id"] for _ in range(2)] == ["second", "second"]
        ask(socket, "third", "quick")
        frames = answer(socket)
        assert {frame["id"] for frame in frames} == {"third"}
        assert text(frames) == "quick"
        socket.send('{"type": "stop", "id": "first"}')
        assert told(socket) == {"type": "done", "id": "first"}
        upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
        assert upstream.requests[1].closed_at is None
        socket.send('{"type": "stop", "id": "first"}')  # is over: nothing is said
        socket.send('{"type": "stop", "id": "second"}')
        assert told(socket) == {"type": "done", "id": "second"}


def test_a_stop_right_behind_its_question_ends_it(remote: RunningRelay) -> None:
    with dial(remote) as socket:
        ask(socket, "a")
        socket.send('{"type": "stop", "id": "a"}')
        assert answer(socket)[-1] == {"type": "done", "id": "a"}
        ask(socket, "b")
        assert answer(socket)[-1] == {"type": "done", "id": "b"}


def test_classic_and_chat_turns_share_a_socket(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = start_relay(upstream_url=upstream.url, default_model="m")
    upstream.answer(stalling("classic"), times=1)
    with dial(relay) as socket:
        socket.send('{"query": "x"}')
        assert told(socket)["response"] == "classic"
        ask(socket, "a")
        assert answer(socket)[-1]["type"] == "done"
        socket.send('{"type": "stop"}')
        assert told(socket) == {"status": 200}


@pytest.mark.parametrize(
    ("frame", "id_", "param"),
    [
        ("nonsense", None, None),
        (b"\xff", None, None),
        ({"type": "dance", "id": "a"}, "a", "type"),
        ({"type": None, "id": "a"}, "a", "query"),
        ({"type": "chat", "request": chat()}, None, "id"),
        ({"type": "chat", "id": 5, "request": chat()}, None, "id"),
        ({"type": "chat", "id": "", "request": chat()}, "", "id"),
        ({"type": "stop", "id": 5}, None, "id"),
        ({"type": "chat", "id": "a"}, "a", "request"),
        ({"type": "chat", "id": "a", "request": []}, "a", "request"),
        ({"type": "chat", "id": "a", "request": {"model": "m"}}, "a", "messages"),
        ({"type": "chat", "id": "a", "request": chat(temperature="hot")}, "a", "temperature"),
        ({"type": "chat", "id": "a", "request": {"messages": []}}, "a", None),
    ],
)
def test_a_wrong_frame_is_told_by_its_id_and_the_socket_lives(
    echo: RunningRelay, frame: Any, id_: str | None, param: str | None
) -> None:
    with dial(echo) as socket:
        socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))
        wrong = told(socket)
        assert wrong["type"] == "error"
        assert wrong.get("id") == id_
        assert wrong["status"] == 400
        assert set(wrong["error"]) == {"message", "type", "param", "code"}
        assert wrong["error"]["type"] == "invalid_request_error"
        if param is not None:
            assert wrong["error"]["param"] == param
        ask(socket, "next")
        assert answer(socket)[-1] == {"type": "done", "id": "next"}


def test_an_id_in_use_is_refused_and_its_answer_goes_on(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    gate = Gate()
    pieces = transcripts.chat_stream(["a", "b"])
    upstream.answer(Script(pieces=pieces, piece_gates={2: gate}, headers=EVENTS), times=1)
    with dial(remote) as socket:
        ask(socket, "same")
        assert [told(socket)["type"] for _ in range(2)] == ["chunk", "chunk"]
        ask(socket, "same")
        twice = told(socket)
        assert twice["id"] == "same"
        assert (twice["status"], twice["error"]["param"]) == (409, "id")
        gate.open()
        assert answer(socket)[-1] == {"type": "done", "id": "same"}


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        (Script(status=429, body=transcripts.error_body("slow down")), 429, "slow down"),
        (Script(status=500, body=b"<html>oops"), 500, "status 500"),
        (Script(status=401, body=b"{}"), 502, "refuses"),
        (Script(body=b"data: {nonsense\n\n"), 502, "cannot be read"),
        (Script(body=b"data: []\n\n"), 502, "cannot be read"),
        (Script(body=b'data: {"choices": [{"delta": {}}]}\n\n'), 502, "broke off"),
        (Script(body=b'data: {"error": {"message": "no luck", "code": 7}}\n\n'), 502, "no luck"),
        (Script(body=b'data: {"error": "bad"}\n\n'), 502, "failed"),
    ],
)
def test_a_failure_is_told_in_the_envelope_and_the_socket_lives(
    remote: RunningRelay, upstream: FakeUpstream, script: Script, status: int, message: str
) -> None:
    upstream.answer(script, times=1)
    with dial(remote) as socket:
        ask(socket, "x")
        failed = answer(socket)[-1]
        assert (failed["type"], failed["id"], failed["status"]) == ("error", "x", status)
        assert message in failed["error"]["message"]
        ask(socket, "y")
        assert answer(socket)[-1] == {"type": "done", "id": "y"}


def test_an_event_longer_than_a_parser_holds_is_told(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(body=b"data: " + b"x" * (17 << 20), headers=EVENTS), times=1)
    with dial(remote) as socket:
        ask(socket, "x")
        assert "cannot be read" in answer(socket)[-1]["error"]["message"]


def test_when_to_come_back_is_told(remote: RunningRelay, upstream: FakeUpstream) -> None:
    busy = Script(
        status=429, body=transcripts.error_body("busy"), headers=[(b"retry-after", b"30")]
    )
    upstream.answer(busy, times=1)
    with dial(remote) as socket:
        ask(socket, "x")
        assert answer(socket)[-1]["retry_after_s"] == 30


def test_usage_is_told_to_those_who_ask_for_it(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = start_relay(upstream_url=upstream.url, stream_usage=True)
    pieces = transcripts.chat_stream(["a"], usage=transcripts.USAGE)
    whole = b"".join(pieces)
    upstream.answer(Script(body=whole, cuts=range(7, len(whole), 7), headers=EVENTS))
    with dial(relay) as socket:
        ask(socket, "silent")
        assert not any(frame["data"].get("usage") for frame in answer(socket)[:-1])
        ask(socket, "curious", stream_options={"include_usage": True})
        assert answer(socket)[-2]["data"]["usage"] == transcripts.USAGE


def test_no_more_answers_run_at_once_than_are_allowed(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = start_relay(upstream_url=upstream.url, websocket={"max_answers": 2})
    upstream.answer(stalling("a"), times=2)
    with dial(relay) as socket:
        for id_ in ("one", "two"):
            ask(socket, id_)
            assert [told(socket)["id"] for _ in range(2)] == [id_, id_]
        ask(socket, "three")
        refused = told(socket)
        assert (refused["id"], refused["error"]["code"]) == ("three", "rate_limit_exceeded")
        socket.send('{"type": "stop", "id": "one"}')
        assert told(socket) == {"type": "done", "id": "one"}
        ask(socket, "three")
        assert answer(socket)[-1] == {"type": "done", "id": "three"}


def test_leaving_ends_all_answers(remote: RunningRelay, upstream: FakeUpstream) -> None:
    upstream.answer(stalling("a"))
    with dial(remote) as socket:
        for id_ in ("one", "two"):
            ask(socket, id_)
            assert [told(socket)["id"] for _ in range(2)] == [id_, id_]
    upstream.wait_for(lambda: all(one.closed_at is not None for one in upstream.requests))
    assert len(upstream.requests) == 2


def test_a_fault_of_ours_is_told_with_an_id_and_nothing_else(
    remote: RunningRelay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(type(remote.relay._now.turns.engine), "stream", fail)
    with dial(remote) as socket:
        ask(socket, "x")
        failed = answer(socket)[-1]
        assert (failed["id"], failed["error"]["code"]) == ("x", "internal_error")
        assert "secret" not in failed["error"]["message"]
        assert "req_" in failed["error"]["message"]
    assert "secret detail" in caplog.text


def test_a_key_for_certain_models_and_a_bad_model_are_told(start_relay: StartRelay) -> None:
    models = [{"id": "m", "targets": [{"local": True}]}]
    relay = start_relay(local="echo", models=models)
    with dial(relay) as socket:
        socket.send(json.dumps({"type": "chat", "id": "x", "request": chat() | {"model": "other"}}))
        missing = told(socket)
        assert (missing["status"], missing["error"]["code"]) == (404, "model_not_found")
