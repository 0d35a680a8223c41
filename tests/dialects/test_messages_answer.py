"""Chat completions as Anthropic's messages."""

import json

import pytest
from dialects.shapes import Message
from transcripts import chat_body, tool_body

from relay.dialects.messages_answer import to_message, to_message_body, to_messages_usage
from relay.errors import UpstreamProtocol


def answer(
    finish_reason: str | None = "stop", *, choice: dict | None = None, **said: object
) -> dict:
    """The message made of a completion with one choice, checked."""
    message = {"role": "assistant", "content": None, **said}
    first = {"index": 0, "message": message, "finish_reason": finish_reason, **(choice or {})}
    result = to_message({"id": "chatcmpl-1", "model": "gpt-1", "choices": [first]})
    Message.model_validate(result)
    return result


def test_a_chat_completion_becomes_a_message():
    body = to_message_body(chat_body("Hello"))
    Message.model_validate_json(body)
    assert json.loads(body) == {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "fake-1",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 3,
            "output_tokens": 5,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }


def test_a_call_becomes_a_block():
    message = json.loads(to_message_body(tool_body("find", '{"q": 1}')))
    assert message["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "find", "input": {"q": 1}}
    ]
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        (None, {}),
        ({"q": 1}, {"q": 1}),
        ('{"q": ', {"INVALID_JSON": '{"q": '}),
        ("5", {"INVALID_JSON": "5"}),
    ],
)
def test_arguments_become_an_object_whatever_the_model_wrote(arguments, expected):
    call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
    assert answer(tool_calls=[call])["content"][0]["input"] == expected


def test_thoughts_come_first_under_either_name():
    for name in ("reasoning_content", "reasoning"):
        message = answer(content="Hello", **{name: "Hm."})
        assert message["content"] == [
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
            {"type": "text", "text": "Hello"},
        ]


def test_signed_thoughts_come_as_they_are():
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
    ]
    message = answer(content="Hello", reasoning_content="Hm.", thinking_blocks=blocks)
    assert message["content"] == [*blocks, {"type": "text", "text": "Hello"}]


CALLS = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("finish_reason", "said", "expected"),
    [
        ("stop", {"content": "x"}, "end_turn"),
        ("length", {"content": "x"}, "max_tokens"),
        ("tool_calls", {"tool_calls": CALLS}, "tool_use"),
        ("function_call", {"tool_calls": CALLS}, "tool_use"),
        ("stop", {"tool_calls": CALLS}, "tool_use"),
        ("length", {"tool_calls": CALLS}, "max_tokens"),
        ("content_filter", {"content": "x"}, "refusal"),
        ("stop", {"refusal": "No."}, "refusal"),
        (None, {"content": "x"}, "end_turn"),
        ("a_new_reason", {"content": "x"}, "end_turn"),
    ],
)
def test_a_finish_reason_becomes_a_stop_reason(finish_reason, said, expected):
    assert answer(finish_reason, **said)["stop_reason"] == expected


def test_a_stop_sequence_is_named_when_the_backend_names_it():
    message = answer("stop", choice={"stop_reason": "END"}, content="x")
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")
    message = answer("stop", choice={"stop_reason": 128009}, content="x")
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)


def test_an_answer_without_a_word_has_no_blocks():
    assert answer(content="")["content"] == []
    assert answer(tool_calls="odd")["content"] == []


def test_a_call_without_an_id_gets_one():
    calls = [{"function": {"name": "f"}}, {"function": {"name": "g"}}]
    ids = [block["id"] for block in answer(tool_calls=calls)["content"]]
    assert len(set(ids)) == 2


def test_what_was_cached_is_counted_apart():
    usage = {
        "prompt_tokens": 321,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 300},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert to_messages_usage(usage) == {
        "input_tokens": 1,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 300,
        "output_tokens": 4,
        "output_tokens_details": {"thinking_tokens": 2},
    }
    odd = {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 20}}
    assert to_messages_usage(odd)["input_tokens"] == 0


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": "x"}']
)
def test_what_is_no_completion_is_the_upstreams_fault(body):
    with pytest.raises(UpstreamProtocol):
        to_message_body(body)
