"""What users of other gateways suffer from, and what holds here: the promises of a whole relay.

The others stand where their piece is tested: cancelled slots in upstream/, status before head and
time limits in test_relaying.py, tricks with keys and paths in web/test_door.py, origins in
web/test_cors.py, histories in test_history.py.
"""

import asyncio
import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import RunningRelay, StartRelay, chat, process
from waiting import until
from wire import post

STREAM = [(b"content-type", b"text/event-stream")]


def leave(relay: RunningRelay, *, streamed: bool, when: Any) -> None:
    """Ask, and hang up as soon as `when` is true."""
    body = json.dumps(chat(stream=streamed)).encode()
    address = httpx.URL(relay.root)
    with socket.create_connection((address.host, address.port or 0)) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        when()


ASKING: list[tuple[dict[str, Any], Any]] = [
    ({}, {"include_usage": True}),
    ({"stream_options": None}, {"include_usage": True}),
    ({"stream_options": {}}, {"include_usage": True}),
    (
        {"stream_options": {"include_usage": False, "x": 1.5}},
        {"include_usage": True, "x": 1.5},
    ),
]


@pytest.mark.parametrize(("fields", "asked"), ASKING)
@pytest.mark.parametrize("place", ["at the end", "first", "beside a choice", "null everywhere"])
def test_9_usage_is_asked_for_and_the_client_who_did_not_ask_does_not_see_it(
    start_relay: StartRelay,
    upstream: FakeUpstream,
    caplog: pytest.LogCaptureFixture,
    fields: dict[str, Any],
    asked: dict[str, Any],
    place: str,
) -> None:
    caplog.set_level("DEBUG", logger="relay")
    usage = {"choices": [], "usage": transcripts.USAGE}
    told = transcripts.event(usage)
    events = transcripts.chat_stream(["a", "b"])
    expected = list(events)
    if place == "at the end":
        events.insert(-1, told)
    elif place == "first":
        events.insert(0, told)
    elif place == "beside a choice":
        events[1] = expected[1] = events[1].replace(
            b'"choices"', b'"usage":{"prompt_tokens":3,"completion_tokens":5},"choices"'
        )
    else:
        events = [event.replace(b'"choices"', b'"usage":null,"choices"') for event in events]
        expected = list(events)
        events.insert(-1, told)
    upstream.answer(Script(pieces=events, headers=STREAM))
    relay = start_relay(upstream_url=upstream.url, stream_usage=True)
    answer = relay.ask(stream=True, **fields)
    assert answer.content == b"".join(expected)
    assert json.loads(upstream.requests[0].body)["stream_options"] == asked
    relay.stop()
    ended = [record.__dict__["fields"] for record in caplog.records if "fields" in record.__dict__]
    [tokens] = [fields for fields in ended if fields["path"] == "/v1/chat/completions"]
    assert (tokens["prompt_tokens"], tokens["completion_tokens"]) == (3, 5)


def test_9_who_asks_for_usage_gets_it_and_his_bytes_are_not_touched(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    events = transcripts.chat_stream(["a"])
    events.insert(-1, transcripts.event({"choices": [], "usage": transcripts.USAGE}))
    upstream.answer(Script(pieces=events, headers=STREAM))
    relay = start_relay(upstream_url=upstream.url, stream_usage=True)
    body = json.dumps(chat(stream=True, stream_options={"include_usage": True}), indent=1).encode()
    answer = relay.http.post(
        "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
    )
    assert answer.content == b"".join(events)
    assert upstream.requests[0].body == body


def test_9_nothing_is_asked_for_unless_somebody_wants_to_know(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(pieces=transcripts.chat_stream(["a"]), headers=STREAM))
    remote.ask(stream=True)
    assert "stream_options" not in json.loads(upstream.requests[0].body)


@pytest.mark.parametrize("streamed", [False, True])
def test_2_leaving_before_the_head_closes_the_upstream(
    remote: RunningRelay, upstream: FakeUpstream, streamed: bool
) -> None:
    upstream.answer(Script(gate=Gate()))
    leave(remote, streamed=streamed, when=lambda: upstream.wait_for(lambda: upstream.requests))
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None, timeout_s=5)


@pytest.mark.parametrize("streamed", [False, True])
def test_2_leaving_between_head_and_body_closes_the_upstream(
    remote: RunningRelay, upstream: FakeUpstream, streamed: bool
) -> None:
    upstream.answer(Script(pieces=[b"x"], piece_gates={0: Gate()}, headers=STREAM))
    leave(
        remote,
        streamed=streamed,
        when=lambda: upstream.wait_for(
            lambda: upstream.requests and upstream.requests[0].head_sent
        ),
    )
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None, timeout_s=5)


