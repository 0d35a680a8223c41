"""Usage is caught wherever it stands, and only what was asked for in secret is taken out."""

import json
from typing import Any

import pytest
import transcripts
from hypothesis import given
from hypothesis import strategies as st

from relay.types import Usage
from relay.usage import UsageInStream, read_usage, usage_in_body

TOLD = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
USAGE = Usage(prompt_tokens=3, completion_tokens=5)


def event(**fields: Any) -> bytes:
    return transcripts.event({"object": "chat.completion.chunk", **fields})


TEXT = event(choices=[{"index": 0, "delta": {"content": "a"}}], usage=None)
USAGE_ONLY = event(choices=[], usage=TOLD)


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (TOLD, USAGE),
        ({"input_tokens": 3, "output_tokens": 5}, USAGE),
        ({"prompt_tokens": 3}, Usage(prompt_tokens=3)),
        (
            TOLD
            | {
                "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": None},
            },
            Usage(3, 5, cached_tokens=2, reasoning_tokens=4, audio_tokens=1),
        ),
        (TOLD | {"prompt_tokens_details": None}, USAGE),
        (None, None),
        ({}, None),
        ([], None),
        ("3", None),
        ({"prompt_tokens": "3"}, None),
        ({"prompt_tokens": True, "completion_tokens": -1}, None),
    ],
)
def test_what_a_usage_tells(told: object, usage: Usage | None) -> None:
    assert read_usage(told) == usage


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (json.dumps({"choices": [], "usage": TOLD}), USAGE),
        (json.dumps({"usage": None}), None),
        (json.dumps({"response": {"usage": TOLD}}), USAGE),
        (json.dumps({"usage": TOLD, "service_tier": "default", "n": 1.5, "x": None}), USAGE),
        (json.dumps({"usage": {**TOLD, "a": {"b": 1}}}, indent=1) + "\n", USAGE),
        (json.dumps({"usage": {**TOLD, "note": "}{"}, "kind": "usage"}), USAGE),
        (json.dumps({"usage": TOLD, "inner": {"usage": {"prompt_tokens": 9}}}), USAGE),
        (json.dumps({"inner": {"usage": TOLD}}), None),
        (json.dumps({"inner": [{"usage": TOLD}]}), None),
        (json.dumps({"said": json.dumps({"usage": TOLD})}), None),
        ('{"usage": {"prompt_tokens": nine}}', None),
        (json.dumps(["usage"]), None),
        ('{"usage": {"prompt_tok', None),
        ("", None),
    ],
)
@pytest.mark.parametrize("said", ["", "a word " * 400])
def test_what_a_body_tells(body: str, usage: Usage | None, said: str) -> None:
    if body.startswith("{"):
        body = body.replace("{", json.dumps({"said": said})[:-1] + ", ", 1)
    assert usage_in_body(body.encode()) == usage


@pytest.mark.parametrize(
    ("stream", "left"),
    [
        ([TEXT, USAGE_ONLY, transcripts.DONE], [TEXT, transcripts.DONE]),
        ([TEXT + USAGE_ONLY + transcripts.DONE], [TEXT + transcripts.DONE]),
        ([USAGE_ONLY, TEXT], [TEXT]),
        ([b": hello\n\n" + USAGE_ONLY], [b": hello\n\n"]),
        ([TEXT, USAGE_ONLY.replace(b"\n\n", b"\r\n\r\n")], [TEXT]),
        ([TEXT, USAGE_ONLY.replace(b"\n\n", b"\r\r")], [TEXT]),
        ([USAGE_ONLY.replace(b'"usage":{', b'"usage" : {')], []),
        ([USAGE_ONLY.removesuffix(b"\n\n") + b"\n\n"], []),
    ],
    ids=["last", "one piece", "first", "comment", "CRLF", "CR", "spaces", "alone"],
)
def test_a_chunk_that_tells_nothing_else_is_taken_out(
    stream: list[bytes], left: list[bytes]
) -> None:
    watching = UsageInStream(strip=True)
    assert [out for piece in stream if (out := watching.push(piece))] == left
    assert watching.usage == USAGE


@pytest.mark.parametrize(
    "chunk",
    [
        event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=TOLD),
        event(usage=TOLD),
        event(choices=None, usage=TOLD),
    ],
    ids=["beside a choice", "without choices", "null choices"],
)
def test_a_chunk_that_tells_more_or_is_odd_stays(chunk: bytes) -> None:
    watching = UsageInStream(strip=True)
    assert watching.push(chunk) == chunk
    assert watching.usage == USAGE


@pytest.mark.parametrize(
    "piece",
    [
        TEXT,
        event(choices=[{"delta": {"content": 'say "usage": {"prompt_tokens": 9}'}}]),
        b'data: {"usage": {"prompt_tokens": 9\n\n',
        b'data: ["usage", {"usage": {"prompt_tokens": 9}}]\n\n',
        event(choices=[], usage={"unit": "words"}),
        b': "usage": {}\n\n',
    ],
)
def test_what_only_looks_like_usage_passes(piece: bytes) -> None:
    watching = UsageInStream(strip=True)
    assert watching.push(piece) == piece
    assert watching.usage is None


@given(st.lists(st.sampled_from([TEXT, USAGE_ONLY, b": c\n\n", transcripts.DONE]), max_size=8))
def test_without_stripping_every_byte_passes(events: list[bytes]) -> None:
    watching = UsageInStream(strip=False)
    assert watching.push(b"".join(events)) == b"".join(events)
    assert watching.usage == (USAGE if USAGE_ONLY in events else None)


@pytest.mark.parametrize(
    ("seconds", "heard_ms"),
    [(1.5, 1500), (0, 0), (12, 12_000), (True, None), (-1, None), ("1", None), (1e300, None)],
)
def test_what_only_heard_something_is_counted_by_time(seconds: object, heard_ms: int | None):
    told = {"type": "duration", "seconds": seconds}
    assert read_usage(told) == (None if heard_ms is None else Usage(heard_ms=heard_ms))
