"""`RELAY_PING_S`: comments in the silences of a stream, between its events, and never a lie."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import openai
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay, chat

PING = b": ping\n\n"
STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]


class Patient:
    """A model in process that waits, after its first word, until it may go on."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()

    def generate(self, prompt: object) -> Iterator[str]:
        yield "a"
        self.may_go_on.wait(20)
        yield "b"


@contextmanager
def streaming(relay: RunningRelay) -> Iterator[httpx.Response]:
    with relay.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        yield answer


def until_pinged(stream: Iterator[bytes], times: int = 1) -> bytes:
    """What comes until that many pings have come."""
    received = b""
    while received.count(PING) < times:
        received += next(stream)
    return received


def test_pings_stand_between_events_also_when_the_upstream_cuts_one_in_two(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    gate = Gate()
    whole = b"".join(transcripts.chat_stream(["a", "b"]))
    middle = whole.index(b"\n\n") + 12
    pieces = [whole[:middle], whole[middle:]]
    upstream.answer(Script(pieces=pieces, piece_gates={1: gate}, headers=STREAM))
    relay = start_relay(upstream_url=upstream.url, ping_s=0.02)
    with streaming(relay) as answer:
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        stream = answer.iter_raw()
        received = until_pinged(stream, times=3)
        gate.open()
        received += b"".join(stream)
    assert received.replace(PING, b"") == whole
    assert received.split(b"\n\n").count(b": ping") == received.count(b": ping") >= 3
    assert received.endswith(b"data: [DONE]\n\n")


def test_a_local_stream_is_pinged_too(start_relay: StartRelay) -> None:
    model = Patient()
    relay = start_relay(local=model, ping_s=0.02)
    with streaming(relay) as answer:
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        stream = answer.iter_raw()
        received = until_pinged(stream, times=2)
        model.may_go_on.set()
        received += b"".join(stream)
    assert received.split(b"\n\n").count(b": ping") >= 2
    assert received.endswith(b"data: [DONE]\n\n")


def test_a_stalled_upstream_is_noticed_in_spite_of_pings(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(pieces=transcripts.chat_stream(["a"]), stall_after=1, headers=STREAM))
    relay = start_relay(upstream_url=upstream.url, ping_s=0.02, timeouts={"idle_s": 0.3})
    with streaming(relay) as answer:
        received = b"".join(answer.iter_raw())
    assert PING in received
    error = json.loads(received.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]
    assert error["code"] == "upstream_timeout"
    assert b"[DONE]" not in received


def test_no_ping_stands_inside_a_huge_event(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    huge = b"data: " + b"x" * 100_000
    upstream.answer(Script(pieces=[huge, b"never\n\n"], stall_after=1, headers=STREAM))
    relay = start_relay(upstream_url=upstream.url, ping_s=0.02, timeouts={"idle_s": 0.3})
    with streaming(relay) as answer:
        received = b"".join(answer.iter_raw())
    assert received.startswith(huge + b"\n\ndata: {")
    assert b": ping" not in received


def test_the_official_client_skips_them(start_relay: StartRelay, upstream: FakeUpstream) -> None:
    gate = Gate()
    pieces = transcripts.chat_stream(["a", "b"])
    upstream.answer(Script(pieces=pieces, piece_gates={2: gate}, headers=STREAM))
    relay = start_relay(upstream_url=upstream.url, ping_s=0.02)
    with openai.OpenAI(base_url=relay.url, api_key="unused", max_retries=0) as client:
        chunks = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        first = next(chunks)
        # Its silence is the older one: when the other stream is pinged, it has been.
        with streaming(relay) as other:
            until_pinged(other.iter_raw())
            gate.open()
            rest = list(chunks)
    said = [chunk.choices[0].delta.content or "" for chunk in (first, *rest) if chunk.choices]
    assert "".join(said) == "ab"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"application/json")],
        [*STREAM, (b"content-encoding", b"gzip")],
    ],
    ids=["no events", "not in plain bytes"],
)
def test_what_is_no_plain_stream_of_events_gets_none(
    start_relay: StartRelay, upstream: FakeUpstream, headers: list[tuple[bytes, bytes]]
) -> None:
    upstream.answer(Script(pieces=[b"{}\n\n", b"never"], stall_after=1, headers=headers))
    relay = start_relay(upstream_url=upstream.url, ping_s=0.02, timeouts={"idle_s": 0.3})
    with streaming(relay) as answer:
        assert b"ping" not in b"".join(answer.iter_raw())


def test_they_are_off_by_default(start_relay: StartRelay, upstream: FakeUpstream) -> None:
    upstream.answer(Script(pieces=transcripts.chat_stream(["a"]), stall_after=1, headers=STREAM))
    relay = start_relay(upstream_url=upstream.url, timeouts={"idle_s": 0.3})
    assert relay.relay.settings.ping_s == 0
    with streaming(relay) as answer:
        assert b"ping" not in b"".join(answer.iter_raw())
