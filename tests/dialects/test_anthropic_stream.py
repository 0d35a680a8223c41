"""Anthropic's events as chunks, cut at every offset; the official client puts them together."""

import json
from typing import Any

import pytest
from dialects.shapes import cut, cuts, read_chunks
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from relay.dialects.anthropic_stream import AnthropicStream
from relay.errors import UpstreamTimeout
from relay.sse import MAX_EVENT_BYTES


def sent(*events: dict[str, Any]) -> bytes:
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )


def start(**usage: int) -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-1"}
    message |= {"content": [], "stop_reason": None, "stop_sequence": None}
    return {"type": "message_start", "message": {**message, "usage": usage}}


def begin(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def more(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def ending(reason: str | None, **usage: int | None) -> dict[str, Any]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return {"type": "message_delta", "delta": delta, "usage": usage}


PING = {"type": "ping"}
LAST = {"type": "message_stop"}
HELLO = (
    start(input_tokens=25, output_tokens=1),
    begin(0, type="text", text=""),
    PING,
    more(0, type="text_delta", text="Hello"),
    more(0, type="text_delta", text=" Köln 🚲"),
    stop(0),
    ending("end_turn", output_tokens=15),
    LAST,
)
EVERYTHING = (
    start(input_tokens=400, cache_read_input_tokens=72, output_tokens=3),
    begin(0, type="thinking", thinking="", signature=""),
    more(0, type="thinking_delta", thinking="Let me"),
    more(0, type="thinking_delta", thinking=" see."),
    more(0, type="signature_delta", signature="c2ln"),
    stop(0),
    begin(1, type="redacted_thinking", data="xyz"),
    stop(1),
    begin(2, type="text", text="Well"),
    more(2, type="text_delta", text=", look:"),
    more(2, type="citations_delta", citation={}),
    stop(2),
    begin(3, type="tool_use", id="toolu_1", name="weather", input={}),
    more(3, type="input_json_delta", partial_json=""),
    more(3, type="input_json_delta", partial_json='{"city": "Kö'),
    more(3, type="input_json_delta", partial_json='ln"}'),
    stop(3),
    begin(4, type="tool_use", id="toolu_2", name="now", input={}),
    stop(4),
    begin(5, type="tool_use", id="toolu_3", name="here", input={"exact": True}),
    stop(5),
    begin(6, type="server_tool_use", id="srv", name="web_search", input={}),
    more(6, type="input_json_delta", partial_json='{"query": "x"}'),
    stop(6),
    {"type": "an_event_of_tomorrow", "data": 1},
    ending("tool_use", output_tokens=89, input_tokens=None),
    LAST,
)
CHUNK = {"id": "msg_1", "object": "chat.completion.chunk", "created": 7, "model": "claude-1"}


def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {**CHUNK, "choices": [choice]}


def translated(pieces: list[bytes], *, include_usage: bool = False) -> bytes:
    stream = AnthropicStream(created=7, include_usage=include_usage)
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.end()])


CITED = (
    start(),
    begin(0, type="text", text="See: "),
    stop(0),
    begin(1, type="text", text=""),
    more(1, type="citations_delta", citation={"url": "https://a.example/", "title": "A"}),
    more(1, type="text_delta", text="Köln"),
    more(1, type="citations_delta", citation={"type": "page_location", "document_index": 0}),
    stop(1),
    begin(2, type="text", text="!"),
    more(2, type="citations_delta", citation={"url": "https://b.example/", "title": "B"}),
    more(2, type="citations_delta", citation={"url": "https://c.example/", "title": "C"}),
    stop(2),
    ending("end_turn"),
    LAST,
)


def test_events_become_chunks():
    stream = sent(*HELLO)
    out = translated([stream], include_usage=True)
    assert read_chunks(out) == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hello"}),
        chunk({"content": " Köln 🚲"}),
        chunk({}, "stop"),
        {
            **CHUNK,
            "choices": [],
            "usage": {
                "prompt_tokens": 25,
                "completion_tokens": 15,
                "total_tokens": 40,
                "prompt_tokens_details": {"cached_tokens": 0},
            },
        },
        "[DONE]",
    ]
    assert out.count(b": ping\n\n") == 1


def test_thoughts_and_calls_become_chunks():
    def call(index: int, **fields: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": index, **fields}]})

    def begun(index: int, id_: str, name: str) -> dict[str, Any]:
        return call(index, id=id_, type="function", function={"name": name, "arguments": ""})

    def arguments(index: int, written: str) -> dict[str, Any]:
        return call(index, function={"arguments": written})

    def kept(**block: Any) -> dict[str, Any]:
        return chunk({"thinking_blocks": [block]})

    assert read_chunks(translated([sent(*EVERYTHING)])) == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "Let me"}),
        chunk({"reasoning_content": " see."}),
        kept(index=0, type="thinking", thinking="Let me see.", signature="c2ln"),
        kept(index=1, type="redacted_thinking", data="xyz"),
        chunk({"content": "Well"}),
        chunk({"content": ", look:"}),
        begun(0, "toolu_1", "weather"),
        arguments(0, '{"city": "Kö'),
        arguments(0, 'ln"}'),
        begun(1, "toolu_2", "now"),
        arguments(1, "{}"),
        begun(2, "toolu_3", "here"),
        arguments(2, '{"exact":true}'),
        chunk({}, "tool_calls"),
        "[DONE]",
    ]


