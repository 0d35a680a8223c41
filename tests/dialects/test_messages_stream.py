"""Chunks as Anthropic's events, cut at every offset and put together by a strict reader."""

import json
from typing import Any

import pytest
import transcripts
from dialects.shapes import cut, cuts, read_events, whole_message
from hypothesis import given
from hypothesis import strategies as st

from relay.dialects.messages_stream import MessagesStream
from relay.errors import InternalError, UpstreamTimeout
from relay.sse import DONE, MAX_EVENT_BYTES

USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
NO_USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
}


def chunk(
    delta: dict[str, Any] | None, reason: str | None = None, /, **fields: Any
) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
    return {"id": "chatcmpl-1", "model": "gpt-1", "choices": choices, **fields}


def call(
    index: int, arguments: str = "", *, id_: str | None = None, name: str | None = None
) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"tool_calls": [{"index": index, "function": function} | ({"id": id_} if id_ else {})]}


def sent(*chunks: dict[str, Any]) -> bytes:
    return b"".join(transcripts.event(data) for data in chunks)


HELLO = (
    sent(
        {"id": "", "model": "", "choices": [], "prompt_filter_results": []},
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hello"}),
    )
    + b": ping\n\n"
    + sent(chunk({"content": " Köln 🚲"}), chunk({}, "stop"), chunk(None, usage=USAGE))
    + DONE
)
EVERYTHING = (
    sent(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "Let me"}),
        chunk({"reasoning": " see."}),
        chunk({"thinking_blocks": [{"type": "thinking", "thinking": "…", "signature": "c2ln"}]}),
        chunk({"thinking_blocks": [{"type": "redacted_thinking", "data": "xyz"}]}),
        chunk({"content": "Well, look:"}),
        chunk(call(0, id_="call_1", name="weather")),
        chunk(call(0, '{"city": "Kö')),
        chunk(call(0, 'ln"}')),
        chunk(call(1, "{}", id_="call_2", name="now")),
        chunk(call(2, id_="call_3", name="here")),
        chunk({}, "tool_calls"),
        chunk(None, usage=USAGE),
    )
    + DONE
)


def translated(pieces: list[bytes]) -> bytes:
    stream = MessagesStream(model="asked", message_id="msg_own", request_id="req_1")
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.end()])


def read(*chunks: dict[str, Any]) -> dict[str, Any]:
    """The message that chunks add up to."""
    return whole_message(read_events(translated([sent(*chunks) + DONE])))


def test_chunks_become_events():
    assert read_events(translated([HELLO])) == [
        {
            "type": "message_start",
            "message": {
                "id": "chatcmpl-1",
                "type": "message",
                "role": "assistant",
                "model": "gpt-1",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": NO_USAGE,
            },
        },
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Hello"},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": " Köln 🚲"},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {**NO_USAGE, "input_tokens": 12, "output_tokens": 5},
        },
        {"type": "message_stop"},
    ]


def test_thoughts_and_calls_become_blocks():
    message = whole_message(read_events(translated([EVERYTHING])))
    assert message["content"] == [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "Well, look:"},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Köln"}},
        {"type": "tool_use", "id": "call_2", "name": "now", "input": {}},
        {"type": "tool_use", "id": "call_3", "name": "here", "input": {}},
    ]
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize("stream", [HELLO, EVERYTHING], ids=["hello", "everything"])
def test_where_chunks_are_cut_makes_no_difference(stream):
    expected = translated([stream])
    for pieces in cuts(stream):
        assert translated(pieces) == expected


@given(st.lists(st.integers(0, len(EVERYTHING))))
def test_any_cuts_of_chunks_make_no_difference(offsets):
    stream = EVERYTHING.replace(b"\n", b"\r\n")
    assert translated(cut(stream, offsets)) == translated([stream])


def test_a_broken_stream_ends_with_an_error_and_without_message_stop():
    last = HELLO.index(b'"finish_reason":"stop"')
    for end in range(last):
        events = read_events(translated([HELLO[:end]]))
        assert events[-1]["type"] == "error"
        assert events[-1]["error"]["type"] == "api_error"
        assert events[-1]["request_id"] == "req_1"
        assert all(event["type"] != "message_stop" for event in events)


def test_a_stream_that_told_how_it_ends_is_complete_without_done():
    whole = translated([HELLO])
    assert translated([HELLO.removesuffix(DONE)]) == whole
    assert translated([HELLO.removesuffix(b"\n\n")]) == whole
    assert translated([HELLO.removesuffix(b"\n")]) == whole


def test_a_stream_of_nothing_but_done_is_an_empty_message():
    message = whole_message(read_events(translated([DONE])))
    assert message["content"] == []
    assert (message["id"], message["model"]) == ("msg_own", "asked")
    assert message["stop_reason"] == "end_turn"


def test_calls_that_all_have_one_index_are_told_apart_by_their_ids():
    message = read(
        chunk(call(0, '{"a": 1}', id_="x", name="f")),
        chunk(call(0, '{"b"', id_="y", name="g")),
        chunk(call(0, ": 2}", id_="y", name="g")),
        chunk({}, "stop"),
    )
    assert message["content"] == [
        {"type": "tool_use", "id": "x", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "y", "name": "g", "input": {"b": 2}},
    ]
    assert message["stop_reason"] == "tool_use"


