"""Chat messages as Anthropic's turns."""

from itertools import pairwise

import pytest
from dialects.shapes import Turn

from relay.dialects.anthropic_turns import INVALID_JSON, NO_QUESTION, read_turns
from relay.errors import InvalidRequest

HI = {"role": "user", "content": "Hi"}
PIXEL = "iVBORw0KGgo="


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def user(*content: dict) -> dict:
    return {"role": "user", "content": list(content)}


def assistant(*content: dict) -> dict:
    return {"role": "assistant", "content": list(content)}


def call(id_: str, name: str, arguments: object) -> dict:
    function = {"name": name, "arguments": arguments}
    return {"id": id_, "type": "function", "function": function}


def turns(*messages: dict) -> list[dict]:
    found = read_turns(list(messages)).turns
    for turn in found:
        Turn.model_validate(turn)
    roles = [turn["role"] for turn in found]
    assert roles[0] == "user"
    assert all(first != second for first, second in pairwise(roles))
    return found


TABLE = {
    "text": ([HI], [user(text("Hi"))]),
    "neighbours": (
        [HI, {"role": "user", "content": "there"}],
        [user(text("Hi"), text("there"))],
    ),
    "an answer between": (
        [HI, {"role": "assistant", "content": "Yes?"}, HI],
        [user(text("Hi")), assistant(text("Yes?")), user(text("Hi"))],
    ),
    "blank texts": (
        [HI, {"role": "assistant", "content": " \n"}, {"role": "user", "content": [text(" ")]}],
        [user(text("Hi"))],
    ),
    "no content": ([HI, {"role": "assistant", "content": None}], [user(text("Hi"))]),
    "an answer that nobody asked for": (
        [{"role": "user", "content": ""}, {"role": "assistant", "content": "Yes?"}, HI],
        [user(text(NO_QUESTION)), assistant(text("Yes?")), user(text("Hi"))],
    ),
    "a refusal": (
        [
            HI,
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "Never."}]},
            HI,
        ],
        [user(text("Hi")), assistant(text("No."), text("Never.")), user(text("Hi"))],
    ),
    "images": (
        [
            user(
                text("See:"),
                {
                    "type": "image_url",
                    "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
                },
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                {"type": "image_url", "image_url": "https://example.org/b.png"},
            )
        ],
        [
            user(
                text("See:"),
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                },
                {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                {"type": "image", "source": {"type": "url", "url": "https://example.org/b.png"}},
            )
        ],
    ),
    "a document": (
        [
            user(
                {
                    "type": "file",
                    "file": {
                        "filename": "a.pdf",
                        "file_data": "data:application/pdf;base64,JVBE",
                    },
                },
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE"}},
            )
        ],
        [
            user(
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
                    "title": "a.pdf",
                },
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
                },
            )
        ],
    ),
    "fields and blocks of Anthropic's own": (
        [
            user(
                {**text("Hi"), "cache_control": {"type": "ephemeral"}},
                {"type": "image", "source": {"type": "url", "url": "https://example.org"}},
                {
                    "type": "image_url",
                    "image_url": {"url": "https://example.org"},
                    "cache_control": {"type": "ephemeral"},
                },
            )
        ],
        [
            user(
                {**text("Hi"), "cache_control": {"type": "ephemeral"}},
                {"type": "image", "source": {"type": "url", "url": "https://example.org"}},
                {
                    "type": "image",
                    "source": {"type": "url", "url": "https://example.org"},
                    "cache_control": {"type": "ephemeral"},
                },
            )
        ],
    ),
    "tools": (
        [
            HI,
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [call("call_1", "find", '{"q": "x"}'), call("call.2:a", "now", "")],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "found"},
            {"role": "tool", "tool_call_id": "call.2:a", "content": [text("noon"), text(" ")]},
            {"role": "user", "content": "And?"},
        ],
        [
            user(text("Hi")),
            assistant(
                text("Let me look."),
                {"type": "tool_use", "id": "call_1", "name": "find", "input": {"q": "x"}},
                {"type": "tool_use", "id": "call_2_a", "name": "now", "input": {}},
            ),
            user(
                {"type": "tool_result", "tool_use_id": "call_1", "content": [text("found")]},
                {"type": "tool_result", "tool_use_id": "call_2_a", "content": [text("noon")]},
                text("And?"),
            ),
        ],
    ),
    "a result behind a text, and one without content": (
        [
            HI,
            {"role": "assistant", "tool_calls": [call("1", "a", None), call("2", "b", {"x": 1})]},
            {"role": "user", "content": "Wait."},
            {"role": "tool", "tool_call_id": "1", "content": ""},
            {"role": "tool", "tool_call_id": "2"},
        ],
        [
            user(text("Hi")),
            assistant(
                {"type": "tool_use", "id": "1", "name": "a", "input": {}},
                {"type": "tool_use", "id": "2", "name": "b", "input": {"x": 1}},
            ),
            user(
                {"type": "tool_result", "tool_use_id": "1"},
                {"type": "tool_result", "tool_use_id": "2"},
                text("Wait."),
            ),
        ],
    ),
    "arguments that are no object": (
        [
            HI,
            {"role": "assistant", "tool_calls": [call("1", "a", '{"q": '), call("2", "b", "[1]")]},
            {"role": "tool", "tool_call_id": "1", "content": "?"},
            {"role": "tool", "tool_call_id": "2", "content": "?"},
        ],
        [
            user(text("Hi")),
            assistant(
                {"type": "tool_use", "id": "1", "name": "a", "input": {INVALID_JSON: '{"q": '}},
                {"type": "tool_use", "id": "2", "name": "b", "input": {INVALID_JSON: "[1]"}},
            ),
            user(
                {"type": "tool_result", "tool_use_id": "1", "content": [text("?")]},
                {"type": "tool_result", "tool_use_id": "2", "content": [text("?")]},
            ),
        ],
    ),
    "functions, as they were called before": (
        [
            HI,
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "find", "arguments": "{}"},
            },
            {"role": "function", "name": "find", "content": "found"},
        ],
        [
            user(text("Hi")),
            assistant({"type": "tool_use", "id": "function_find", "name": "find", "input": {}}),
            user(
                {"type": "tool_result", "tool_use_id": "function_find", "content": [text("found")]}
            ),
        ],
    ),
    "thinking that the client kept": (
        [
            HI,
            {
                "role": "assistant",
                "content": "Yes.",
                "reasoning_content": "Hm.",
                "thinking_blocks": [
                    {"index": 0, "type": "thinking", "thinking": "Hm.", "signature": "s"},
                    {"type": "redacted_thinking", "data": "d"},
                ],
            },
            HI,
        ],
        [
            user(text("Hi")),
            assistant(
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                text("Yes."),
            ),
            user(text("Hi")),
        ],
    ),
}


