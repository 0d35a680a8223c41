"""Anthropic's official client works through the relay, whoever answers behind it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import anthropic_fake as fake
import pytest
import transcripts
from anthropic.types import MessageParam, ToolParam
from fake_script import Script
from fake_upstream import FakeUpstream
from running import UPSTREAM_KEY, RunningRelay, StartRelay

ASK: list[MessageParam] = [{"role": "user", "content": "one two three"}]
WEATHER: ToolParam = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]
PIXEL = "iVBORw0KGgo="

Client = Callable[..., anthropic.Anthropic]


@pytest.fixture
def native(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    """A relay in front of an upstream that speaks Anthropic's API."""
    fake.speak_anthropic(upstream)
    return start_relay(
        upstreams=[
            {"name": "a", "kind": "anthropic", "base_url": upstream.url, "api_keys": [fake.KEY]}
        ]
    )


@pytest.fixture
def client() -> Iterator[Client]:
    """Makes clients of relays; closes them at the end."""
    opened: list[anthropic.Anthropic] = []

    def make(relay: RunningRelay, **more: Any) -> anthropic.Anthropic:
        given = {"base_url": relay.root, "api_key": "unused", "max_retries": 0} | more
        opened.append(anthropic.Anthropic(**given))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def sent(upstream: FakeUpstream) -> dict[str, Any]:
    """What the upstream was sent last."""
    body: dict[str, Any] = json.loads(upstream.requests[-1].body)
    return body


@pytest.mark.parametrize("target", ["echo", "remote", "native"])
def test_plain_and_streamed_answers(
    request: pytest.FixtureRequest, client: Client, target: str
) -> None:
    api = client(request.getfixturevalue(target))
    plain = api.messages.create(model="m", max_tokens=50, messages=ASK)
    assert [block.to_dict() for block in plain.content] == [fake.said("one two three")]
    assert (plain.role, plain.model, plain.stop_reason) == ("assistant", "m", "end_turn")
    assert plain.usage.output_tokens > 0
    assert plain.usage.input_tokens > 0
    assert plain._request_id
    with api.messages.stream(model="m", max_tokens=50, messages=ASK) as stream:
        assert "".join(stream.text_stream) == "one two three"
        final = stream.get_final_message()
        assert stream.response.headers["request-id"]
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 0


@pytest.mark.parametrize("target", ["echo", "remote", "native"])
async def test_the_async_client(request: pytest.FixtureRequest, target: str) -> None:
    relay: RunningRelay = request.getfixturevalue(target)
    async with anthropic.AsyncAnthropic(base_url=relay.root, auth_token="unused") as api:
        plain = await api.messages.create(model="m", max_tokens=50, messages=ASK)
        assert plain.content[0].to_dict() == fake.said("one two three")
        words = []
        async with api.messages.stream(model="m", max_tokens=50, messages=ASK) as stream:
            words = [word async for word in stream.text_stream]
        assert "".join(words) == "one two three"


