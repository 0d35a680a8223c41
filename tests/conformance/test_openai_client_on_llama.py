"""The official client against the small model in process: everything that it can be asked for."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from running import RunningRelay

from relay.app import Relay
from relay.serving import build_server, listen
from relay.settings import Settings

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me a long story."}]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
FORM: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}


@pytest.fixture(scope="module")
def relay() -> Iterator[RunningRelay]:
    """A relay with the small model, for all tests of this file."""
    settings = Settings(
        local="smollm2",
        local_context_tokens=512,
        local_parallel=4,
        local_threads=1,
        shutdown_grace_s=0.2,
    )
    made = Relay(settings)
    server = build_server(made)
    listener = listen("127.0.0.1", 0)
    root = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    running = RunningRelay(made, server, thread, root)
    running.http.timeout = 120
    yield running
    running.stop()


@pytest.fixture
def api(relay: RunningRelay) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=relay.url, api_key="unused", max_retries=0) as client:
        yield client


def test_plain_and_streamed_tell_the_same_usage(api: openai.OpenAI) -> None:
    fields: Any = {"model": "smollm2", "messages": ASK, "max_tokens": 4, "seed": 1}
    plain = api.chat.completions.create(**fields)
    assert plain.choices[0].finish_reason == "length"
    assert plain.usage is not None
    assert plain.usage.completion_tokens == 4
    options: Any = {"include_usage": True}
    chunks = list(api.chat.completions.create(**fields, stream=True, stream_options=options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == plain.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == plain.usage.total_tokens


def test_two_choices_a_stop_string_and_logprobs(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(
        model="smollm2", messages=ASK, n=2, max_tokens=4, logprobs=True, top_logprobs=2, stop=["zz"]
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert choice.logprobs is not None
        tokens = choice.logprobs.content or []
        assert "".join(token.token for token in tokens) == choice.message.content
        assert all(len(token.top_logprobs) == 2 for token in tokens)


@pytest.mark.parametrize("seed", range(3))
def test_json_follows_its_schema(api: openai.OpenAI, seed: int) -> None:
    answer = api.chat.completions.create(
        model="smollm2", messages=ASK, max_tokens=100, seed=seed, response_format=FORM
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert list(found) == ["name", "age"]
    assert isinstance(found["age"], int)


def test_a_forced_tool_is_called_plain_and_streamed(api: openai.OpenAI) -> None:
    fields: Any = {
        "model": "smollm2",
        "messages": ASK,
        "tools": [WEATHER],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "max_tokens": 60,
    }
    [call] = api.chat.completions.create(**fields).choices[0].message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments)["city"] in ("Rome", "Oslo")
    with api.chat.completions.stream(**fields) as stream:
        last = stream.get_final_completion().choices[0]
    assert last.finish_reason == "tool_calls"
    assert last.message.tool_calls


def test_embeddings_as_numbers_and_as_the_client_asks_for_them(api: openai.OpenAI) -> None:
    plain = api.embeddings.create(model="m", input=["one", "two"], encoding_format="float")
    packed = api.embeddings.create(model="m", input=["one", "two"])  # the client asks for base64
    assert [one.index for one in plain.data] == [0, 1]
    for one, other in zip(plain.data, packed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-3)
    assert plain.usage.prompt_tokens == 2
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        api.embeddings.create(model="m", input="one", dimensions=3)


def test_completions_plain_and_streamed(api: openai.OpenAI) -> None:
    fields: Any = {"model": "m", "prompt": "One, two,", "max_tokens": 4, "seed": 1}
    plain = api.completions.create(**fields, logprobs=1)
    assert plain.usage is not None
    assert plain.usage.completion_tokens == 4
    assert plain.choices[0].logprobs is not None
    streamed = api.completions.create(**fields, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == plain.choices[0].text
    with pytest.raises(openai.BadRequestError, match="suffix"):
        api.completions.create(**fields, suffix="x")


def test_a_conversation_that_is_too_long_names_both_numbers(api: openai.OpenAI) -> None:
    long: Any = [{"role": "user", "content": "word " * 600}]
    with pytest.raises(openai.BadRequestError, match=r"tokens, but .* holds 512") as refused:
        api.chat.completions.create(model="m", messages=long)
    assert refused.value.code == "context_length_exceeded"


def test_a_large_body_is_read_whole_for_the_local_model(relay: RunningRelay) -> None:
    body = {"model": "m", "input": ["one"] * 3, "user": "x" * 100_000}
    answer = relay.http.post("/v1/embeddings", json=body)
    assert answer.status_code == 200
    assert answer.headers["x-relay-upstream"] == "local"


def test_what_the_model_does_not_do_is_404(relay: RunningRelay) -> None:
    for path in ("moderations", "responses"):
        assert relay.http.post(f"/v1/{path}", json={"model": "m"}).status_code == 404


def test_the_state_of_the_model_is_told(api: openai.OpenAI, relay: RunningRelay) -> None:
    [card] = api.models.list().data
    assert card.model_extra == {"status": {"value": "loaded"}}
    assert relay.http.get("/readyz").json()["models"] == {"smollm2": "loaded"}