def test_2_leaving_while_queued_takes_the_request_out_of_the_line(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    gate = Gate()
    relay = start_relay(
        upstreams=[
            {
                "name": "narrow",
                "base_url": upstream.url,
                "max_parallel": 1,
                "timeouts": {"connect_s": 20},
            }
        ]
    )
    upstream.answer(Script(body=b"{}", gate=gate))
    address = httpx.URL(relay.root)
    with socket.create_connection((address.host, address.port or 0)) as first:
        body = json.dumps(chat()).encode()
        first.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body
        )
        upstream.wait_for(lambda: upstream.requests)
        leave(relay, streamed=False, when=lambda: until(lambda: len(relay.relay.presence) == 2))
        until(lambda: len(relay.relay.presence) == 1)
        gate.open()
        assert first.recv(65536).startswith(b"HTTP/1.1 200")
    assert relay.ask().status_code == 200
    assert len(upstream.requests) == 2  # the one who left was never sent


def test_2_leaving_while_connecting_or_between_retries_ends_the_call(
    start_relay: StartRelay, silent_listener: str
) -> None:
    for url, retries in ((f"https://{silent_listener}/v1", 0), ("http://127.0.0.1:9/v1", 10)):
        relay = start_relay(upstream_url=url, retries=retries, timeouts={"connect_s": 30})
        leave(relay, streamed=False, when=lambda: until(lambda: len(relay.relay.presence) == 1))  # noqa: B023  # called at once
        until(lambda: len(relay.relay.presence) == 0)  # noqa: B023  # likewise