def test_a_whole_request_reaches_an_openai_format_upstream(
    remote: RunningRelay, upstream: FakeUpstream, client: Client
) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    client(remote).messages.create(
        model="m",
        max_tokens=50,
        system="Be brief.",
        stop_sequences=["END"],
        extra_body={"temperature": 0.5},
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image", "source": source},  # type: ignore[typeddict-item]  # a dict
                ],
            }
        ],
    )
    body = sent(upstream)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["messages"][1]["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    assert body["max_completion_tokens"] == 50
    assert (body["stop"], body["temperature"]) == (["END"], 0.5)
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert body["parallel_tool_calls"] is False
    [received] = upstream.requests
    assert received.path == "/v1/chat/completions"
    assert received.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    assert received.header("anthropic-version") is None
    assert received.header("content-type") == "application/json"


@pytest.mark.parametrize("target", ["remote", "native"])
def test_tools_are_called_and_their_results_come_back(
    request: pytest.FixtureRequest, upstream: FakeUpstream, client: Client, target: str
) -> None:
    api = client(request.getfixturevalue(target))
    calls = [
        fake.called("weather", {"city": "Köln"}),
        fake.called("weather", {"city": "Ulm"}, "toolu_2"),
    ]
    path, plain, streamed = (
        "/v1/messages",
        fake.plain(*calls, stop_reason="tool_use"),
        fake.streamed(*calls, stop_reason="tool_use"),
    )
    if target == "remote":
        path = "/v1/chat/completions"
        chat = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": "weather", "arguments": json.dumps(call["input"])},
            }
            for call in calls
        ]
        body = transcripts.chat_body(None, finish_reason="tool_calls", tool_calls=chat)
        plain = Script(body=body, headers=JSON)
        chunks = [
            transcripts.chunk({"tool_calls": [{"index": index, **call}]})
            for index, call in enumerate(chat)
        ]
        ending = [transcripts.chunk({}, finish_reason="tool_calls"), transcripts.DONE]
        streamed = Script(pieces=[*chunks, *ending], headers=EVENTS)
    upstream.answer(plain, path=path, times=1)
    answer = api.messages.create(model="m", max_tokens=50, messages=ASK, tools=[WEATHER])
    assert [block.to_dict() for block in answer.content] == calls
    assert answer.stop_reason == "tool_use"

    upstream.answer(streamed, path=path, times=1)
    with api.messages.stream(model="m", max_tokens=50, messages=ASK, tools=[WEATHER]) as stream:
        final = stream.get_final_message()
    assert [block.to_dict() for block in final.content] == calls

    results = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": "rain"} for call in calls
    ]
    again: Any = [
        *ASK,
        {"role": "assistant", "content": calls},
        {"role": "user", "content": [*results, {"type": "text", "text": "and now?"}]},
    ]
    last = api.messages.create(model="m", max_tokens=50, messages=again, tools=[WEATHER])
    assert last.content[0].to_dict() == fake.said("and now?")
    if target == "remote":
        said = sent(upstream)["messages"]
        assert [message["role"] for message in said] == [
            "user",
            "assistant",
            "tool",
            "tool",
            "user",
        ]
        assert [message.get("tool_call_id") for message in said[2:4]] == ["toolu_1", "toolu_2"]


OPENAI_ERRORS = [
    (400, "invalid_request_error", None, anthropic.BadRequestError),
    (404, "invalid_request_error", "model_not_found", anthropic.NotFoundError),
    (413, "invalid_request_error", None, anthropic.RequestTooLargeError),
    (429, "rate_limit_error", "rate_limit_exceeded", anthropic.RateLimitError),
    (500, "server_error", None, anthropic.InternalServerError),
    (503, "server_error", "overloaded", anthropic.OverloadedError),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("status", "kind", "code", "error"), OPENAI_ERRORS)
def test_errors_of_an_openai_format_upstream_are_the_clients_own_kinds(
    remote: RunningRelay,
    upstream: FakeUpstream,
    client: Client,
    status: int,
    kind: str,
    code: str | None,
    error: type[anthropic.APIStatusError],
    streamed: bool,
) -> None:
    body = transcripts.error_body("no luck", type=kind, code=code)
    limits = [(b"retry-after", b"7"), (b"x-ratelimit-remaining-requests", b"0")]
    upstream.answer(Script(status=status, body=body, headers=[*JSON, *limits]))
    with pytest.raises(error, match="no luck") as raised:
        list(client(remote).messages.create(model="m", max_tokens=5, messages=ASK, stream=streamed))
    headers = raised.value.response.headers
    assert headers["retry-after"] == "7"
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert raised.value.request_id == headers["x-request-id"]


ANTHROPIC_ERRORS = [
    (400, "invalid_request_error", anthropic.BadRequestError),
    (404, "not_found_error", anthropic.NotFoundError),
    (429, "rate_limit_error", anthropic.RateLimitError),
    (500, "api_error", anthropic.InternalServerError),
    (529, "overloaded_error", anthropic.OverloadedError),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("status", "kind", "error"), ANTHROPIC_ERRORS)
def test_errors_of_an_anthropic_upstream_come_back_as_they_are(
    native: RunningRelay,
    upstream: FakeUpstream,
    client: Client,
    status: int,
    kind: str,
    error: type[anthropic.APIStatusError],
    streamed: bool,
) -> None:
    upstream.answer(
        fake.error(status, kind, "no luck", (b"retry-after", b"7")), path="/v1/messages"
    )
    with pytest.raises(error, match="no luck") as raised:
        list(client(native).messages.create(model="m", max_tokens=5, messages=ASK, stream=streamed))
    response = raised.value.response
    assert response.status_code == status
    assert response.content == fake.error_body(kind, "no luck")
    assert response.headers["retry-after"] == "7"
    assert response.headers["anthropic-ratelimit-requests-remaining"] == "49"
    assert response.headers["x-upstream-request-id"] == "req_011fake"
    assert "anthropic-organization-id" not in response.headers


