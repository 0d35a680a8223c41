"""The real small model: shape, counts, limits, cancellation. Never what it says."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import AnyUrl, BaseModel, Field

from local.calls import body, chat_call, deltas, events, no_threads_left, text, until
from relay.errors import BackendError, InvalidRequest, NoUpstream, RouteNotFound
from relay.local import LocalBackend
from relay.local.feed import Feed
from relay.local.llama import LlamaBackend, LlamaOptions
from relay.local.llama_engine import LlamaEngine, Opening
from relay.local.llama_tools import MOST_CALLS
from relay.local.opening import find_smollm2

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"sky": {"enum": ["clear", "grey"]}},
            "required": ["sky"],
            "additionalProperties": False,
        },
    },
}
SKIES = ("clear", "grey")
CLOCK = {"type": "function", "function": {"name": "get_time"}}

PROGRAM = """
import asyncio, sys
from relay.local import open_local
from relay.settings import Settings
from relay.types import Call

async def main():
    backend = open_local("smollm2", Settings(local_threads=1, local_context_tokens=256))
    backend.start()
    if "ask" in sys.argv:
        messages = [{"role": "user", "content": "hi"}]
        payload = {"model": "m", "messages": messages, "max_tokens": 2}
        await backend.complete(Call(path="chat/completions", payload=payload, model="m"))
    if "close" in sys.argv:
        await backend.aclose()
    print(backend.state())

