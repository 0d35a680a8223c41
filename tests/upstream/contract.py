"""What every upstream client must do, told to it as a `Backend`.

An implementation passes by subclassing `UpstreamContract` with a fixture `open_upstream` that
gives `Callable[[UpstreamSettings, Observer], Upstream]`. What is asked and answered stands here,
what goes wrong in `contract_failures`, what becomes of connections in `contract_connections`, of
keys in `contract_keys`; limits of a call, the queue and probes are in `contract_limits`.
"""

import asyncio
import gzip
from dataclasses import replace

import pytest
from fake_upstream import FakeUpstream, Gate, Script
from transcripts import DONE, chat_stream
from upstream.calls import CHAT, KEY, STREAM, Connect, ask, read
from upstream.contract_connections import ConnectionContract
from upstream.contract_failures import FailureContract
from upstream.contract_keys import KeyContract, KindContract, TokenContract
from upstream.contract_limits import LimitContract, ProbeContract, QueueContract
from upstream.contract_uploads import UploadContract

from relay.types import Backend, Call, RawHeaders

TRANSCRIPTS = {
    "text of many bytes": 'data: {"content":"Grüß 日本 🙂"}\n\n'.encode() + DONE,
    "crlf": b'data: {"content":"a"}\r\n\r\ndata: [DONE]\r\n\r\n',
    "byte order mark and comments": b'\xef\xbb\xbf: ping\n\ndata: {"a":1}\n\n: ping\n\n' + DONE,
    "carriage returns, no end": b"event: x\rdata: 1\r\rdata: \xf0\x9f",
}
PASSES_DOWN = [
    (b"content-type", b"application/json; charset=utf-8"),
    (b"retry-after", b"7"),
    (b"retry-after-ms", b"7000"),
    (b"x-ratelimit-remaining-requests", b"59"),
    (b"x-ratelimit-reset-tokens", b"6m0s"),
    (b"openai-processing-ms", b"17"),
    (b"openai-version", b"2020-10-01"),
    (b"x-of-the-vendor", b"caf\xe9"),
]
STAYS_THERE = [
    (b"Set-Cookie", b"session=1"),
    (b"Server", b"cloud"),
    (b"Date", b"Sat, 01 Jan 2000 00:00:00 GMT"),
    (b"Keep-Alive", b"timeout=5"),
    (b"Connection", b"x-of-the-hop"),
    (b"X-Of-The-Hop", b"1"),
    (b"Access-Control-Allow-Origin", b"*"),
    (b"OpenAI-Organization", b"org-1"),
]


def headers_sent(fake: FakeUpstream, name: bytes) -> list[bytes]:
    [received] = fake.requests
    return [value for key, value in received.headers if key.lower() == name]