def test_the_official_client_reads_the_same_answer():
    state: ChatCompletionStreamState[Any] = ChatCompletionStreamState()
    for data in read_chunks(translated([sent(*EVERYTHING)], include_usage=True))[:-1]:
        state.handle_chunk(ChatCompletionChunk.model_validate(data))
    answer = state.get_final_completion()
    assert answer.choices[0].message.content == "Well, look:"
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls or []
    assert [(call.id, call.function.name) for call in calls] == [
        ("toolu_1", "weather"),
        ("toolu_2", "now"),
        ("toolu_3", "here"),
    ]
    assert [json.loads(call.function.arguments) for call in calls] == [
        {"city": "Köln"},
        {},
        {"exact": True},
    ]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 472
    assert answer.usage.completion_tokens == 89


@pytest.mark.parametrize("events", [HELLO, EVERYTHING], ids=["hello", "everything"])
def test_where_a_stream_is_cut_makes_no_difference(events):
    stream = sent(*events)
    expected = translated([stream])
    for pieces in cuts(stream):
        assert translated(pieces) == expected


@given(st.lists(st.integers(0, len(sent(*EVERYTHING)))))
def test_any_cuts_make_no_difference(offsets):
    stream = sent(*EVERYTHING).replace(b"\n", b"\r\n")
    assert translated(cut(stream, offsets)) == translated([stream])


def test_a_stream_that_breaks_off_ends_with_an_error_and_without_done():
    stream = sent(*HELLO)
    for end in range(len(stream)):
        chunks = read_chunks(translated([stream[:end]]))
        assert chunks[-1]["error"]["code"] == "upstream_protocol"
        assert all("finish_reason" not in c or not c["finish_reason"] for c in chunks)
        assert "[DONE]" not in chunks


def test_an_error_event_ends_the_stream():
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    stream = AnthropicStream(created=7)
    chunks = read_chunks(stream.feed(sent(*HELLO[:4], error, *HELLO[4:])))
    assert chunks[2:] == [
        {
            "error": {
                "message": "Overloaded",
                "type": "upstream_error",
                "param": None,
                "code": "overloaded",
            }
        }
    ]
    assert stream.finished
    assert stream.feed(sent(*HELLO)) == b""
    assert stream.end() == b""


@pytest.mark.parametrize("broken", [b"data: {\n\n", b"data: []\n\n", b"data: [DONE]\n\n"])
def test_an_event_that_cannot_be_read_ends_the_stream(broken):
    stream = AnthropicStream(created=7)
    out = stream.feed(sent(*HELLO[:4]) + broken + sent(*HELLO[4:]))
    assert read_chunks(out)[-1]["error"]["code"] == "upstream_protocol"
    assert stream.finished


def test_an_event_without_an_end_is_not_kept_for_ever():
    stream = AnthropicStream(created=7)
    piece = b"data: " + b"x" * 2**20
    out = b"".join(stream.feed(piece) for _ in range(MAX_EVENT_BYTES // 2**20 + 1))
    assert read_chunks(out)[-1]["error"]["code"] == "upstream_protocol"


def test_a_failure_on_the_way_is_told_once_and_not_behind_the_end():
    stream = AnthropicStream(created=7)
    stream.feed(sent(*HELLO[:4]))
    told = read_chunks(stream.fail(UpstreamTimeout("Too slow.")))
    assert told[0]["error"]["code"] == "upstream_timeout"
    assert stream.fail(UpstreamTimeout("Too slow.")) == b""
    whole = AnthropicStream(created=7)
    assert whole.feed(sent(*HELLO)).endswith(b"data: [DONE]\n\n")
    assert whole.fail(UpstreamTimeout("Too slow.")) == b""


def test_thoughts_without_a_signature_are_only_told():
    events = (
        begin(0, type="thinking", thinking="Hm."),
        more(0, type="thinking_delta", thinking=None),
        more(0, type="signature_delta"),
        stop(0),
    )
    chunks = read_chunks(translated([sent(start(), *events, ending(None), LAST)]))
    assert chunks[1:] == [chunk({"reasoning_content": "Hm."}), chunk({}, "stop"), "[DONE]"]


json_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["type", "text", "id", "usage"]), inner)
    ),
    max_leaves=4,
)
kinds = st.sampled_from([event["type"] for event in (*HELLO, {"type": "error"})])
members = st.sampled_from(["message", "content_block", "delta", "usage", "error", "index"])
odd_events = st.builds(
    lambda kind, rest: {**rest, "type": kind},
    kinds,
    st.dictionaries(members, json_values),
)


@given(st.lists(odd_events))
def test_no_events_break_the_translation(events):
    chunks = read_chunks(translated([sent(*events)]))
    assert chunks[-1] == "[DONE]" or "error" in chunks[-1]


def test_citations_come_behind_the_text_that_they_support():
    def note(index: int, name: str, start: int, end: int) -> dict[str, Any]:
        url = f"https://{name.lower()}.example/"
        place = {"start_index": start, "end_index": end, "title": name, "url": url}
        return {"index": index, "type": "url_citation", "url_citation": place}

    out = read_chunks(translated([sent(*CITED)]))
    place = {"type": "page_location", "document_index": 0, "start_index": 5, "end_index": 9}
    assert out[2:6] == [
        chunk({"content": "Köln"}),
        chunk({"annotations": [note(0, "A", 5, 9)], "citations": [{"index": 0, **place}]}),
        chunk({"content": "!"}),
        chunk({"annotations": [note(1, "B", 9, 10), note(2, "C", 9, 10)]}),
    ]
    state = ChatCompletionStreamState()
    for one in out[:-1]:
        state.handle_chunk(ChatCompletionChunk.model_validate(one))
    annotations = state.current_completion_snapshot.choices[0].message.annotations
    assert [one.url_citation.title for one in annotations or []] == ["A", "B", "C"]