def test_a_conversation_that_is_too_long_is_said_in_the_words_clients_look_for(
    remote: RunningRelay, upstream: FakeUpstream, client: Client
) -> None:
    body = transcripts.error_body("This model takes 8192 tokens.", code="context_length_exceeded")
    upstream.answer(Script(status=400, body=body, headers=JSON))
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        client(remote).messages.create(model="m", max_tokens=5, messages=ASK)


def test_the_client_waits_as_told_and_asks_again(
    remote: RunningRelay, upstream: FakeUpstream, client: Client
) -> None:
    told = [(b"retry-after-ms", b"10"), *JSON]
    body = transcripts.error_body("slow down", type="rate_limit_error")
    upstream.answer(Script(status=429, body=body, headers=told), times=1)
    api = client(remote, max_retries=1)
    assert api.messages.create(model="m", max_tokens=5, messages=ASK).content
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("target", ["remote", "native"])
def test_a_stream_that_breaks_is_an_error_and_not_an_end(
    request: pytest.FixtureRequest, upstream: FakeUpstream, client: Client, target: str
) -> None:
    api = client(request.getfixturevalue(target))
    pieces, path = fake.message_stream(fake.said("a b c")), "/v1/messages"
    if target == "remote":
        pieces, path = transcripts.chat_stream(["a", "b", "c"]), "/v1/chat/completions"
    cut = len(b"".join(pieces[:4])) + 3
    upstream.answer(Script(pieces=pieces, reset_at=cut, headers=EVENTS), path=path)
    with pytest.raises(anthropic.APIStatusError, match="upstream"):
        list(api.messages.create(model="m", max_tokens=5, messages=ASK, stream=True))


def test_an_upstream_that_refuses_our_key_is_not_the_clients_fault(
    start_relay: StartRelay, upstream: FakeUpstream, client: Client
) -> None:
    fake.speak_anthropic(upstream)
    wrong = {"name": "a", "kind": "anthropic", "base_url": upstream.url, "api_keys": ["wrong"]}
    relay = start_relay(upstreams=[wrong])
    with pytest.raises(anthropic.InternalServerError) as raised:
        client(relay).messages.create(model="m", max_tokens=5, messages=ASK)
    assert raised.value.status_code == 502


def test_keys_are_taken_as_the_client_sends_them(
    start_relay: StartRelay, upstream: FakeUpstream, client: Client
) -> None:
    right = "rk-right-0123456789"
    relay = start_relay(upstream_url=upstream.url, api_keys=[right])
    with pytest.raises(anthropic.AuthenticationError):
        client(relay).messages.create(model="m", max_tokens=5, messages=ASK)
    for given in ({"api_key": right}, {"api_key": None, "auth_token": right}):
        api = client(relay, **given)
        assert api.messages.create(model="m", max_tokens=5, messages=ASK).content


def test_a_model_that_is_not_there_is_not_found(start_relay: StartRelay, client: Client) -> None:
    relay = start_relay(local="echo", models=[{"id": "mine", "targets": [{"local": True}]}])
    api = client(relay)
    assert api.messages.create(model="mine", max_tokens=5, messages=ASK).model == "mine"
    with pytest.raises(anthropic.NotFoundError, match="'other' does not exist"):
        api.messages.create(model="other", max_tokens=5, messages=ASK)


def test_a_body_that_is_too_large_is_said_so(start_relay: StartRelay, client: Client) -> None:
    relay = start_relay(local="echo", max_body_bytes=1000)
    with pytest.raises(anthropic.RequestTooLargeError):
        client(relay).messages.create(
            model="m", max_tokens=5, messages=[{"role": "user", "content": "x" * 2000}]
        )


def test_tokens_are_counted_by_an_anthropic_upstream_only(
    native: RunningRelay, echo: RunningRelay, client: Client
) -> None:
    assert client(native).messages.count_tokens(model="m", messages=ASK).input_tokens == 14
    with pytest.raises(anthropic.NotFoundError, match="counts tokens"):
        client(echo).messages.count_tokens(model="m", messages=ASK)


def test_the_beta_client_reaches_an_anthropic_upstream_with_its_query_and_its_header(
    native: RunningRelay, upstream: FakeUpstream, client: Client
) -> None:
    api = client(native)
    api.beta.messages.create(
        model="m", max_tokens=5, messages=ASK, betas=["some-beta"], extra_query={"beta": "true"}
    )
    [received] = upstream.requests
    assert received.target == "/v1/messages?beta=true"
    assert received.header("anthropic-beta") == "some-beta"