class RequestContract:
    """What the upstream sees."""

    @pytest.mark.parametrize(
        "body", [b"", b"\x00not \xffJSON", b"x" * 3_000_000], ids=["empty", "binary", "large"]
    )
    async def test_the_body_arrives_byte_for_byte(
        self, fake: FakeUpstream, upstream: Backend, body: bytes
    ) -> None:
        fake.answer(Script())
        await upstream.complete(replace(CHAT, body=body))
        [received] = fake.requests
        assert received.body == body
        assert received.header("content-length") == (str(len(body)) if body else "0")

    @pytest.mark.parametrize(
        "path", ["chat/completions", "models/vendor/name:free", "models/a%2Fb%20c"]
    )
    async def test_method_and_path_go_to_the_base_url(
        self, fake: FakeUpstream, connect: Connect, path: str
    ) -> None:
        fake.answer(Script())
        await connect(f"{fake.root_url}/proxy/v1").complete(Call(path, method="GET"))
        [received] = fake.requests
        assert (received.method, received.target) == ("GET", f"/proxy/v1/{path}")
        assert received.body == b""

    async def test_the_key_of_the_settings_is_the_bearer(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script())
        await upstream.complete(CHAT)
        assert headers_sent(fake, b"authorization") == [b"Bearer " + KEY.encode()]

    async def test_each_of_several_keys_takes_its_turn(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        fake.answer(Script())
        upstream = connect(api_keys=["sk-a", "sk-b"])
        for _ in range(4):
            await upstream.complete(CHAT)
        keys = [received.header("authorization") for received in fake.requests]
        assert keys == ["Bearer sk-a", "Bearer sk-b"] * 2

    async def test_without_a_key_no_authorization_is_sent(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        fake.answer(Script())
        await connect(api_keys=[]).complete(CHAT)
        assert headers_sent(fake, b"authorization") == []

    async def test_the_headers_of_the_call_travel_as_they_are(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script())
        headers: RawHeaders = [
            (b"content-type", b"application/json"),
            (b"user-agent", b"client/1"),
            (b"x-twice", b"one"),
            (b"x-twice", b"two"),
            (b"x-latin", b"caf\xe9"),
        ]
        await upstream.complete(replace(CHAT, headers=headers))
        [received] = fake.requests
        sent = [(name.lower(), value) for name, value in received.headers]
        assert [pair for pair in sent if pair in headers] == headers

    async def test_host_length_and_encoding_are_stated_once_and_rightly(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script())
        await upstream.complete(CHAT)
        assert headers_sent(fake, b"host") == [b"127.0.0.1:%d" % fake.port]
        assert headers_sent(fake, b"accept-encoding") == [b"identity"]
        assert headers_sent(fake, b"content-length") == [b"%d" % len(CHAT.body)]

    async def test_headers_of_the_settings_are_sent_and_win_over_the_callers(
        self, fake: FakeUpstream, connect: Connect
    ) -> None:
        fake.answer(Script())
        upstream = connect(headers={"X-Team": "ours", "OpenAI-Organization": "org-1"})
        await upstream.complete(replace(CHAT, headers=[(b"x-team", b"theirs")]))
        assert headers_sent(fake, b"x-team") == [b"ours"]
        assert headers_sent(fake, b"openai-organization") == [b"org-1"]


class AnswerContract:
    """What comes back."""

    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    async def test_a_whole_answer_comes_back_however_it_is_framed(
        self, fake: FakeUpstream, upstream: Backend, framing: str
    ) -> None:
        fake.answer(Script(status=201, body=b"\x00any \xffbody", framing=framing))  # type: ignore[arg-type]
        completion = await upstream.complete(CHAT)
        assert (completion.status, completion.body) == (201, b"\x00any \xffbody")

    @pytest.mark.parametrize("call", [CHAT, STREAM], ids=["complete", "stream"])
    async def test_the_upstreams_headers_come_back_but_for_those_of_its_own_hop(
        self, fake: FakeUpstream, upstream: Backend, call: Call
    ) -> None:
        request_id = (b"X-Request-ID", b"req-1")
        fake.answer(Script(headers=[*PASSES_DOWN, *STAYS_THERE, request_id], pieces=[b"{}"]))
        async with upstream.stream(call) as answer:
            await read(answer)
        given = (await upstream.complete(call)).headers
        assert list(given) == list(answer.headers)
        assert list(given) == [*PASSES_DOWN, (b"x-upstream-request-id", b"req-1")]

    @pytest.mark.parametrize("call", [CHAT, STREAM], ids=["complete", "stream"])
    async def test_a_compressed_body_passes_with_its_encoding(
        self, fake: FakeUpstream, upstream: Backend, call: Call
    ) -> None:
        fake.answer(Script(body=b"plain text", gzip=True))
        async with upstream.stream(call) as answer:
            assert gzip.decompress(await read(answer)) == b"plain text"
            assert (b"content-encoding", b"gzip") in answer.headers
        assert gzip.decompress(await ask(upstream, call)) == b"plain text"

    async def test_interim_answers_are_passed_over(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        fake.answer(Script(interim=interim, body=b"final"))
        completion = await upstream.complete(CHAT)
        assert (completion.status, completion.body) == (200, b"final")

    async def test_answers_of_parallel_calls_are_not_mixed_up(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(lambda received: Script(body=received.body, cuts=[1]))
        bodies = [b"question %d" % number for number in range(20)]
        calls = [replace((CHAT, STREAM)[i % 2], body=body) for i, body in enumerate(bodies)]
        assert await asyncio.gather(*(ask(upstream, call) for call in calls)) == bodies


class StreamContract:
    """How it comes back, when it comes in pieces."""

    async def test_entering_waits_for_the_first_bytes(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        gate = Gate()
        fake.answer(Script(pieces=[b"first"], piece_gates={0: gate}), times=1)
        entered = asyncio.Event()

        async def enter() -> bytes:
            async with upstream.stream(STREAM) as answer:
                entered.set()
                return await read(answer)

        reading = asyncio.create_task(enter())
        await fake.until(lambda: fake.requests and fake.requests[0].head_sent)
        await ask(upstream, replace(CHAT, path="models", method="GET"))
        assert not entered.is_set()
        gate.open()
        assert await reading == b"first"

    async def test_each_piece_arrives_before_the_next_is_written(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        events = chat_stream(["a", "b", "c"])
        gates = {index: Gate() for index in range(1, len(events) + 1)}
        fake.answer(Script(pieces=events, piece_gates=gates))
        async with upstream.stream(STREAM) as answer:
            assert answer.status == 200
            pieces = aiter(answer)
            for index, event in enumerate(events):
                got = b""
                while len(got) < len(event):
                    got += await anext(pieces)
                assert got == event
                gates[index + 1].open()
            assert await read(answer) == b""

    @pytest.mark.parametrize("name", TRANSCRIPTS)
    async def test_a_transcript_cut_at_any_offset_is_the_same_bytes(
        self, fake: FakeUpstream, upstream: Backend, name: str
    ) -> None:
        transcript = TRANSCRIPTS[name]
        everywhere = range(1, len(transcript))
        for cuts in [*([offset] for offset in everywhere), everywhere]:
            fake.answer(Script(pieces=[transcript], cuts=cuts))
            assert await ask(upstream, STREAM) == transcript

    async def test_an_event_of_a_megabyte_passes(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        events = chat_stream(["x" * 1_000_000, "y"])
        fake.answer(Script(pieces=events))
        assert await ask(upstream, STREAM) == b"".join(events)

    async def test_a_whole_body_may_answer_a_stream_call(
        self, fake: FakeUpstream, upstream: Backend
    ) -> None:
        fake.answer(Script(headers=[(b"content-type", b"application/json")], body=b'{"a":1}'))
        async with upstream.stream(STREAM) as answer:
            assert (b"content-type", b"application/json") in answer.headers
            assert await read(answer) == b'{"a":1}'

    @pytest.mark.parametrize("framing", ["length", "chunked", "close"])
    async def test_an_empty_stream_is_a_stream(
        self, fake: FakeUpstream, upstream: Backend, framing: str
    ) -> None:
        fake.answer(Script(framing=framing))  # type: ignore[arg-type]
        assert await ask(upstream, STREAM) == b""
        assert await ask(upstream, CHAT) == b""


class UpstreamContract(
    RequestContract,
    AnswerContract,
    StreamContract,
    UploadContract,
    FailureContract,
    ConnectionContract,
    KeyContract,
    TokenContract,
    KindContract,
    LimitContract,
    QueueContract,
    ProbeContract,
):
    """All of it."""
