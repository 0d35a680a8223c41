"""The echo, as a model and behind the backend: the same each time, as slow and broken as told."""

import asyncio
import json
from typing import Any

import pytest
from running import StartRelay

from local.calls import body, chat_call, deltas, events, text, until
from relay.errors import UpstreamStatus
from relay.local import LocalBackend, Prompt, ToolCall, open_local
from relay.local.echo import EchoModel, EchoOptions, sample
from relay.settings import Settings

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city", "days"],
            },
        },
    }
    for name in ("get_weather", "get_news")
]


def echo(**options: Any) -> LocalBackend:
    return open_local("echo", Settings(), options=options)


def said(text: Any, **options: Any) -> list[str | ToolCall]:
    messages = [{"role": "user", "content": text}]
    model = EchoModel(EchoOptions.model_validate(options))
    return list(model.generate(Prompt(messages, "", [])))


@pytest.mark.parametrize("said", ["one two", "  a\n b\t", "", " ", "Grüße, 世界!", "x" * 10_000])
def test_it_says_the_last_user_text_word_by_word(said: str) -> None:
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": [{"type": "text", "text": said}]},
        {"role": "assistant", "content": "prefix"},
    ]
    pieces = [str(piece) for piece in EchoModel().generate(Prompt(messages, "", []))]
    assert "".join(pieces) == said
    assert len(pieces) == max(len(said.split()), len(said) > 0) + said.endswith("\t")


def test_without_a_user_it_says_nothing():
    assert list(EchoModel().generate(Prompt([{"role": "system", "content": "x"}], "", []))) == []


async def test_nothing_to_say_is_still_an_answer():
    backend = open_local("echo", Settings())
    chunks = await events(backend, chat_call(""))
    assert deltas(chunks) == [{"role": "assistant"}, {}]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    answer = await body(backend, chat_call(""))
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": ""}


async def test_a_lone_surrogate_cannot_break_the_answer():
    backend = open_local("echo", Settings())
    call = chat_call()
    call.payload["messages"][0] |= {"content": [{"type": "text", "text": "a \ud800b"}]}
    assert text(await events(backend, call)) == "a ?b"


@pytest.mark.parametrize(
    ("asked", "words", "answer"),
    [
        ("a b c", 2, "a b"),
        ("a b", 5, "a b a b a"),
        ("", 3, "word word word"),
        (" a", 2, " a a"),
    ],
)
def test_it_is_as_long_as_told(asked: str, words: int, answer: str) -> None:
    assert "".join(map(str, said(asked, words=words))) == answer


async def test_a_slow_one_that_nobody_listens_to_is_over_at_once() -> None:
    backend = echo(first_s=3600)
    task = asyncio.create_task(body(backend, chat_call("a")))
    await until(lambda: bool(backend._turns._feeds))  # type: ignore[attr-defined]  # it has begun
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_its_pace_is_waited_for_before_each_word() -> None:
    backend = echo(first_s=0.001, word_s=0.001)
    assert text(await events(backend, chat_call("a b c"))) == "a b c"


@pytest.mark.parametrize("status", [429, 503, 500, 401, 400])
def test_a_failure_is_one_as_providers_send_it(start_relay: StartRelay, status: int) -> None:
    options = {"fail_every": 2, "fail_status": status}
    relay = start_relay(local="echo", local_options=options)
    assert [relay.ask().status_code for _ in range(4)] == [200, status, 200, status]
    relay.ask()
    failed = relay.ask(stream=True)
    assert failed.status_code == status
    assert failed.json()["error"]["message"].endswith(f"status {status}.")
    assert ("retry-after" in failed.headers) == (status in (429, 503))


async def test_it_may_fail_in_the_middle_of_a_stream() -> None:
    received = []
    async with echo(fail_every=1, fail_after_words=2).stream(chat_call("a b c")) as answer:
        with pytest.raises(UpstreamStatus):
            async for event in answer:
                received.append(event)
    assert len(received) == 3
    with pytest.raises(UpstreamStatus):
        await body(echo(fail_every=1, fail_after_words=9), chat_call("a b c"))


@pytest.mark.parametrize(
    ("options", "fields", "called"),
    [
        ({}, {"tool_choice": "required"}, "get_weather"),
        ({}, {"tool_choice": {"type": "function", "function": {"name": "get_news"}}}, "get_news"),
        ({}, {}, None),
        ({"tool_calls": True}, {}, "get_weather"),
        ({"tool_calls": True}, {"tool_choice": "none"}, None),
        ({"tool_calls": True}, {"tools": []}, None),
    ],
)
async def test_it_calls_a_tool_when_it_must_or_is_told_to(
    options: dict[str, Any], fields: dict[str, Any], called: str | None
) -> None:
    answer = await body(echo(**options), chat_call("a b", **{"tools": TOOLS, **fields}))
    [choice] = answer["choices"]
    if called is None:
        assert (choice["message"]["content"], choice["finish_reason"]) == ("a b", "stop")
        return
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    [call] = choice["message"]["tool_calls"]
    assert call["function"]["name"] == called
    assert json.loads(call["function"]["arguments"]) == {"city": "text", "days": 1}
    assert answer["usage"]["completion_tokens"] == 1


async def test_what_came_of_a_call_is_answered_in_words() -> None:
    messages = [
        {"role": "user", "content": "a b"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "x", "type": "function"}]},
        {"role": "tool", "tool_call_id": "x", "content": "fine"},
    ]
    call = chat_call(messages=messages, tools=TOOLS)
    answer = await body(echo(tool_calls=True), call)
    assert answer["choices"][0]["message"]["content"] == "a b"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (None, {}),
        ({"const": 7}, 7),
        ({"default": "d"}, "d"),
        ({"enum": ["e", "f"]}, "e"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        ({"oneOf": [{"type": "null"}]}, None),
        ({"type": ["number", "null"], "minimum": 3}, 3),
        ({"type": "array", "minItems": 2, "items": {"type": "integer"}}, [1, 1]),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "string", "minLength": 6}, "textxx"),
        ({"type": "riddle"}, None),
    ],
)
def test_arguments_are_the_least_that_a_schema_allows(schema: Any, value: Any) -> None:
    assert sample(schema) == value