def test_a_call_waits_for_its_name_and_gets_an_id_when_it_has_none():
    message = read(
        chunk({"tool_calls": [{"function": {"arguments": '{"a"'}}]}),
        chunk({"tool_calls": [{"function": {"name": "f", "arguments": ": 1}"}}]}),
        chunk({"tool_calls": [{"index": 1, "function": {"name": "g", "arguments": {"b": 2}}}]}),
        chunk({}, "tool_calls"),
    )
    assert [(b["name"], b["input"]) for b in message["content"]] == [
        ("f", {"a": 1}),
        ("g", {"b": 2}),
    ]
    assert len({block["id"] for block in message["content"]}) == 2


@pytest.mark.parametrize(
    "chunks",
    [
        (chunk(call(0, "{", id_="x", name="f")), chunk(call(1, "{", id_="y", name="g"))),
        (chunk(call(0, "{", id_="x", name="f")), chunk({"content": "Hm."})),
    ],
    ids=["another call", "text"],
)
def test_a_call_that_goes_on_behind_another_block_is_an_error(chunks):
    events = read_events(translated([sent(*chunks, chunk(call(0, "}")))]))
    assert events[-1]["type"] == "error"


def test_a_call_without_a_name_is_an_error():
    events = read_events(
        translated([sent(chunk(call(0, "{}", id_="x")), chunk({}, "stop")) + DONE])
    )
    assert events[-1]["type"] == "error"
    events = read_events(translated([sent(chunk(call(0, "{}", id_="x")), chunk({}, "stop"))]))
    assert events[-1]["type"] == "error"


def test_text_between_thoughts_and_a_refusal_is_in_order():
    message = read(
        chunk({"reasoning_content": "a"}),
        chunk({"content": "b"}),
        chunk({"reasoning_content": "c"}),
        chunk({"refusal": "No."}),
        chunk({}, "stop"),
    )
    assert [block["type"] for block in message["content"]] == ["thinking", "text"] * 2
    assert message["stop_reason"] == "refusal"


def test_usage_may_come_in_any_chunk_and_null_in_all_others():
    message = read(
        chunk({"content": "a"}, usage=None),
        chunk({}, "length", usage=USAGE),
        chunk(None, usage=None),
    )
    assert message["usage"]["output_tokens"] == 5
    assert message["stop_reason"] == "max_tokens"


def test_other_choices_and_signatures_of_nothing_are_not_told():
    other = {"id": "x", "choices": [{"index": 1, "delta": {"content": "no"}}]}
    signed = {"thinking_blocks": [{"type": "thinking", "signature": "s"}, "odd", {}]}
    message = read(other, chunk(signed), chunk({"content": "yes"}), chunk({}, "stop"))
    assert message["content"] == [{"type": "text", "text": "yes"}]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            {"message": "Slow down.", "type": "rate_limit_error", "code": "rate_limit_exceeded"},
            {"type": "rate_limit_error", "message": "Slow down."},
        ),
        ("Slow down.", {"type": "api_error", "message": "Slow down."}),
    ],
)
def test_an_error_chunk_ends_the_events(error, expected):
    stream = MessagesStream(model="asked", message_id="msg_own")
    events = read_events(stream.feed(sent(chunk({"content": "a"}), {"error": error}) + DONE))
    assert events[-1] == {"type": "error", "error": expected}
    assert stream.finished
    assert stream.feed(HELLO) == b""
    assert stream.end() == b""


@pytest.mark.parametrize("broken", [b"data: {\n\n", b"data: []\n\n", b"data: \xff\n\n"])
def test_a_chunk_that_cannot_be_read_ends_the_events(broken):
    events = read_events(translated([sent(chunk({"content": "a"})) + broken + DONE]))
    assert [event["type"] for event in events[-2:]] == ["content_block_delta", "error"]


def test_a_chunk_without_an_end_is_not_kept_for_ever():
    stream = MessagesStream(model="asked", message_id="msg_own")
    piece = b"data: " + b"x" * 2**20
    out = b"".join(stream.feed(piece) for _ in range(MAX_EVENT_BYTES // 2**20 + 1))
    assert read_events(out)[-1]["type"] == "error"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(UpstreamTimeout("Too slow."), "timeout_error"), (InternalError("Oh."), "api_error")],
)
def test_a_failure_of_ours_is_told_in_anthropics_words_and_once(error, kind):
    stream = MessagesStream(model="asked", message_id="msg_own")
    stream.feed(sent(chunk({"content": "a"})))
    assert read_events(stream.fail(error))[0]["error"]["type"] == kind
    assert stream.fail(error) == b""


def test_half_an_emoji_does_not_break_the_events():
    data = json.dumps(chunk({"content": "\ud83d"})).encode()
    out = translated([b"data: " + data + b"\n\n" + sent(chunk({}, "stop")) + DONE])
    assert rb"\ud83d" in out


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "id", "index", "function", "name"]), inner)
    ),
    max_leaves=5,
)
deltas = st.dictionaries(
    st.sampled_from(["content", "refusal", "reasoning", "thinking_blocks", "tool_calls"]),
    json_values,
)
odd_chunks = st.builds(
    chunk, deltas, st.none() | st.sampled_from(["stop", "x"])
) | st.fixed_dictionaries(
    {}, optional={"choices": json_values, "usage": json_values, "id": json_values}
)


@given(st.lists(odd_chunks))
def test_no_chunks_break_the_events(chunks):
    events = read_events(translated([sent(*chunks) + DONE]))
    assert events[-1]["type"] in ("message_stop", "error")
    if events[-1]["type"] == "message_stop":
        assert [event["type"] for event in events].count("message_delta") == 1
