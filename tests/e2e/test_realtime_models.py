"""Realtime sessions: who transcribes and what it costs, and which models a key may name."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ledger_file
import limited
import pytest
from fake_realtime import FakeRealtime
from running import RunningRelay, StartRelay
from sockets import close_code, dial, told
from waiting import until
from websockets.sync.client import ClientConnection

CREATED = {"type": "response.created"}
DONE = {"type": "response.done", "response": {"usage": {"input_tokens": 10, "output_tokens": 4}}}
KEY = "rk-heard"
LISTED = {"models": ["voice", "scribe*"]}


@pytest.fixture
def realtime() -> Iterator[FakeRealtime]:
    with FakeRealtime() as fake:
        yield fake


@contextmanager
def opened(relay: RunningRelay, query: str = "?model=voice") -> Iterator[ClientConnection]:
    bearer = {"authorization": f"Bearer {KEY}"}
    with dial(relay, f"/v1/realtime{query}", additional_headers=bearer) as session:
        assert told(session) == {"type": "session.created"}
        yield session


def say(session: ClientConnection, *events: Any) -> None:
    """Have the upstream say these, and hear them."""
    session.send(json.dumps({"say": events}))
    for event in events:
        assert told(session) == event


def transcribing(model: str | None) -> dict[str, Any]:
    """What the upstream says when a session is transcribed by that model from now on."""
    told = None if model is None else {"model": model}
    session = {"type": "transcription", "audio": {"input": {"transcription": told}}}
    return {"type": "session.updated", "session": session}


def transcribed(**usage: Any) -> dict[str, Any]:
    kind = "conversation.item.input_audio_transcription.completed"
    return {"type": kind, "item_id": "item_1", "transcript": "hello", "usage": usage}


def start(start_relay: StartRelay, realtime: FakeRealtime, limits: Any, **more: Any) -> Any:
    settings = {**limited.settings_of({KEY: limits}), "upstream_url": realtime.url, **more}
    return start_relay(**settings)


def test_transcriptions_are_rows_of_the_model_that_wrote_them(
    start_relay: StartRelay, realtime: FakeRealtime, tmp_path: Path
) -> None:
    ledger = tmp_path / "relay.db"
    prices = [
        {"model": "scribe", "prompt_usd": 1, "audio_prompt_usd": 3, "completion_usd": 2},
        {"model": "scribe-timed", "minute_usd": "0.006"},
        {"model": "voice", "completion_usd": 1},
    ]
    url = ledger_file.url(ledger)
    relay = start(start_relay, realtime, {}, prices=prices, database_url=url)
    with opened(relay, "?intent=transcription") as session:
        say(session, transcribing("scribe"), {"type": "input_audio_buffer.committed"})
        details = {"audio_tokens": 8, "text_tokens": 2}
        say(
            session,
            transcribed(
                type="tokens", input_tokens=10, output_tokens=5, input_token_details=details
            ),
        )
        before = {"input_audio_transcription": {"model": "scribe-timed"}}
        say(session, {"type": "transcription_session.updated", "session": before})
        say(session, transcribed(type="duration", seconds=12.5))
        say(session, transcribing(None), transcribed(type="duration", seconds=12.5))
    with opened(relay) as session:  # beside a response that goes on
        say(session, transcribing("scribe"), CREATED, transcribed(input_tokens=1, output_tokens=1))
        say(session, DONE)
    until(lambda: len(relay.relay.crowd) == 0)
    rows = [
        (row.model_asked, row.status, row.prompt_tokens, row.completion_tokens, row.cost_nano)
        for row in ledger_file.rows_of(relay, ledger)
    ]
    assert rows == [
        ("scribe", 200, 10, 5, 2_000 + 24_000 + 10_000),
        ("scribe-timed", 200, 0, 0, 1_250_000),
        ("", 200, 0, 0, None),
        ("scribe", 200, 1, 1, 3_000),
        ("voice", 200, 10, 4, 4_000),
    ]


def test_limits_hold_for_transcriptions(start_relay: StartRelay, realtime: FakeRealtime) -> None:
    relay = start(start_relay, realtime, {"rpm": 2})
    with opened(relay) as session:
        say(session, transcribed(input_tokens=1, output_tokens=1))
        say(session, transcribed(input_tokens=1, output_tokens=1))
        assert told(session)["error"]["code"] == "rate_limit_exceeded"
        assert close_code(session) == 1008


def update(**session: Any) -> dict[str, Any]:
    return {"type": "session.update", "event_id": "mine", "session": session}


def by(model: Any) -> dict[str, Any]:
    return {"audio": {"input": {"transcription": {"model": model}}}}


@pytest.mark.parametrize(
    ("event", "param"),
    [
        (update(model="other"), "session.model"),
        (update(model=["voice"]), "session.model"),
        (update(Model="other"), "session.model"),
        (update(**by("other")), "session.audio.input.transcription.model"),
        (
            update(input_audio_transcription={"model": "other"}),
            "session.input_audio_transcription.model",
        ),
        ({"type": "response.create", "event_id": "mine", "response": {"model": "x"}}, None),
    ],
)
def test_a_key_for_certain_models_names_no_other(
    start_relay: StartRelay, realtime: FakeRealtime, event: dict[str, Any], param: str | None
) -> None:
    relay = start(start_relay, realtime, LISTED)
    with opened(relay) as session:
        session.send(json.dumps(event))
        answer = told(session)
        assert answer["type"] == "error"
        assert answer["event_id"].startswith("event_")
        error = answer["error"]
        assert (error["type"], error["code"]) == ("permission_error", "model_not_allowed")
        assert error["event_id"] == "mine"
        assert error["param"] == (param or "response.model")
        session.send(json.dumps(update(model="voice", **by("scribe-2"))))
        assert told(session)["session"]["model"] == "voice"  # the session goes on
    assert len(realtime.heard) == 1


@pytest.mark.parametrize(
    "message",
    [
        '{"type": "session.update", "session": {"model": "voice", "model": "other"}}',
        '{"type": "session.update", "session": {"model": "voice", "MODEL": "other"}}',
        '{"type": "session.update", "session": {"model": "other",}}',
        '{"type": "session.update", "session": {"mod\\u0065l": "other"}}',
        b'{"type": "session.update", "session": {"model": "other"}}',
        b'{"type": "session.update", "session": {"model": "other",}}',
        '{"model": ' + "[" * 100_000,
    ],
)
def test_no_event_means_another_model_to_a_looser_reader(
    start_relay: StartRelay, realtime: FakeRealtime, message: str | bytes
) -> None:
    relay = start(start_relay, realtime, LISTED)
    with opened(relay) as session:
        session.send(message)
        assert told(session)["type"] == "error"
    assert realtime.heard == []


def test_what_names_no_model_passes_as_it_is(
    start_relay: StartRelay, realtime: FakeRealtime
) -> None:
    schema = {"properties": {"model": {"type": "string"}, "Size": {}, "size": {}}}
    passing: list[str | bytes] = [
        "hello",
        b"\x00\xff sound",
        '["model"]',
        '{"type": "conversation.item.create", "item": {"content": [{"text": "which model?"}]}}',
        json.dumps(update(tools=[{"parameters": {"properties": {"model": {"type": "string"}}}}])),
        json.dumps(update(model=None, audio=None)),
    ]
    targets = [{"upstream": "upstream", "model": "theirs"}]
    relay = start(start_relay, realtime, LISTED, models=[{"id": "voice", "targets": targets}])
    passing.append(json.dumps(update(model="theirs")))  # as the session's own is called up there
    with opened(relay) as session:
        for message in passing:
            session.send(message)
            assert session.recv(timeout=20) == message
        session.send(json.dumps(update(tools=[schema])))  # but it can be read in two ways
        assert told(session)["error"]["type"] == "invalid_request_error"
    unlisted = start(start_relay, realtime, {})
    with opened(unlisted) as session:
        session.send(json.dumps(update(model="any")))
        assert told(session)["session"]["model"] == "any"
