"""OpenAI's official client works through the relay in front of an Anthropic-format upstream."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic_fake as fake
import openai
import pytest
from fake_script import Script
from fake_upstream import FakeUpstream
from openai.types.chat import ChatCompletionMessageParam
from running import RunningRelay, StartRelay

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "one two three"}]
MESSAGES = "/v1/messages"
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object"}},
}


@pytest.fixture(params=["direct", "httpx"])
def relay(
    request: pytest.FixtureRequest, start_relay: StartRelay, upstream: FakeUpstream
) -> RunningRelay:
    """A relay in front of an upstream that speaks Anthropic's API, by either client."""
    fake.speak_anthropic(upstream)
    return start_relay(
        upstreams=[
            {
                "name": "a",
                "kind": "anthropic",
                "base_url": upstream.url,
                "api_keys": [fake.KEY],
                "transport": request.param,
            }
        ]
    )


@pytest.fixture
def api(relay: RunningRelay) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=relay.url, api_key="unused", max_retries=0) as api:
        yield api


def test_plain_answers(api: openai.OpenAI, upstream: FakeUpstream) -> None:
    raw = api.chat.completions.with_raw_response.create(model=fake.MODEL, messages=ASK)
    plain = raw.parse()
    assert plain.choices[0].message.content == "one two three"
    assert plain.choices[0].finish_reason == "stop"
    assert (plain.id, plain.model) == (fake.ID, fake.MODEL)
    assert plain.usage is not None
    assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (14, 3)
    assert raw.headers["x-ratelimit-remaining-requests"] == "49"
    assert raw.headers["x-upstream-request-id"] == "req_011fake"
    assert raw.headers["content-type"] == "application/json"
    assert "anthropic-organization-id" not in raw.headers
    [received] = upstream.requests
    assert received.path == "/v1/messages"
    assert received.header("x-api-key") == fake.KEY
    assert received.header("anthropic-version") == "2023-06-01"
    assert received.header("authorization") is None


def test_streamed_answers(api: openai.OpenAI) -> None:
    chunks = list(
        api.chat.completions.create(
            model=fake.MODEL, messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "one two three"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 17


def test_a_whole_request_reaches_the_upstream(api: openai.OpenAI, upstream: FakeUpstream) -> None:
    api.chat.completions.create(
        model=fake.MODEL,
        max_completion_tokens=50,
        stop=["END"],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
        messages=[
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                    {"type": "text", "text": "What is this?"},
                ],
            },
        ],
    )
    body = json.loads(upstream.requests[-1].body)
    assert body["system"] == [fake.said("Be brief.")]
    [turn] = body["messages"]
    assert turn["content"][0]["source"]["media_type"] == "image/png"
    assert (body["max_tokens"], body["stop_sequences"]) == (50, ["END"])
    assert body["tool_choice"] == {
        "type": "tool",
        "name": "weather",
        "disable_parallel_tool_use": True,
    }


def test_tools_are_called(api: openai.OpenAI, upstream: FakeUpstream) -> None:
    calls = [fake.called("weather", {"city": "Köln"}), fake.called("weather", {}, "toolu_2")]
    upstream.answer(fake.plain(*calls, stop_reason="tool_use"), path=MESSAGES, times=1)
    plain = api.chat.completions.create(model=fake.MODEL, messages=ASK, tools=[WEATHER])
    made = plain.choices[0].message.tool_calls or []
    assert [call.id for call in made] == ["toolu_1", "toolu_2"]
    assert plain.choices[0].finish_reason == "tool_calls"
    upstream.answer(fake.streamed(*calls, stop_reason="tool_use"), path=MESSAGES, times=1)
    arguments = {0: "", 1: ""}
    for chunk in api.chat.completions.create(
        model=fake.MODEL, messages=ASK, tools=[WEATHER], stream=True
    ):
        for part in chunk.choices[0].delta.tool_calls or []:
            assert part.function is not None
            arguments[part.index] += part.function.arguments or ""
    assert [json.loads(text) for text in arguments.values()] == [{"city": "Köln"}, {}]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("status", "kind", "error", "code"),
    [
        (400, "invalid_request_error", openai.BadRequestError, None),
        (404, "not_found_error", openai.NotFoundError, "not_found"),
        (429, "rate_limit_error", openai.RateLimitError, "rate_limit_exceeded"),
        (500, "api_error", openai.InternalServerError, None),
        (529, "overloaded_error", openai.InternalServerError, "overloaded"),
    ],
)
def test_errors_are_the_clients_own_kinds(
    api: openai.OpenAI,
    upstream: FakeUpstream,
    status: int,
    kind: str,
    error: type[openai.APIStatusError],
    code: str | None,
    streamed: bool,
) -> None:
    upstream.answer(fake.error(status, kind, "no luck", (b"retry-after", b"7")), path=MESSAGES)
    with pytest.raises(error, match="no luck") as raised:
        list(api.chat.completions.create(model=fake.MODEL, messages=ASK, stream=streamed))
    assert raised.value.status_code == (503 if status == 529 else status)
    assert raised.value.code == code
    assert raised.value.response.headers["retry-after"] == "7"


def test_a_refused_key_is_the_operators_fault(api: openai.OpenAI, upstream: FakeUpstream) -> None:
    upstream.answer(fake.error(401, "authentication_error", "invalid x-api-key"), path=MESSAGES)
    with pytest.raises(openai.InternalServerError) as raised:
        api.chat.completions.create(model=fake.MODEL, messages=ASK)
    assert (raised.value.status_code, raised.value.code) == (502, "upstream_auth")


def test_a_stream_that_breaks_is_an_error_and_not_an_end(
    api: openai.OpenAI, upstream: FakeUpstream
) -> None:
    pieces = fake.message_stream(fake.said("a b c"))
    cut = len(b"".join(pieces[:4])) + 3
    upstream.answer(Script(pieces=pieces, reset_at=cut, headers=[fake.EVENTS]), path=MESSAGES)
    with pytest.raises(openai.APIError, match="upstream"):
        list(api.chat.completions.create(model=fake.MODEL, messages=ASK, stream=True))


def test_models_are_listed(api: openai.OpenAI, upstream: FakeUpstream) -> None:
    [model] = api.models.list().data
    assert (model.id, model.object, model.owned_by) == (fake.MODEL, "model", "anthropic")
    assert model.created == 1739923200
    assert upstream.requests[-1].target == "/v1/models?limit=1000"
    upstream.answer(Script(headers=[fake.JSON], body=b'{"type":"model","id":"claude-x"}'), times=1)
    assert api.models.retrieve("claude-x").id == "claude-x"


def test_what_does_not_exist_there_is_said_so(api: openai.OpenAI, upstream: FakeUpstream) -> None:
    with pytest.raises(openai.NotFoundError, match="nothing at POST embeddings"):
        api.embeddings.create(model="m", input="x", encoding_format="float")
    assert upstream.requests == []


def test_what_cannot_be_translated_is_a_bad_request(
    api: openai.OpenAI, upstream: FakeUpstream
) -> None:
    for streamed in (False, True):
        with pytest.raises(openai.BadRequestError) as raised:
            api.chat.completions.create(model=fake.MODEL, messages=ASK, n=2, stream=streamed)
        assert raised.value.param == "n"
    assert upstream.requests == []
