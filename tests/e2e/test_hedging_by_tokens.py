"""Hedged streams go by their first token: what says nothing of the answer wins nothing."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anthropic_fake as claude
import httpx
import ledger_file
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream, Received
from running import RunningRelay, StartRelay, chat

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]
COMMENT = b": PROCESSING\n\n"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
SOON_S, NEVER_S = 0.05, 20.0
LIMITS = {"connect_s": 5, "first_byte_s": 20, "idle_s": 20, "total_s": 60}


@pytest.fixture
def backup() -> Iterator[FakeUpstream]:
    with FakeUpstream.in_thread() as fake:
        yield fake


Hedging = Callable[..., RunningRelay]


@pytest.fixture
def hedging(start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream) -> Hedging:
    """A relay that asks `a`, and after a while `b`; what else upstreams and relay are told."""

    def start(
        after_s: float | None,
        *,
        upstreams: dict[str, Any] | None = None,
        targets: Sequence[dict[str, Any]] = ({"upstream": "a"}, {"upstream": "b"}),
        **settings: Any,
    ) -> RunningRelay:
        more = {"timeouts": LIMITS, **(upstreams or {})}
        return start_relay(
            upstreams=[
                {"name": "a", "base_url": upstream.url, **more},
                {"name": "b", "base_url": backup.url, **more},
            ],
            models=[{"id": "m", "targets": list(targets), "hedge_after_s": after_s}],
            **settings,
        )

    return start


def opening() -> list[bytes]:
    """What OpenAI-format servers say before they have anything to say."""
    return [COMMENT, transcripts.chat_stream([])[0]]


def stream(*texts: str) -> list[bytes]:
    return [COMMENT, *transcripts.chat_stream(texts)]


def events(pieces: Sequence[bytes], **more: Any) -> Script:
    return Script(pieces=pieces, headers=EVENTS, **more)


def completion(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish_reason}
    return transcripts.event({"object": "text_completion", "choices": [choice]})


def response(kind: str, **fields: Any) -> bytes:
    return claude.event({"type": f"response.{kind}", **fields})


STREAMS: dict[str, tuple[int, list[bytes]]] = {
    CHAT: (2, stream("quick", "er")),
    COMPLETIONS: (
        1,
        [completion(""), completion("quick"), completion("", "stop"), transcripts.DONE],
    ),
    MESSAGES: (3, claude.message_stream(claude.said("quick er"), claude.called("f", {"a": 1}))),
    RESPONSES: (
        2,
        [
            response("created", response={"id": "r"}),
            response("in_progress", response={"id": "r"}),
            response("output_text.delta", delta="quick"),
            response("completed", response={"id": "r"}),
        ],
    ),
}
"""Streams of those paths, and how many of their events come before the first token."""


def ask(relay: RunningRelay, path: str = CHAT) -> httpx.Response:
    body = {**chat(stream=True), "max_tokens": 9, "prompt": "x", "input": "x"}
    return relay.http.post(path, json=body)


def kinds(path: str) -> dict[str, Any]:
    """The upstreams' settings: those that get messages as they are speak Anthropic's API."""
    return {"kind": "anthropic", "api_keys": [claude.KEY]} if path == MESSAGES else {}


def wait_until_closed(fake: FakeUpstream) -> None:
    fake.wait_for(lambda: fake.requests[0].closed_at is not None, timeout_s=5)


@pytest.mark.parametrize("path", STREAMS)
def test_a_first_that_stalls_before_its_first_token_is_late(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream, path: str, tmp_path: Path
) -> None:
    silent, pieces = STREAMS[path]
    upstream.answer(events(pieces, stall_after=silent))
    backup.answer(events(pieces))
    database = ledger_file.url(tmp_path / "relay.db")
    relay = hedging(SOON_S, upstreams=kinds(path), database_url=database, stream_usage=False)
    reply = ask(relay, path)
    assert reply.content == b"".join(pieces)
    assert reply.headers["x-relay-upstream"] == "b"
    assert reply.headers["x-relay-attempts"] == "2"
    wait_until_closed(upstream)
    assert upstream.requests[0].pieces_sent == silent
    assert {health.in_flight for health in relay.relay.router.health.values()} == {0}
    [row] = ledger_file.rows_of(relay, tmp_path / "relay.db")
    assert (row.upstream, row.attempts, row.lost_attempts) == ("b", 2, 1)


@pytest.mark.parametrize("path", STREAMS)
def test_a_first_whose_token_is_in_time_is_the_only_one(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream, path: str
) -> None:
    silent, pieces = STREAMS[path]
    gate = Gate()
    upstream.answer(events(pieces, piece_gates={silent: gate}))
    relay = hedging(NEVER_S, upstreams=kinds(path), ping_s=0)
    opener = opens(gate, upstream, lambda received: received.pieces_sent == silent)
    reply = ask(relay, path)
    opener.join()
    assert reply.content == b"".join(pieces)
    assert reply.headers["x-relay-attempts"] == "1"
    assert not backup.requests


def opens(gate: Gate, fake: FakeUpstream, when: Callable[[Received], bool]) -> threading.Thread:
    """Opens it when a fake's request has come so far."""

    def wait() -> None:
        fake.wait_for(lambda: fake.requests and when(fake.requests[0]))
        gate.open()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_the_first_token_wins_where_both_have_begun(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    gate = Gate()
    upstream.answer(events(stream("late"), piece_gates={2: gate}))
    backup.answer(events(stream("never"), stall_after=2))
    relay = hedging(SOON_S)
    opener = opens(gate, backup, lambda received: received.pieces_sent == 2)
    reply = ask(relay)
    opener.join()
    assert reply.content == b"".join(stream("late"))
    assert reply.headers["x-relay-upstream"] == "a"
    wait_until_closed(backup)


def test_an_answer_goes_out_with_its_first_token(hedging: Hedging, upstream: FakeUpstream) -> None:
    gate = Gate()
    pieces = [*opening(), *transcripts.tool_stream("f", ["{}"])[1:]]
    upstream.answer(events(pieces, piece_gates={3: gate}))
    with hedging(NEVER_S).http.stream("POST", CHAT, json=chat(stream=True)) as reply:
        got = b""
        arriving = reply.iter_raw()
        while got != b"".join(pieces[:3]):  # the call without its arguments is a token
            got += next(arriving)
        gate.open()
        assert got + b"".join(arriving) == b"".join(pieces)


def test_a_translated_stream_goes_by_its_first_token_too(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    upstream.answer(events(stream("slow"), stall_after=2))
    backup.answer(events(stream("quick")))
    reply = ask(hedging(SOON_S), MESSAGES)
    told = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]
    assert [one["type"] for one in told].count("message_start") == 1
    assert [one["delta"]["text"] for one in told if one["type"] == "content_block_delta"] == [
        "quick"
    ]
    assert told[-1]["type"] == "message_stop"
    wait_until_closed(upstream)


def test_chunks_of_an_anthropic_upstream_go_by_their_first_token_too(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    messages = claude.message_stream(claude.said("quick"))
    upstream.answer(events(messages, stall_after=3))
    backup.answer(events(messages))
    reply = ask(hedging(SOON_S, upstreams=kinds(MESSAGES)))
    assert b'"content":"quick"' in reply.content
    assert reply.content.endswith(transcripts.DONE)
    assert reply.content.count(b'"role":"assistant"') == 1
    assert reply.headers["x-relay-upstream"] == "b"
    wait_until_closed(upstream)


def test_a_local_model_may_be_the_faster_one(hedging: Hedging, upstream: FakeUpstream) -> None:
    upstream.answer(events(stream("slow"), stall_after=2))
    relay = hedging(SOON_S, targets=[{"upstream": "a"}, {"local": True}], local="echo")
    reply = ask(relay)
    assert reply.headers["x-relay-upstream"] == "local"
    assert reply.content.count(b'"role":"assistant"') == 1
    assert reply.content.endswith(transcripts.DONE)
    wait_until_closed(upstream)


ERROR = transcripts.event({"error": {"message": "no room", "code": 503}})


@pytest.mark.parametrize(
    "failing",
    [
        events([COMMENT, ERROR]),
        events(opening()),
        events(opening(), close_at=len(b"".join(opening()))),
        events(stream("x"), reset_at=len(b"".join(opening()))),
    ],
    ids=["an error", "an end", "a cut", "a reset"],
)
def test_what_fails_before_its_first_token_is_followed_by_another(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream, failing: Script
) -> None:
    upstream.answer(failing)
    backup.answer(events(stream("good")))
    relay = hedging(NEVER_S)
    reply = ask(relay)
    assert reply.content == b"".join(stream("good"))
    assert reply.headers["x-relay-upstream"] == "b"
    assert reply.headers["x-relay-attempts"] == "2"
    assert {health.in_flight for health in relay.relay.router.health.values()} == {0}


def test_a_stall_before_the_first_token_ends_with_the_idle_limit_and_is_followed(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    upstream.answer(events(stream("x"), stall_after=2))
    backup.answer(events(stream("good")))
    reply = ask(hedging(NEVER_S, upstreams={"timeouts": LIMITS | {"idle_s": 0.2}}))
    assert reply.content == b"".join(stream("good"))
    assert reply.headers["x-relay-attempts"] == "2"


def test_when_both_begin_with_an_error_the_client_hears_of_it_as_a_status(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    gate = Gate()
    body = transcripts.to_json({"error": {"message": "busy", "code": "rate_limit_exceeded"}})
    headers = [*EVENTS, (b"retry-after", b"7")]
    for fake in (upstream, backup):
        pieces = [COMMENT, b"data: " + body + b"\n\n"]
        fake.answer(Script(pieces=pieces, headers=headers, piece_gates={1: gate}))
    relay = hedging(SOON_S)
    opener = opens(gate, backup, lambda received: received.pieces_sent == 1)
    reply = ask(relay)
    opener.join()
    assert (reply.status_code, reply.content) == (429, body)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["retry-after"] == "7"
    assert reply.headers["x-relay-attempts"] == "2"


def test_who_is_asked_after_the_hedge_answers_with_its_first_byte(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    upstream.answer(events([ERROR]))
    backup.answer(events([COMMENT, ERROR]))
    reply = ask(hedging(NEVER_S))
    assert (reply.status_code, reply.content) == (200, COMMENT + ERROR)
    assert reply.headers["x-relay-attempts"] == "2"


def test_an_error_that_is_the_requests_own_passes_as_it_is(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    error = transcripts.event({"error": {"message": "no", "type": "invalid_request_error"}})
    upstream.answer(events([error]))
    reply = ask(hedging(NEVER_S))
    assert (reply.status_code, reply.content) == (200, error)
    assert not backup.requests


def test_a_plain_answer_to_a_stream_call_counts_with_its_first_byte(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    gate = Gate()
    body = transcripts.chat_body("whole")
    upstream.answer(Script(pieces=[body[:9], body[9:]], headers=JSON, piece_gates={1: gate}))
    with hedging(NEVER_S).http.stream("POST", COMPLETIONS, json=chat(stream=True)) as reply:
        arriving = reply.iter_raw()
        got = next(arriving)
        gate.open()
        assert got + b"".join(arriving) == body
    assert not backup.requests


def test_what_grows_too_long_without_a_token_has_begun(
    hedging: Hedging, upstream: FakeUpstream
) -> None:
    gate = Gate()
    pieces = [COMMENT * 1000] * 6 + stream("at last")
    upstream.answer(events(pieces, piece_gates={6: gate}))
    with hedging(NEVER_S).http.stream("POST", CHAT, json=chat(stream=True)) as reply:
        arriving = reply.iter_raw()
        got = next(arriving)
        gate.open()
        assert got + b"".join(arriving) == b"".join(pieces)


@pytest.mark.parametrize("after_s", [None, SOON_S])
def test_a_stream_that_nobody_else_could_answer_begins_with_its_first_byte(
    hedging: Hedging, upstream: FakeUpstream, after_s: float | None
) -> None:
    gate = Gate()
    upstream.answer(events(stream("x"), piece_gates={1: gate}))
    relay = hedging(after_s, targets=[{"upstream": "a"}])
    with relay.http.stream("POST", CHAT, json=chat(stream=True)) as reply:
        arriving = reply.iter_raw()
        assert next(arriving) == COMMENT
        gate.open()
        assert COMMENT + b"".join(arriving) == b"".join(stream("x"))


def test_without_hedging_what_begins_with_an_error_is_not_asked_elsewhere(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    upstream.answer(events([ERROR]))
    reply = ask(hedging(None))
    assert (reply.status_code, reply.content) == (200, ERROR)
    assert not backup.requests


def test_after_the_first_token_a_failure_ends_the_stream(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    before = b"".join(stream("x")[:3])
    upstream.answer(events(stream("x", "y"), reset_at=len(before)))
    reply = ask(hedging(NEVER_S))
    assert reply.content.startswith(before)
    assert b'data: {"error":' in reply.content[len(before) :]
    assert transcripts.DONE not in reply.content
    assert not backup.requests


def test_a_client_that_leaves_before_the_first_token_ends_both(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    for fake in (upstream, backup):
        fake.answer(events(stream("x"), stall_after=2))
    relay = hedging(SOON_S)

    async def leave() -> None:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            url, body = f"{relay.url}/chat/completions", chat(stream=True)
            asking = asyncio.create_task(client.post(url, json=body))
            await backup.until(lambda: backup.requests and backup.requests[0].pieces_sent == 2)
            asking.cancel()
            await asyncio.wait([asking])

    asyncio.run(leave())
    for fake in (upstream, backup):
        wait_until_closed(fake)


def test_a_client_of_another_transport_is_hedged_likewise(
    hedging: Hedging, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    upstream.answer(events(stream("slow"), stall_after=2))
    backup.answer(events(stream("quick", "er")))
    reply = ask(hedging(SOON_S, upstreams={"transport": "httpx"}))
    assert reply.content == b"".join(stream("quick", "er"))
    assert reply.headers["x-relay-upstream"] == "b"
    wait_until_closed(upstream)


def test_the_latency_of_a_hedged_target_is_that_of_its_first_token(
    hedging: Hedging, upstream: FakeUpstream
) -> None:
    gate = Gate()
    upstream.answer(events(stream("x"), piece_gates={2: gate}))
    relay = hedging(NEVER_S)
    health = relay.relay.router.health["a"]
    opener = opens(gate, upstream, lambda got: got.pieces_sent == 2 and health.latency_s == 0)
    ask(relay)
    opener.join()
    assert health.latency_s > 0