TRANSCRIPTS = {
    "plain": b"".join(transcripts.chat_stream(["Grüße", ", 世界"])),
    "tools": b"".join(transcripts.tool_stream("weather", ['{"ci', 'ty": 1}'])),
    "reasoning": b"".join(transcripts.reasoning_stream(["hm"], ["so"])),
    "usage": b"".join(transcripts.chat_stream(["a"], usage=transcripts.USAGE)),
    "crlf": b"".join(transcripts.chat_stream(["a", "b"])).replace(b"\n", b"\r\n"),
    "bom and comments": b"\xef\xbb\xbf: hello\n\n"
    + b"".join(transcripts.chat_stream(["a"])).replace(b"\n\n", b"\n\n:ping\n\n"),
    "multi-line data": b'event: x\nid: 7\nretry: 5\ndata: {"a":\ndata: 1}\n\ndata: [DONE]\n\n',
    "no end": b'data: {"choices": []}\n\ndata: half an ev',
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_8_a_stream_cut_anywhere_passes_byte_for_byte(
    remote: RunningRelay, upstream: FakeUpstream, name: str
) -> None:
    whole = TRANSCRIPTS[name]
    for cut in range(1, len(whole), 1 if len(whole) < 400 else 7):
        upstream.answer(Script(body=whole, cuts=[cut], framing="chunked", headers=STREAM), times=1)
        assert remote.ask(stream=True).content == whole


def test_8_an_event_of_a_megabyte_passes(remote: RunningRelay, upstream: FakeUpstream) -> None:
    whole = b'data: {"big": "' + b"x" * 1_000_000 + b'"}\n\ndata: [DONE]\n\n'
    upstream.answer(
        Script(body=whole, cuts=[7, 70_000, 500_000], framing="chunked", headers=STREAM)
    )
    assert remote.ask(stream=True).content == whole


NUMBERS = st.sampled_from(["0", "-0", "1.0", "1.50e+3", "1E400", "12345678901234567890.0"])
STRINGS = st.sampled_from(['"a"', '"\\u00e9"', '"é"', '"\\/"', '"\\ud83d\\ude00"', '"\U0001f600"'])
SPACES = st.sampled_from(["", " ", "\n\t", "\r\n"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=NUMBERS, text=STRINGS, space=SPACES, merged=st.booleans())
def test_11_every_byte_that_need_not_change_arrives(
    remote: RunningRelay,
    upstream: FakeUpstream,
    number: str,
    text: str,
    space: str,
    merged: bool,
) -> None:
    first = f'{{"role":"user",{space}"x":{number},"content":"1"}}'
    rest = (
        f'{{"content"{space}:{text}, "role":"assistant", "n":{number}}},'
        f'{{"role":"user","content":{text}}}'
    )
    twice = '{"role":"user","content":"2"},' if merged else ""
    before = f'{{{space}"model":"m",{space}"unknown":{{"a":[{number},{text}]}},"messages":['
    after = f']{space},"seed":{space}null, "model":"m","metadata":{{"k":{text}}}}}'
    # Two user messages in a row are merged; what stands around them keeps its spelling.
    user = '{"role":"user","content":"0"},' + twice if merged else ""
    sent = before + user + (rest if merged else first + "," + rest) + after
    remote.http.post(
        "/v1/chat/completions",
        content=sent.encode(),
        headers={"content-type": "application/json"},
    )
    arrived = upstream.requests[-1].body.decode()
    if merged:
        assert arrived == before + '{"role":"user","content":"0\\n\\n2"},' + rest + after
    else:
        assert arrived == sent


def test_13_nothing_grows_over_thousands_of_streams(tmp_path: Path, upstream: FakeUpstream) -> None:
    upstream.answer(Script(pieces=transcripts.chat_stream(["a", "b", "c"]), headers=STREAM))
    chance = random.Random(1)  # which streams are aborted must be the same each time
    request = post(
        json.dumps(chat(stream=True)).encode(),
        "content-type: application/json",
        path="/v1/chat/completions",
    )

    async def one(port: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        if chance.random() < 0.3:
            await reader.readuntil(b"\n\n")
        else:
            await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.transport.abort()

    async def storm(root: str, streams: int) -> None:
        port = root.rpartition(":")[2]
        for _ in range(streams // 20):
            await asyncio.gather(*(one(port) for _ in range(20)))

    with process(tmp_path, upstream_url=upstream.url) as (relay, root):

        def memory_kb() -> int:
            status = Path(f"/proc/{relay.pid}/status").read_text()
            return int(status.partition("VmRSS:")[2].split()[0])

        def descriptors() -> int:
            return len(list(Path(f"/proc/{relay.pid}/fd").iterdir()))

        asyncio.run(storm(root, 500))
        memory, open_files = memory_kb(), descriptors()
        asyncio.run(storm(root, 3000))
        assert memory_kb() < memory + 6_000  # a leak of 2 kB a stream would show
        until(lambda: descriptors() <= open_files + 5)


class Counted:
    """Calls of functions in a relay's thread, by module: they do not depend on time."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, _arg: object) -> None:
        if event == "call":
            self.calls[frame.f_globals.get("__name__", "")] += 1

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Of threads that begin within it."""
        threading.setprofile(self)
        try:
            yield
        finally:
            threading.setprofile(None)


def test_14_a_chunk_costs_few_calls_and_no_log_and_no_model(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    counted = Counted()
    with counted.threads():
        relay = start_relay(upstream_url=upstream.url, stream_usage=True)

    def ask(chunks: int) -> Counter[str]:
        events = [b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % n for n in range(chunks)]
        upstream.answer(
            Script(pieces=[*events, b"data: [DONE]\n\n"], framing="chunked", headers=STREAM),
            times=1,
        )
        before = counted.calls.copy()
        assert relay.ask(stream=True).content.count(b"data: ") == chunks + 1
        return counted.calls - before

    ask(1)
    few, many = ask(10), ask(210)
    more = many - few
    assert 0 < more.total() < 200 * 12
    used = {name.partition(".")[0] for name in more}
    assert not used & {"logging", "json", "re", "pydantic", "starlette", "fastapi", "sse_starlette"}


def test_15_a_request_costs_no_more_work_among_many(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    counted = Counted()
    with counted.threads():
        relay = start_relay(upstream_url=upstream.url)

    def calls_per_request(in_flight: int, rounds: int) -> float:
        limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)

        async def ask_all() -> int:
            async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:

                async def ask() -> None:
                    for _ in range(rounds):
                        answer = await client.post(f"{relay.url}/chat/completions", json=chat())
                        assert answer.status_code == 200

                await asyncio.gather(*(ask() for _ in range(in_flight)))  # opens the connections
                before = counted.calls.total()
                await asyncio.gather(*(ask() for _ in range(in_flight)))
                return counted.calls.total() - before

        return asyncio.run(ask_all()) / (in_flight * rounds)

    alone = calls_per_request(16, 4)
    among_many = calls_per_request(128, 2)
    assert 50 < alone < 500
    # On a busy machine some are open long enough to be looked after: a few calls more, not many.
    assert among_many < alone * 1.25


def test_16_nothing_in_a_request_chooses_where_it_goes(
    remote: RunningRelay, upstream: FakeUpstream
) -> None:
    with FakeUpstream.in_thread() as elsewhere:
        for where in (elsewhere.url, elsewhere.root_url):
            named = dict.fromkeys(("base_url", "api_base", "url", "upstream", "endpoint"), where)
            remote.http.post(
                "/v1/chat/completions",
                params=named,
                headers={
                    "x-base-url": where,
                    "x-relay-upstream": where,
                    "x-forwarded-host": where.removeprefix("http://"),
                    "host": where.removeprefix("http://").removesuffix("/v1"),
                    "x-portkey-custom-host": where,
                    "openai-base-url": where,
                },
                json=chat(metadata=named, extra_body=named, litellm_params=named, **named),
            ).raise_for_status()
        assert elsewhere.connections == []
    assert len(upstream.requests) == 2
