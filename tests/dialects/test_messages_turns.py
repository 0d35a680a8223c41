"""Anthropic's messages as chat messages."""

import pytest

from relay.dialects.messages_turns import read_messages, read_system
from relay.errors import InvalidRequest

PIXEL = "iVBORw0KGgo="
IMAGE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
}
IMAGE_PART = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def user(*content: dict) -> dict:
    return {"role": "user", "content": list(content)}


def assistant(*content: dict) -> dict:
    return {"role": "assistant", "content": list(content)}


def document(title: object = None, **source: object) -> dict:
    return {"type": "document", "source": source, "title": title}


TABLE = {
    "text": ([{"role": "user", "content": "Hi"}], [{"role": "user", "content": "Hi"}]),
    "a block of text": (
        [user({**text("Hi"), "cache_control": {"type": "ephemeral"}})],
        [{"role": "user", "content": "Hi"}],
    ),
    "several blocks": (
        [user(text("a"), text("b"))],
        [{"role": "user", "content": [text("a"), text("b")]}],
    ),
    "an answer": (
        [{"role": "assistant", "content": "Yes"}, assistant(text("a"), text("b"))],
        [{"role": "assistant", "content": "Yes"}, {"role": "assistant", "content": "ab"}],
    ),
    "a system prompt on the way": (
        [{"role": "system", "content": [text("a"), text("b")]}],
        [{"role": "system", "content": "a\n\nb"}],
    ),
    "images": (
        [
            user(
                IMAGE,
                {"type": "image", "source": {"type": "url", "url": "https://example.org/a"}},
            )
        ],
        [
            {
                "role": "user",
                "content": [
                    IMAGE_PART,
                    {"type": "image_url", "image_url": {"url": "https://example.org/a"}},
                ],
            }
        ],
    ),
    "documents": (
        [
            user(
                document("a.pdf", type="base64", media_type="application/pdf", data="JVBE"),
                document(type="base64", media_type="application/pdf", data="JVBE"),
                document("Notes", type="text", media_type="text/plain", data="One."),
                document(type="content", content=[text("Two."), text("Three.")]),
                document(type="content", content="Four."),
            )
        ],
        [
            {
                "role": "user",
                "content": [
                    {
                        "type": "file",
                        "file": {
                            "filename": "a.pdf",
                            "file_data": "data:application/pdf;base64,JVBE",
                        },
                    },
                    {
                        "type": "file",
                        "file": {
                            "filename": "document.pdf",
                            "file_data": "data:application/pdf;base64,JVBE",
                        },
                    },
                    text("Notes\n\nOne."),
                    text("Two.\n\nThree."),
                    text("Four."),
                ],
            }
        ],
    ),
    "a search result": (
        [
            user(
                {
                    "type": "search_result",
                    "source": "https://example.org",
                    "title": "Title",
                    "content": [text("Words.")],
                }
            )
        ],
        [{"role": "user", "content": "Title\n\nhttps://example.org\n\nWords."}],
    ),
    "tools": (
        [
            assistant(
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                text("Let me look."),
                {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"q": "Köln"}},
                {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
            ),
            user(
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"},
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "content": [text("no"), text("on"), IMAGE],
                    "is_error": True,
                },
                text("And?"),
            ),
        ],
        [
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [
                    {
                        "id": "toolu_1",
                        "type": "function",
                        "function": {"name": "find", "arguments": '{"q":"Köln"}'},
                    },
                    {
                        "id": "toolu_2",
                        "type": "function",
                        "function": {"name": "now", "arguments": "{}"},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "found"},
            {"role": "tool", "tool_call_id": "toolu_2", "content": "Error: noon"},
            {"role": "user", "content": [IMAGE_PART, text("And?")]},
        ],
    ),
    "calls without a word, results without content": (
        [
            assistant({"type": "tool_use", "id": "1", "name": "f", "input": {}}),
            user({"type": "tool_result", "tool_use_id": "1"}),
        ],
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": ""},
        ],
    ),
}


@pytest.mark.parametrize(("messages", "expected"), TABLE.values(), ids=TABLE.keys())
def test_messages_become_chat_messages(messages, expected):
    assert read_messages(messages, keep_thinking=False) == expected


def test_thinking_is_kept_where_the_backend_takes_it():
    given = [assistant({"type": "thinking", "thinking": "Hm.", "signature": "s"}, text("Yes"))]
    assert read_messages(given, keep_thinking=True) == [
        {"role": "assistant", "content": "Yes", "reasoning_content": "Hm."}
    ]
    assert read_messages(given, keep_thinking=False) == [{"role": "assistant", "content": "Yes"}]


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (None, []),
        ("", []),
        ([], []),
        ("Be brief.", [{"role": "system", "content": "Be brief."}]),
        (
            [text("Be brief."), {**text("Be kind."), "cache_control": {"type": "ephemeral"}}],
            [{"role": "system", "content": "Be brief.\n\nBe kind."}],
        ),
    ],
)
def test_the_system_prompt_becomes_one_message(system, expected):
    assert read_system(system) == expected


def deep() -> dict:
    value: dict = {}
    for _ in range(100_000):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ("x", "messages"),
        ([], "messages"),
        ([user()], "messages"),
        (["x"], "messages[0]"),
        ([{"role": "tool", "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "assistant", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
        ([user({"type": "text"})], "messages[0].content[0].text"),
        ([user({"type": "video"})], "messages[0].content[0].type"),
        ([user({})], "messages[0].content[0].type"),
        ([user({"type": "image"})], "messages[0].content[0].source"),
        (
            [user({"type": "image", "source": {"type": "file", "file_id": "x"}})],
            "messages[0].content[0].source.type",
        ),
        (
            [user({"type": "image", "source": {"type": "base64", "data": "x"}})],
            "messages[0].content[0].source.media_type",
        ),
        (
            [user({"type": "image", "source": {"type": "base64", "media_type": "image/png"}})],
            "messages[0].content[0].source.data",
        ),
        (
            [user({"type": "image", "source": {"type": "url"}})],
            "messages[0].content[0].source.url",
        ),
        ([user(document(type="url", url="x"))], "messages[0].content[0].source.type"),
        ([user(document(type="text"))], "messages[0].content[0].source.data"),
        ([user({"type": "tool_result"})], "messages[0].content[0].tool_use_id"),
        (
            [user({"type": "tool_result", "tool_use_id": "1", "content": [{"type": "x"}]})],
            "messages[0].content[0].content[0].type",
        ),
        ([assistant(IMAGE)], "messages[0].content[0].type"),
        ([assistant({"type": "thinking"})], "messages[0].content[0].thinking"),
        ([assistant({"type": "tool_use"})], "messages[0].content[0].input"),
        ([assistant({"type": "tool_use", "input": {}})], "messages[0].content[0].id"),
        ([assistant({"type": "tool_use", "input": {}, "id": "1"})], "messages[0].content[0].name"),
        ([assistant({"type": "tool_use", "input": deep()})], "messages[0].content[0].input"),
    ],
    ids=range(26),
)
def test_what_cannot_be_translated_is_named_by_its_path(messages, param):
    with pytest.raises(InvalidRequest) as caught:
        read_messages(messages, keep_thinking=False)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("system", "param"), [(1, "system"), (["x"], "system[0]"), ([{}], "system[0].text")]
)
def test_a_system_prompt_is_text(system, param):
    with pytest.raises(InvalidRequest) as caught:
        read_system(system)
    assert caught.value.param == param
