"""Anthropic's messages as chat completions, with the official client's types as the judge."""

import json

import pytest
from openai.types.chat import ChatCompletion

from relay.dialects.anthropic_answer import finish_reason, to_chat, to_chat_body, to_chat_usage
from relay.errors import UpstreamProtocol

TEXT = {"type": "text", "text": "Hello"}
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
PAGE = {
    "type": "web_search_result_location",
    "url": "https://example.com/koeln",
    "title": "Köln",
    "encrypted_index": "x",
    "cited_text": "a city",
}
FOUND = {"type": "search_result_location", "source": "https://example.com/2", "title": None}
PLACE = {"type": "char_location", "document_index": 0, "start_char_index": 3, "cited_text": "x"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"q": "Köln"}}


def message(*content: dict, **fields: object) -> dict:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-1",
        "content": list(content),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5},
        **fields,
    }


def test_a_message_becomes_a_chat_completion():
    body = to_chat_body(json.dumps(message(TEXT)).encode(), created=7)
    ChatCompletion.model_validate_json(body, strict=True)
    assert json.loads(body) == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": 7,
        "model": "claude-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 5,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ((), {"content": ""}),
        ((TEXT, {"type": "text", "text": " you"}), {"content": "Hello you"}),
        (
            (CALL,),
            {
                "content": None,
                "tool_calls": [
                    {
                        "id": "toolu_1",
                        "type": "function",
                        "function": {"name": "find", "arguments": '{"q":"Köln"}'},
                    }
                ],
            },
        ),
        (
            (THOUGHT, {"type": "redacted_thinking", "data": "x"}, TEXT),
            {
                "content": "Hello",
                "reasoning_content": "Hm.",
                "thinking_blocks": [THOUGHT, {"type": "redacted_thinking", "data": "x"}],
            },
        ),
        (
            ({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, TEXT),
            {"content": "Hello"},
        ),
        (("no block", {}, {"type": "text"}), {"content": ""}),
    ],
)
def test_blocks_find_their_places(content, expected):
    completion = to_chat(message(*content), created=7)
    ChatCompletion.model_validate(completion)
    said = completion["choices"][0]["message"]
    assert said == {"role": "assistant", "refusal": None, **expected}


@pytest.mark.parametrize(
    ("stop_reason", "expected"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("a_new_reason", "stop"),
        (None, "stop"),
    ],
)
def test_a_stop_reason_becomes_a_finish_reason(stop_reason, expected):
    assert finish_reason(stop_reason) == expected


def test_the_prompt_is_counted_with_what_was_cached():
    usage = {
        "input_tokens": 1,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 300,
        "output_tokens": 4,
        "output_tokens_details": {"thinking_tokens": 2},
        "service_tier": "standard",
    }
    assert to_chat_usage(usage) == {
        "prompt_tokens": 321,
        "completion_tokens": 4,
        "total_tokens": 325,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 300},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


@pytest.mark.parametrize("usage", [{}, {"input_tokens": None, "output_tokens": "many"}])
def test_what_was_not_counted_is_nothing(usage):
    assert to_chat_usage(usage)["total_tokens"] == 0


def test_an_emoji_that_was_cut_in_two_does_not_break_an_answer():
    body = json.dumps(message({"type": "text", "text": "\ud83d"})).encode()
    answer = json.loads(to_chat_body(body, created=7))
    assert answer["choices"][0]["message"]["content"] == "\ud83d"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"content": "Hi"}'])
def test_what_is_no_message_is_the_upstreams_fault(body):
    with pytest.raises(UpstreamProtocol):
        to_chat_body(body, created=7)


def test_citations_become_annotations_of_the_text_that_they_support():
    content = [
        {"type": "text", "text": "Well: "},
        {"type": "text", "text": "Köln is a city", "citations": [PAGE, PLACE]},
        {"type": "text", "text": ".", "citations": [FOUND, {}, None]},
        {"type": "text", "text": "!", "citations": None},
    ]
    answer = to_chat(message(*content), created=7)
    ChatCompletion.model_validate(answer, strict=True)
    said = answer["choices"][0]["message"]
    first, second = said["annotations"]
    assert first == {
        "type": "url_citation",
        "url_citation": {
            "start_index": 6,
            "end_index": 20,
            "title": "Köln",
            "url": "https://example.com/koeln",
        },
    }
    assert said["content"][6:20] == "Köln is a city"
    assert second["url_citation"] == {
        "start_index": 20,
        "end_index": 21,
        "title": "",
        "url": "https://example.com/2",
    }
    assert said["citations"] == [{**PLACE, "start_index": 6, "end_index": 20}]
