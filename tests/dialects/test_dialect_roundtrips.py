"""There and back: what both formats can say survives, and streams say what whole answers say."""

import json
from typing import Any

from dialects.shapes import MessagesRequest, read_chunks, read_events, whole_message
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from relay.dialects import (
    anthropic_answer,
    anthropic_request,
    messages_answer,
    messages_request,
    rate_limits,
)
from relay.dialects.anthropic_stream import AnthropicStream
from relay.dialects.messages_stream import MessagesStream
from relay.schema import read_chat_request

words = st.text(min_size=1, max_size=8).filter(str.strip)
ids = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
inputs = st.dictionaries(
    st.text(max_size=4),
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    max_size=3,
)
texts = st.fixed_dictionaries({"type": st.just("text"), "text": words})
thoughts = st.fixed_dictionaries(
    {"type": st.just("thinking"), "thinking": words, "signature": words}
)
uses = st.fixed_dictionaries({"type": st.just("tool_use"), "id": ids, "name": ids, "input": inputs})


@st.composite
def contents(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Thinking, then text, then calls: the order that a chat completion can keep."""
    content = draw(st.lists(thoughts, max_size=1)) + draw(st.lists(texts, max_size=1))
    return content + draw(st.lists(uses, max_size=3, unique_by=lambda use: use["id"]))


usages = st.fixed_dictionaries(
    {
        "input_tokens": st.integers(0, 10**6),
        "output_tokens": st.integers(0, 10**6),
        "cache_read_input_tokens": st.integers(0, 10**6),
        "cache_creation_input_tokens": st.integers(0, 10**6),
    }
)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    content = draw(contents())
    calling = bool(content) and content[-1]["type"] == "tool_use"
    reasons = ["tool_use"] if calling else ["end_turn", "max_tokens", "refusal"]
    return {
        "id": draw(ids),
        "type": "message",
        "role": "assistant",
        "model": draw(words),
        "content": content,
        "stop_reason": draw(st.sampled_from(reasons)),
        "stop_sequence": None,
        "usage": draw(usages),
    }


def streamed(message: dict[str, Any], size: int) -> bytes:
    """A message as Anthropic's events, its texts in deltas of that size."""
    begun = {**message, "content": [], "stop_reason": None}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(message["content"]):
        empty = {"text": "", "thinking": "", "signature": "", "input": {}}
        opened = {name: empty.get(name, value) for name, value in block.items()}
        events.append({"type": "content_block_start", "index": index, "content_block": opened})
        events += [
            {"type": "content_block_delta", "index": index, "delta": delta}
            for delta in deltas(block, size)
        ]
        events.append({"type": "content_block_stop", "index": index})
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ending, "usage": message["usage"]})
    events.append({"type": "message_stop"})
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )


def deltas(block: dict[str, Any], size: int) -> list[dict[str, Any]]:
    if block["type"] == "tool_use":
        kind, name, whole = "input_json_delta", "partial_json", json.dumps(block["input"])
    else:
        kind, name, whole = f"{block['type']}_delta", block["type"], block[block["type"]]
    pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
    found = [{"type": kind, name: piece} for piece in pieces]
    if block["type"] == "thinking":
        found.append({"type": "signature_delta", "signature": block["signature"]})
    return found


def to_chat_stream(message: dict[str, Any], size: int) -> bytes:
    stream = AnthropicStream(created=7, include_usage=True)
    return stream.feed(streamed(message, size)) + stream.end()


@given(messages())
def test_a_message_survives_being_a_chat_completion(message):
    completion = anthropic_answer.to_chat(message, created=7)
    assert messages_answer.to_message(completion) == message


@given(messages(), st.integers(1, 9))
def test_a_stream_of_a_message_survives_being_chunks(message, size):
    back = MessagesStream(model="", message_id="")
    events = back.feed(to_chat_stream(message, size)) + back.end()
    assert whole_message(read_events(events)) == message


