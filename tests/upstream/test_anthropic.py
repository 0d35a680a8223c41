"""An upstream of kind anthropic: what it is asked, and what comes of its answers."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anthropic_fake as fakes
import pytest
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from upstream.calls import Connect, ask, fails_with, read

from relay.errors import UpstreamAuth, UpstreamProtocol, UpstreamStatus
from relay.events import Observer
from relay.settings import UpstreamSettings
from relay.types import Backend, Call
from relay.upstream import open_upstream as opened
from relay.upstream.anthropic import AnthropicUpstream

PATH = "/v1/messages"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "one two"}]}
HEADERS = [(b"content-type", b"application/json; charset=utf-8"), (b"x-of-the-client", b"1")]
NATIVE = Call("messages", b'{"model" : "m"}', model="m", headers=HEADERS)


def chat(**fields: Any) -> Call:
    payload = ASKED | fields
    stream = bool(payload.get("stream"))
    body = json.dumps(payload).encode()
    return Call("chat/completions", body, payload, "m", stream, headers=HEADERS)


PLAIN, STREAMED = chat(), chat(stream=True)
BOTH = pytest.mark.parametrize("call", [PLAIN, STREAMED], ids=["plain", "streamed"])


@pytest.fixture(params=["direct", "httpx"])
def open_upstream(request: pytest.FixtureRequest) -> Callable[..., Backend]:
    def open_one(settings: UpstreamSettings, observe: Observer) -> Backend:
        return opened(settings.model_copy(update={"transport": request.param}), observe)

    return open_one


@pytest.fixture
def claude(fake: FakeUpstream, connect: Connect) -> Backend:
    """Such an upstream, over either client."""
    fakes.speak_anthropic(fake)
    upstream = connect(kind="anthropic", api_keys=[fakes.KEY])
    assert type(upstream) is AnthropicUpstream
    return upstream


@BOTH
async def test_a_chat_goes_up_as_messages(fake: FakeUpstream, claude: Backend, call: Call) -> None:
    assert b"two" in await ask(claude, call)
    [received] = fake.requests
    assert (received.method, received.target) == ("POST", PATH)
    assert received.header("anthropic-version") == "2023-06-01"
    assert received.header("content-type") == "application/json"
    assert received.header("x-of-the-client") == "1"
    body = json.loads(received.body)
    assert body["max_tokens"] == 4096
    assert body.get("stream", False) is call.stream


async def test_the_operators_version_beats_that_of_the_client(
    fake: FakeUpstream, connect: Connect
) -> None:
    fakes.speak_anthropic(fake)
    upstream = connect(kind="anthropic", api_keys=[fakes.KEY], api_version="2024-01-01")
    asked = (b"anthropic-version", b"2023-01-01")
    await ask(upstream, replace(PLAIN, headers=[*HEADERS, asked]))
    assert fake.requests[-1].header("anthropic-version") == "2024-01-01"


async def test_a_token_is_sent_as_a_bearer(
    fake: FakeUpstream, connect: Connect, tmp_path: Any
) -> None:
    fake.answer(fakes.plain(fakes.said("hi")))
    (tmp_path / "token").write_text("tok-1\n")
    upstream = connect(kind="anthropic", api_keys=[], token_file=tmp_path / "token")
    await ask(upstream, PLAIN)
    [received] = fake.requests
    assert received.header("authorization") == "Bearer tok-1"
    assert received.header("x-api-key") is None


async def test_a_chunk_is_given_as_soon_as_its_event_is_there(
    fake: FakeUpstream, claude: Backend
) -> None:
    gate = Gate()
    pieces = fakes.message_stream(fakes.said("one two"))
    held = Script(headers=[fakes.EVENTS], pieces=pieces, piece_gates={4: gate})
    fake.answer(held, path=PATH)
    async with claude.stream(STREAMED) as answer:
        assert dict(answer.headers)[b"content-type"].startswith(b"text/event-stream")
        received = b""
        async for piece in answer:
            received += piece
            if b"one " in piece:
                gate.open()
        assert received.endswith(b"data: [DONE]\n\n")


async def test_leaving_a_stream_closes_it(fake: FakeUpstream, claude: Backend) -> None:
    pieces = fakes.message_stream(fakes.said("one two"))
    fake.answer(Script(headers=[fakes.EVENTS], pieces=pieces, stall_after=4), path=PATH)
    async with claude.stream(STREAMED) as answer:
        assert await anext(aiter(answer))
    await fake.until(lambda: fake.requests[-1].closed_at is not None)


async def test_what_becomes_of_the_connection_after_the_end_is_nobodys_business(
    fake: FakeUpstream, claude: Backend
) -> None:
    whole = b"".join(fakes.message_stream(fakes.said("one")))
    broken = Script(headers=[fakes.EVENTS], pieces=[whole, b"x"], reset_at=len(whole))
    fake.answer(broken, path=PATH)
    assert (await ask(claude, STREAMED)).endswith(b"data: [DONE]\n\n")


async def test_a_stream_that_breaks_off_raises(fake: FakeUpstream, claude: Backend) -> None:
    pieces = fakes.message_stream(fakes.said("one two"))
    cut = len(b"".join(pieces[:4]))
    fake.answer(Script(headers=[fakes.EVENTS], pieces=pieces, reset_at=cut), path=PATH)
    with fails_with(UpstreamProtocol):
        await ask(claude, STREAMED)


async def test_a_stream_that_ends_too_soon_ends_with_an_error(
    fake: FakeUpstream, claude: Backend
) -> None:
    pieces = fakes.message_stream(fakes.said("one two"))[:4]
    fake.answer(Script(headers=[fakes.EVENTS], pieces=pieces), path=PATH)
    last = (await ask(claude, STREAMED)).rpartition(b"data: ")[2]
    assert json.loads(last)["error"]["code"] == "upstream_protocol"


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("overloaded_error", 503, "overloaded"),
        ("rate_limit_error", 429, "rate_limit_exceeded"),
        ("api_error", 500, None),
        ("news_error", 500, None),
    ],
)
async def test_an_error_that_opens_a_stream_is_its_status(
    fake: FakeUpstream, claude: Backend, kind: str, status: int, code: str | None
) -> None:
    body = b"event: error\ndata: " + fakes.error_body(kind, "no luck") + b"\n\n"
    fake.answer(Script(headers=[fakes.EVENTS, *fakes.LIMITS], pieces=[body]), path=PATH)
    with fails_with(UpstreamStatus) as caught:
        await ask(claude, STREAMED)
    error = json.loads(caught.value.body)["error"]
    assert (caught.value.status, error["code"], error["message"]) == (status, code, "no luck")
    assert (b"x-ratelimit-remaining-requests", b"49") in caught.value.headers
    assert [value for name, value in caught.value.headers if name == b"content-type"] == [
        b"application/json"
    ]


async def test_another_error_that_opens_a_stream_is_an_event(
    fake: FakeUpstream, claude: Backend
) -> None:
    body = b"data: " + fakes.error_body("invalid_request_error", "no luck") + b"\n\n"
    fake.answer(Script(headers=[fakes.EVENTS], pieces=[body]), path=PATH)
    assert b'"no luck"' in await ask(claude, STREAMED)


@pytest.mark.parametrize("pieces", [[], [b"event: news\ndata: {}\n\n"]])
async def test_a_stream_of_nothing_is_no_answer(
    fake: FakeUpstream, claude: Backend, pieces: list[bytes]
) -> None:
    fake.answer(Script(headers=[fakes.EVENTS], pieces=pieces), path=PATH)
    with fails_with(UpstreamProtocol):
        await ask(claude, STREAMED)


@BOTH
@pytest.mark.parametrize(("status", "seen"), [(400, 400), (402, 429), (429, 429), (529, 503)])
async def test_errors_are_openais(
    fake: FakeUpstream, claude: Backend, call: Call, status: int, seen: int
) -> None:
    fake.answer(fakes.error(status, "?", "no luck", (b"retry-after", b"7")), path=PATH)
    with fails_with(UpstreamStatus) as caught:
        await ask(claude, call)
    assert caught.value.status == seen
    assert set(json.loads(caught.value.body)["error"]) == {"message", "type", "param", "code"}
    assert (b"retry-after", b"7") in caught.value.headers


async def test_another_key_is_told_of_through_the_translation(
    fake: FakeUpstream, connect: Connect
) -> None:
    upstream = connect(kind="anthropic", api_keys=[fakes.KEY, "sk-ant-second"])
    fake.answer(fakes.error(429, "rate_limit_error", "slow down"))
    for call in (PLAIN, NATIVE):
        with fails_with(UpstreamStatus) as caught:
            await ask(upstream, call)
    assert caught.value.status == 429
    with fails_with(UpstreamAuth):
        fake.answer(fakes.error(401, "authentication_error", "invalid x-api-key"))
        await ask(upstream, PLAIN)


@pytest.mark.parametrize("stream", [False, True])
async def test_messages_pass_as_they_are(fake: FakeUpstream, claude: Backend, stream: bool) -> None:
    body = b'{"type":"message",  "odd": 1e2}'
    fake.answer(Script(headers=[fakes.JSON, *fakes.LIMITS], body=body), path=PATH)
    call = replace(NATIVE, stream=stream)
    assert await ask(claude, call) == body
    async with claude.stream(call) as answer:
        headers = dict(answer.headers)
        assert await read(answer) == body
    assert headers[b"x-upstream-request-id"] == b"req_011fake"
    assert headers[b"anthropic-ratelimit-requests-limit"] == b"50"
    assert b"anthropic-organization-id" not in headers
    assert fake.requests[0].body == NATIVE.body
    assert fake.requests[0].header("content-type") == "application/json; charset=utf-8"
    assert fake.requests[0].header("anthropic-version") == "2023-06-01"


async def test_what_stands_below_messages_passes_as_well(
    fake: FakeUpstream, claude: Backend
) -> None:
    fake.answer(fakes.plain(fakes.said("hi")), path="/v1/messages/batches")
    assert b"hi" in await ask(claude, replace(NATIVE, path="messages/batches?limit=1"))


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_of_messages_stay_but_for_the_status_that_nobody_knows(
    fake: FakeUpstream, claude: Backend, stream: bool
) -> None:
    fake.answer(fakes.error(529, "overloaded_error", "no luck"), path=PATH)
    with fails_with(UpstreamStatus) as caught:
        await ask(claude, replace(NATIVE, stream=stream))
    assert caught.value.status == 503
    assert caught.value.body == fakes.error_body("overloaded_error", "no luck")
    assert b"anthropic-organization-id" not in dict(caught.value.headers)


@pytest.mark.parametrize("stream", [False, True])
async def test_models_are_openais(fake: FakeUpstream, claude: Backend, stream: bool) -> None:
    call = Call("models", method="GET", stream=stream)
    assert json.loads(await ask(claude, call))["data"][0]["id"] == fakes.MODEL
    assert fake.requests[-1].target == "/v1/models?limit=1000"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "call", [Call("embeddings"), Call("models", method="DELETE"), Call("messages2"), Call("model")]
)
async def test_nothing_else_is_there(
    fake: FakeUpstream, claude: Backend, call: Call, stream: bool
) -> None:
    with fails_with(UpstreamStatus) as caught:
        await ask(claude, replace(call, stream=stream))
    assert caught.value.status == 404
    assert json.loads(caught.value.body)["error"]["code"] == "not_found"
    assert fake.requests == []


@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_translated_is_a_status_and_costs_no_call(
    fake: FakeUpstream, claude: Backend, stream: bool
) -> None:
    with fails_with(UpstreamStatus) as caught:
        await ask(claude, chat(n=2, stream=stream))
    assert caught.value.status == 400
    assert json.loads(caught.value.body)["error"]["param"] == "n"
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    with fails_with(UpstreamStatus) as caught:
        await ask(claude, replace(PLAIN, payload=ASKED | {"odd": deep}, stream=stream))
    assert caught.value.status == 400
    assert fake.requests == []


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"content": 5}'])
async def test_an_answer_that_is_no_message_is_the_upstreams_fault(
    fake: FakeUpstream, claude: Backend, body: bytes
) -> None:
    fake.answer(Script(headers=[fakes.JSON], body=body), path=PATH)
    with fails_with(UpstreamProtocol):
        await ask(claude, PLAIN)


async def test_a_compressed_answer_is_the_upstreams_fault(
    fake: FakeUpstream, claude: Backend
) -> None:
    body = fakes.message_body(fakes.said("hi"))
    fake.answer(Script(headers=[fakes.JSON], body=body, gzip=True), path=PATH)
    with fails_with(UpstreamProtocol):
        await ask(claude, PLAIN)


async def test_it_is_probed_and_has_keys_as_its_client_does(claude: Any) -> None:
    await claude.probe(5.0)
    [key] = claude.keys()
    assert key["state"] == "ok"