asyncio.run(main())
"""


def broken(path: Path) -> LlamaBackend:
    options = LlamaOptions(context_tokens=128, parallel=1)
    return LlamaBackend(path, name="broken", options=options)


async def test_tokens_are_counted_as_the_engine_counts_them(smollm2: LocalBackend) -> None:
    path = find_smollm2()
    assert path is not None
    counted: list[dict[str, Any]] = []
    engine = LlamaEngine(Opening(path, context_tokens=256, parallel=1, threads=1))
    fields = {"max_tokens": 4, "stop": [], "seed": 1, "temperature": 0}
    messages = [{"role": "user", "content": "Tell me a long story."}]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    engine.ask(
        {"messages": messages, **fields, **options},
        lambda chunk: bool(counted.append(chunk.get("usage") or {})),
        chat=True,
    )
    usage = (await body(smollm2, chat_call("Tell me a long story.", **fields)))["usage"]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [usage[name] for name in names] == [counted[-1][name] for name in names]


async def test_a_stream_has_the_classic_shape_under_the_asked_name(smollm2: LocalBackend) -> None:
    call = chat_call("Tell me a long story.", max_tokens=5, stream_options={"include_usage": True})
    *chunks, last = await events(smollm2, call)
    assert deltas(chunks)[0] == {"role": "assistant"}
    assert deltas(chunks)[-1] == {}
    assert all(list(delta) == ["content"] for delta in deltas(chunks)[1:-1])
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["length"]
    for chunk in chunks:
        assert list(chunk) == ["id", "created", "model", "object", "choices"]
        assert list(chunk["choices"][0]) == ["index", "delta", "finish_reason"]
    assert {(chunk["id"], chunk["model"]) for chunk in [*chunks, last]} == {
        (chunks[0]["id"], "asked")
    }
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 5
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + 5


async def test_a_body_is_the_stream_collected(smollm2: LocalBackend) -> None:
    call = chat_call("Hello", max_tokens=6, temperature=0, seed=1)
    answer = await body(smollm2, call)
    assert list(answer) == ["id", "created", "model", "object", "choices", "usage"]
    [choice] = answer["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": text(await events(smollm2, call)),
    }
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 6


async def test_the_same_seed_says_the_same(smollm2: LocalBackend) -> None:
    call = chat_call("Invent a word.", max_tokens=6, temperature=1.5, seed=7)
    said = [(await body(smollm2, call))["choices"] for _ in range(2)]
    assert said[0] == said[1]
    others = [
        (await body(smollm2, chat_call("Invent a word.", max_tokens=6, temperature=1.5, seed=s)))
        for s in range(3)
    ]
    assert len({other["choices"][0]["message"]["content"] for other in others}) > 1


@pytest.mark.parametrize("seed", [-1, 2**70])
async def test_any_whole_number_is_a_seed(smollm2: LocalBackend, seed: int) -> None:
    call = chat_call("Invent a word.", max_tokens=3, temperature=1.5, seed=seed)
    assert (await body(smollm2, call))["choices"] == (await body(smollm2, call))["choices"]


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"max_tokens": 3}, 3),
        ({"max_completion_tokens": 2}, 2),
        ({"max_completion_tokens": 2, "max_tokens": 4}, 2),
    ],
)
async def test_limits_are_kept_to_the_token(
    smollm2: LocalBackend, fields: dict[str, int], tokens: int
) -> None:
    answer = await body(smollm2, chat_call("Tell me a long story.", **fields))
    assert answer["usage"]["completion_tokens"] == tokens
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_max_length_counts_prompt_and_answer(smollm2: LocalBackend) -> None:
    first = await body(smollm2, chat_call("Tell me a long story.", max_tokens=1))
    asked = first["usage"]["prompt_tokens"]
    call = chat_call("Tell me a long story.", max_length=asked + 4)
    answer = await body(smollm2, call)
    assert answer["usage"]["total_tokens"] == asked + 4
    call = chat_call("Tell me a long story.", max_length=asked + 4, max_tokens=2)
    assert (await body(smollm2, call))["usage"]["completion_tokens"] == 2
    with pytest.raises(InvalidRequest) as refused:
        await smollm2.complete(chat_call("Tell me a long story.", max_length=asked))
    assert refused.value.param == "max_length"
    assert refused.value.code == "context_length_exceeded"


async def test_an_answer_ends_before_the_stop_string(smollm2: LocalBackend) -> None:
    fields: dict[str, Any] = {"max_tokens": 12, "temperature": 0, "seed": 1}
    whole = text(await events(smollm2, chat_call("Count to ten.", **fields)))
    stop = whole[3:6]
    chunks = await events(smollm2, chat_call("Count to ten.", stop=[stop, ""], **fields))
    assert text(chunks) == whole[: whole.index(stop)]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_several_answers_to_one_question_are_all_counted(smollm2: LocalBackend) -> None:
    options = {"include_usage": True}
    call = chat_call("Tell me a long story.", n=2, max_tokens=4, stream_options=options)
    *chunks, last = await events(smollm2, call)
    assert all("usage" not in chunk for chunk in chunks)
    for index in (0, 1):
        assert deltas(chunks, index)[0] == {"role": "assistant"}
        assert deltas(chunks, index)[-1] == {}
    assert last["usage"]["completion_tokens"] == 8


async def test_logprobs_are_given_for_each_token(smollm2: LocalBackend) -> None:
    call = chat_call("Hello", max_tokens=3, temperature=0, logprobs=True, top_logprobs=2)
    answer = await body(smollm2, call)
    tokens = answer["choices"][0]["logprobs"]["content"]
    assert 1 <= len(tokens) <= 3
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)
    said = "".join(token["token"] for token in tokens)
    assert said == answer["choices"][0]["message"]["content"]


async def test_a_schema_is_enforced(smollm2: LocalBackend) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    answer = await body(smollm2, chat_call(max_tokens=100, response_format=wanted))
    assert json.loads(answer["choices"][0]["message"]["content"])["a"] == 1


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
async def test_a_demanded_tool_is_called(
    smollm2: LocalBackend, choice: str | dict[str, Any]
) -> None:
    tools = [WEATHER] if choice == "required" else [CLOCK, WEATHER]
    answer = await body(
        smollm2, chat_call(max_tokens=200, temperature=0, tools=tools, tool_choice=choice)
    )
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    [call] = message["tool_calls"]
    assert call["type"] == "function"
    assert call["id"].startswith("call_")
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"])["sky"] in ("clear", "grey")


async def test_several_tools_may_be_called_at_once(smollm2: LocalBackend) -> None:
    fields = {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": True}
    chunks = await events(smollm2, chat_call(max_tokens=200, temperature=0, **fields))
    calls = [call for delta in deltas(chunks) for call in delta.get("tool_calls", ())]
    assert [call["index"] for call in calls] == list(range(len(calls)))
    assert 1 <= len(calls) <= MOST_CALLS
    assert len({call["id"] for call in calls}) == len(calls)
    assert all(json.loads(call["function"]["arguments"])["sky"] in SKIES for call in calls)


async def test_a_tool_that_may_be_called_is_called_or_answered_in_words(
    smollm2: LocalBackend,
) -> None:
    call = chat_call(max_tokens=60, temperature=0, tools=[WEATHER])
    message = (await body(smollm2, call))["choices"][0]["message"]
    if "tool_calls" in message:
        assert message["content"] is None
    else:
        assert message["content"]
        assert not message["content"].startswith("{")


async def test_an_answer_in_json_may_stand_beside_tools(smollm2: LocalBackend) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    call = chat_call(max_tokens=60, temperature=0, tools=[WEATHER], response_format=wanted)
    [choice] = (await body(smollm2, call))["choices"]
    called = choice["message"].get("tool_calls")
    assert called or json.loads(choice["message"]["content"]) == {"a": 1}


async def test_a_conversation_with_results_of_tools_goes_on(smollm2: LocalBackend) -> None:
    made = {"id": "a", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Time?"},
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "a", "content": "noon"},
    ]
    answer = await body(smollm2, chat_call(messages=messages, tools=[CLOCK], max_tokens=2))
    assert answer["usage"]["completion_tokens"] == 2


async def test_tools_may_be_left_to_the_files_template() -> None:
    path = find_smollm2()
    assert path is not None
    options = LlamaOptions(context_tokens=256, parallel=1, threads=1, tools="template")
    backend = LlamaBackend(path, name="small", options=options)
    answer = await body(backend, chat_call(tools=[CLOCK], max_tokens=2))
    assert answer["choices"][0]["finish_reason"] == "length"
    await backend.aclose()


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "odd"},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
        {"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]},
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"anyOf": [{"type": "object", "properties": {f"p{i}": {}}} for i in range(1000)]},
    ],
)
async def test_a_schema_that_cannot_be_followed_is_refused_by_its_field(
    smollm2: LocalBackend, schema: dict[str, Any]
) -> None:
    """In a grammar the engine would take it, and leave the answer free."""
    function = {"name": "f", "parameters": schema}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    fields: dict[str, Any] = {
        "response_format": form,
        "json_schema": schema,
        "tools": [{"type": "function", "function": function}],
    }
    for name, value in fields.items():
        with pytest.raises(InvalidRequest, match="cannot follow the JSON schema") as refused:
            await smollm2.complete(chat_call(**{name: value}))
        assert (refused.value.param or "").split("[")[0] == name


class Pet(BaseModel):
    kind: Literal["cat", "dog"]
    born: date
    page: AnyUrl
    chip: UUID
    weight: Decimal


class Empty(BaseModel):
    kind: Literal["none"]
    since: datetime | None


class Shelter(BaseModel):
    """What programs say with pydantic: formats, unions, references to itself."""

    pet: Annotated[Pet | Empty, Field(discriminator="kind")]
    notes: Annotated[dict[str, bytes], Field(max_length=1)]
    next: Annotated[list["Shelter"], Field(max_length=0)]


async def test_schemas_of_pydantic_models_are_followed(smollm2: LocalBackend) -> None:
    for model in (Pet, Shelter):
        form = {"type": "json_schema", "json_schema": {"schema": model.model_json_schema()}}
        call = chat_call("Invent one.", max_tokens=1, response_format=form)
        answer = await body(smollm2, call)
        assert answer["choices"][0]["message"]["content"].startswith("{")


async def test_a_tool_call_that_was_cut_short_is_none(smollm2: LocalBackend) -> None:
    call = chat_call(max_tokens=2, tools=[WEATHER], tool_choice="required")
    chunks = await events(smollm2, call)
    assert deltas(chunks) == [{"role": "assistant"}, {}]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


async def test_too_long_a_conversation_is_400(smollm2: LocalBackend) -> None:
    for fields in ({}, {"max_length": 5000}):
        with pytest.raises(InvalidRequest, match="shorten") as refused:
            await smollm2.complete(chat_call("word " * 1100, **fields))
        assert refused.value.status == 400
        assert refused.value.code == "context_length_exceeded"
        assert refused.value.param == "messages"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_k": "many"}, "top_k"),
        ({"response_format": {"type": "riddle"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"max_tokens": 2**70}, "max_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"messages": [{"role": "user"}]}, None),
        ({"temperature": "hot"}, "temperature"),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
async def test_what_the_engine_refuses_is_400(
    smollm2: LocalBackend, fields: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        async with smollm2.stream(chat_call(**fields)):
            raise AssertionError("an answer has begun")
    assert refused.value.status == 400
    assert refused.value.param == param


async def test_too_long_a_conversation_may_lose_its_oldest_turns() -> None:
    path = find_smollm2()
    assert path is not None
    options = LlamaOptions(context_tokens=128, parallel=1, threads=1, overflow="trim")
    backend = LlamaBackend(path, name="small", options=options)
    long = {"content": "word " * 20}
    turns = [{"role": role, **long} for _ in range(4) for role in ("user", "assistant")]
    messages = [*turns, {"role": "user", "content": "Say it."}]
    usage = (await body(backend, chat_call(messages=messages, max_tokens=2)))["usage"]
    assert 60 < usage["prompt_tokens"] < 128
    with pytest.raises(InvalidRequest) as refused:
        await backend.complete(chat_call("word " * 200))
    assert refused.value.code == "context_length_exceeded"
    await backend.aclose()


async def test_another_path_is_404(smollm2: LocalBackend) -> None:
    with pytest.raises(RouteNotFound):
        await smollm2.complete(chat_call(path="moderations"))


async def test_several_at_once_are_all_answered(smollm2: LocalBackend) -> None:
    answers = await asyncio.gather(
        *(body(smollm2, chat_call("Tell me a long story.", max_tokens=3 + i)) for i in range(5))
    )
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [3, 4, 5, 6, 7]


async def test_a_prompt_is_read_beside_more_answers_than_a_batch_has_tokens() -> None:
    path = find_smollm2()
    assert path is not None
    options = LlamaOptions(context_tokens=512, parallel=12, threads=1, batch_tokens=8)
    backend = LlamaBackend(path, name="wide", options=options)
    story = chat_call("Tell me a long story.", max_tokens=400, ignore_eos=True)
    begun = [asyncio.Event() for _ in range(11)]

    async def tell(first: asyncio.Event) -> None:
        async with backend.stream(story) as answer:
            async for _ in answer:
                first.set()

    writing = [asyncio.create_task(tell(first)) for first in begun]
    await asyncio.gather(*(first.wait() for first in begun))
    answer = await body(backend, chat_call(max_tokens=1))
    assert answer["usage"]["completion_tokens"] == 1
    assert not any(task.done() for task in writing)
    for task in writing:
        task.cancel()
    await asyncio.gather(*writing, return_exceptions=True)
    await backend.aclose()


async def test_leaving_a_stream_frees_its_place(smollm2: LocalBackend) -> None:
    for _ in range(5):
        async with smollm2.stream(chat_call("Tell me a long story.", n=2)) as answer:
            async for _ in answer:
                break
    assert no_threads_left()
    assert (await body(smollm2, chat_call(n=2, max_tokens=1)))["usage"]["completion_tokens"] == 2


async def test_a_long_prompt_is_cancelled_while_it_is_read(smollm2: LocalBackend) -> None:
    """Its places go to who waits for them, while most of it was never read."""
    story = "once " * 400
    task = asyncio.create_task(events(smollm2, chat_call(story, n=2)))
    await until(lambda: any(thread.name == "relay-local" for thread in threading.enumerate()))
    waiting = asyncio.create_task(body(smollm2, chat_call(max_tokens=1)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await waiting)["usage"]["completion_tokens"] == 1
    assert no_threads_left()
    usage = (await body(smollm2, chat_call(story, max_tokens=1)))["usage"]
    assert usage["prompt_tokens"] > 400
    assert usage["prompt_tokens_details"]["cached_tokens"] < 300


async def test_who_waits_in_line_can_leave_too(smollm2: LocalBackend) -> None:
    async with smollm2.stream(chat_call("Tell me a long story.", n=2)) as answer:
        waiting = asyncio.create_task(smollm2.complete(chat_call(max_tokens=1)))
        async for _ in answer:
            break
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert (await body(smollm2, chat_call(n=2, max_tokens=1)))["usage"]["completion_tokens"] == 2


async def test_requests_wait_for_the_loading_and_may_leave_meanwhile() -> None:
    path = find_smollm2()
    assert path is not None
    options = LlamaOptions(context_tokens=256, parallel=2, threads=1)
    backend = LlamaBackend(path, name="small", options=options)
    assert backend.state() == "loading"
    leaving = asyncio.create_task(backend.complete(chat_call(max_tokens=1)))
    staying = asyncio.create_task(body(backend, chat_call(max_tokens=1)))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (await staying)["usage"]["completion_tokens"] == 1
    backend.start()  # once more does nothing
    assert backend.state() == "ready"
    assert [card.id for card in backend.cards()] == ["small"]
    running = asyncio.create_task(backend.complete(chat_call("Tell me a long story.", n=2)))
    await until(lambda: any(thread.name == "relay-local" for thread in threading.enumerate()))
    await backend.aclose()
    with pytest.raises(NoUpstream):
        await running
    assert no_threads_left()
    with pytest.raises(NoUpstream):
        await backend.complete(chat_call())


@pytest.mark.parametrize("content", [None, b"", b"GGUF", b"no model at all"])
async def test_a_file_that_cannot_be_loaded_is_one_sentence_and_503(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    backend = broken(path)
    backend.start()
    for _ in range(2):
        with pytest.raises(NoUpstream) as failed:
            await backend.complete(chat_call())
        assert failed.value.status == 503
        assert failed.value.message == backend.state()
    assert "model.gguf could not be loaded" in backend.state()
    assert str(tmp_path) not in backend.state()
    await backend.aclose()


async def test_closing_what_was_never_started_is_nothing(tmp_path: Path) -> None:
    await broken(tmp_path / "none").aclose()


@pytest.mark.parametrize(
    "steps",
    [["ask", "close"], ["close"], ["ask"], []],
    ids=["asked and closed", "closed while loading", "not closed", "left while loading"],
)
def test_a_process_with_a_model_ends_by_itself_and_in_silence(steps: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *steps],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_failure_of_the_engine_in_the_middle_is_no_bad_request() -> None:
    """An engine that breaks after its first chunk, which the real one cannot be made to do."""

    class Server:
        def handle_chat_completions(self, body: Any, callback: Any) -> None:
            callback({"choices": []})
            raise RuntimeError("decode failed")

    engine = LlamaEngine.__new__(LlamaEngine)
    engine._server = Server()

    def produce(feed: Feed[dict[str, Any]]) -> None:
        engine.ask({}, lambda chunk: not feed.put(chunk), chat=True)

    feed: AsyncIterator[dict[str, Any]] = Feed(produce, on_end=lambda: None)
    assert await anext(feed) == {"choices": []}
    with pytest.raises(BackendError, match="failed"):
        await anext(feed)