@given(messages(), st.integers(1, 9))
def test_the_chunks_of_a_message_add_up_to_its_chat_completion(message, size):
    state: ChatCompletionStreamState[Any] = ChatCompletionStreamState()
    for data in read_chunks(to_chat_stream(message, size))[:-1]:
        state.handle_chunk(ChatCompletionChunk.model_validate(data))
    streamed_answer = state.current_completion_snapshot.to_dict()
    whole = anthropic_answer.to_chat(message, created=7)
    assert streamed_answer["usage"] == whole["usage"]
    streamed_choice, whole_choice = streamed_answer["choices"][0], whole["choices"][0]
    assert streamed_choice["finish_reason"] == whole_choice["finish_reason"]
    streamed_said, whole_said = streamed_choice["message"], whole_choice["message"]
    assert (streamed_said["content"] or "") == (whole_said["content"] or "")
    assert streamed_said.get("reasoning_content") == whole_said.get("reasoning_content")
    assert calls_of(streamed_said) == calls_of(whole_said)


def calls_of(said: dict[str, Any]) -> list[tuple[str, str, Any]]:
    return [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in said.get("tool_calls") or []
    ]


images = st.fixed_dictionaries(
    {
        "type": st.just("image"),
        "source": st.fixed_dictionaries(
            {"type": st.just("base64"), "media_type": st.just("image/png"), "data": ids}
        )
        | st.fixed_dictionaries({"type": st.just("url"), "url": st.just("https://example.org/a")}),
    }
)
tools = st.fixed_dictionaries(
    {
        "name": ids,
        "description": words,
        "input_schema": st.just({"type": "object", "properties": {"q": {"type": "string"}}}),
    }
)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns: each question may answer the calls of the answer before it."""
    turns: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 3))):
        asked = results + draw(st.lists(texts | images, min_size=1, max_size=3))
        turns.append({"role": "user", "content": asked})
        said = draw(st.lists(texts, min_size=1, max_size=1))
        calls = draw(st.lists(uses, max_size=2, unique_by=lambda use: use["id"]))
        turns.append({"role": "assistant", "content": said + calls})
        results = [
            {"type": "tool_result", "tool_use_id": call["id"], "content": [draw(texts)]}
            for call in calls
        ]
    turns.append({"role": "user", "content": [*results, draw(texts)]})
    return turns


requests = st.fixed_dictionaries(
    {
        "model": words,
        "max_tokens": st.integers(1, 9999),
        "messages": conversations(),
    },
    optional={
        "system": st.lists(texts, min_size=1, max_size=1),
        "temperature": st.floats(0, 0.99),
        "top_p": st.floats(0, 0.99),
        "stop_sequences": st.lists(words, min_size=1, max_size=4),
        "stream": st.booleans(),
        "tools": st.lists(tools, min_size=1, max_size=2),
        "metadata": st.fixed_dictionaries({"user_id": words}),
    },
)
choices = st.sampled_from(
    [
        {"type": "auto"},
        {"type": "none"},
        {"type": "any", "disable_parallel_tool_use": True},
        {"type": "tool", "name": "find"},
    ]
)


@given(requests, choices)
def test_a_request_survives_being_a_chat_completion_request(request, choice):
    if "tools" in request:
        request["tool_choice"] = choice
    MessagesRequest.model_validate(request)
    chat = messages_request.to_chat(request)
    read_chat_request(chat)
    assert anthropic_request.to_messages(chat) == request


@given(st.lists(st.sampled_from([b"limit", b"remaining"]), max_size=2), st.integers(0, 9))
def test_limits_survive_being_anthropics(kinds, value):
    headers = [(b"x-ratelimit-%s-tokens" % kind, b"%d" % value) for kind in kinds]
    there = rate_limits.to_anthropic(headers, now=0)
    assert rate_limits.to_openai(there, now=0) == headers
