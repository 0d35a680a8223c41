"""The official client, sync and async, works through the relay as it does direct."""

import openai
import pytest
import transcripts
from fake_script import Script
from fake_upstream import FakeUpstream
from openai.types.chat import ChatCompletionMessageParam
from running import RunningRelay

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "one two three"}]


def client(relay: RunningRelay, **more: int) -> openai.OpenAI:
    return openai.OpenAI(base_url=relay.url, api_key="unused", **{"max_retries": 0, **more})


@pytest.mark.parametrize("target", ["echo", "remote"])
def test_plain_and_streamed_answers(request: pytest.FixtureRequest, target: str) -> None:
    relay: RunningRelay = request.getfixturevalue(target)
    with client(relay) as api:
        plain = api.chat.completions.create(model="m", messages=ASK)
        assert plain.choices[0].message.content == "one two three"
        assert plain.choices[0].finish_reason == "stop"
        assert plain._request_id
        pieces = list(api.chat.completions.create(model="m", messages=ASK, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in pieces if chunk.choices)
        assert text == "one two three"
        assert pieces[-1].choices[0].finish_reason == "stop"
        assert api.models.list().data


@pytest.mark.parametrize("target", ["echo", "remote"])
async def test_the_async_client(request: pytest.FixtureRequest, target: str) -> None:
    relay: RunningRelay = request.getfixturevalue(target)
    async with openai.AsyncOpenAI(base_url=relay.url, api_key="unused") as api:
        plain = await api.chat.completions.create(model="m", messages=ASK)
        assert plain.choices[0].message.content == "one two three"
        stream = await api.chat.completions.create(model="m", messages=ASK, stream=True)
        text = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(text) == "one two three"


def test_tool_calls_come_through(remote: RunningRelay, upstream: FakeUpstream) -> None:
    upstream.answer(
        Script(
            body=transcripts.tool_body("weather", '{"city": "Köln"}'),
            headers=[(b"content-type", b"application/json")],
        ),
        times=1,
    )
    with client(remote) as api:
        plain = api.chat.completions.create(model="m", messages=ASK)
        [call] = plain.choices[0].message.tool_calls or []
        assert call.type == "function"
        assert call.function.arguments == '{"city": "Köln"}'
        upstream.answer(
            Script(
                pieces=transcripts.tool_stream("weather", ['{"ci', 'ty": 1}']),
                headers=[(b"content-type", b"text/event-stream")],
            ),
            times=1,
        )
        arguments = ""
        for chunk in api.chat.completions.create(model="m", messages=ASK, stream=True):
            for part in (chunk.choices[0].delta.tool_calls if chunk.choices else None) or []:
                assert part.function is not None
                arguments += part.function.arguments or ""
        assert arguments == '{"city": 1}'


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (404, openai.NotFoundError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_errors_are_the_clients_own_kinds(
    remote: RunningRelay, upstream: FakeUpstream, status: int, error: type[openai.APIStatusError]
) -> None:
    upstream.answer(
        Script(
            status=status,
            body=transcripts.error_body("no luck"),
            headers=[(b"content-type", b"application/json")],
        )
    )
    for streamed in (False, True):
        with client(remote) as api, pytest.raises(error, match="no luck"):
            api.chat.completions.create(model="m", messages=ASK, stream=streamed)


def test_the_client_waits_as_told_and_asks_again(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(
        Script(
            status=429,
            body=transcripts.error_body("slow down"),
            headers=[(b"retry-after-ms", b"10"), (b"content-type", b"application/json")],
        ),
        times=1,
    )
    with client(remote, max_retries=1) as api:
        plain = api.chat.completions.create(model="m", messages=ASK)
    assert plain.choices[0].message.content == "one two three"
    assert len(upstream.requests) == 2
    first, second = upstream.requests
    assert first.body == second.body


def test_a_stream_that_breaks_is_an_error_and_not_an_end(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    pieces = transcripts.chat_stream(["a", "b", "c"])
    upstream.answer(
        Script(
            pieces=pieces,
            reset_at=len(pieces[0] + pieces[1]) + 3,
            headers=[(b"content-type", b"text/event-stream")],
        )
    )
    with client(remote) as api, pytest.raises(openai.APIError, match="upstream"):
        list(api.chat.completions.create(model="m", messages=ASK, stream=True))


def test_a_wrong_key_is_an_authentication_error(start_relay, upstream: FakeUpstream) -> None:  # type: ignore[no-untyped-def]  # a fixture
    relay = start_relay(upstream_url=upstream.url, api_keys=["rk-right-0123456789"])
    with client(relay) as api, pytest.raises(openai.AuthenticationError):
        api.chat.completions.create(model="m", messages=ASK)
    with openai.OpenAI(base_url=relay.url, api_key="rk-right-0123456789") as api:
        assert api.chat.completions.create(model="m", messages=ASK).choices