@pytest.mark.parametrize(("messages", "expected"), TABLE.values(), ids=TABLE.keys())
def test_messages_become_turns(messages, expected):
    assert turns(*messages) == expected


def test_system_prompts_are_lifted_from_wherever_they_stand():
    conversation = read_turns(
        [
            {"role": "system", "content": "One."},
            HI,
            {"role": "developer", "content": [text("Two."), text(" ")]},
            {"role": "user", "content": "there"},
            {"role": "system", "content": ""},
        ]
    )
    assert conversation.system == [text("One."), text("Two.")]
    assert conversation.turns == [user(text("Hi"), text("there"))]


def test_the_messages_of_the_client_stay_as_they_are():
    part = text("Hi")
    given = [{"role": "user", "content": [part]}, {"role": "user", "content": "there"}]
    read_turns(given)
    assert given == [
        {"role": "user", "content": [text("Hi")]},
        {"role": "user", "content": "there"},
    ]
    assert part == text("Hi")


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ([{"role": "user", "content": " "}], "messages"),
        ([{"role": "system", "content": "x"}], "messages"),
        (["x"], "messages[0]"),
        ([{"role": "robot", "content": "x"}], "messages[0].role"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role"),
        ([HI, {"role": "user", "content": 1}], "messages[1].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([user({"type": "text", "text": 1})], "messages[0].content[0].text"),
        ([user({"type": "refusal"})], "messages[0].content[0].refusal"),
        ([user({"type": "input_audio", "input_audio": {}})], "messages[0].content[0]"),
        ([user({"type": "image_url"})], "messages[0].content[0].image_url"),
        ([user({"type": "image_url", "image_url": {}})], "messages[0].content[0].image_url.url"),
        (
            [user({"type": "image_url", "image_url": {"url": "data:image/png,abc"}})],
            "messages[0].content[0].image_url.url",
        ),
        ([user({"type": "file"})], "messages[0].content[0].file"),
        (
            [user({"type": "file", "file": {"file_id": "file-1"}})],
            "messages[0].content[0].file.file_data",
        ),
        (
            [user({"type": "file", "file": {"file_data": "data:text/csv;base64,eA=="}})],
            "messages[0].content[0].file.file_data",
        ),
        ([HI, {"role": "assistant", "audio": {"id": "a"}}], "messages[1].audio"),
        ([HI, {"role": "assistant", "tool_calls": {"id": "1"}}], "messages[1].tool_calls"),
        ([HI, {"role": "assistant", "tool_calls": ["x"]}], "messages[1].tool_calls[0]"),
        ([HI, {"role": "assistant", "tool_calls": [{}]}], "messages[1].tool_calls[0].id"),
        (
            [HI, {"role": "assistant", "tool_calls": [{"id": "1"}]}],
            "messages[1].tool_calls[0].function",
        ),
        (
            [HI, {"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]}],
            "messages[1].tool_calls[0].type",
        ),
        (
            [HI, {"role": "assistant", "tool_calls": [{"id": "1", "function": {}}]}],
            "messages[1].tool_calls[0].function.name",
        ),
        (
            [HI, {"role": "assistant", "tool_calls": [call("1", "a", 5)]}],
            "messages[1].tool_calls[0].function.arguments",
        ),
        ([HI, {"role": "assistant", "function_call": "x"}], "messages[1].function_call"),
        ([HI, {"role": "assistant", "thinking_blocks": ["x"]}], "messages[1].thinking_blocks"),
        ([HI, {"role": "tool", "content": "x"}], "messages[1].tool_call_id"),
        ([HI, {"role": "function", "content": "x"}], "messages[1].name"),
    ],
)
def test_what_cannot_be_translated_is_named(messages, param):
    with pytest.raises(InvalidRequest) as caught:
        read_turns(messages)
    assert caught.value.param == param
    assert param in caught.value.message


def test_an_image_of_no_type_is_plain_text_as_data_urls_are():
    source = turns(user({"type": "image_url", "image_url": {"url": "data:;base64,eA=="}}))
    assert source[0]["content"][0]["source"]["media_type"] == "text/plain"
