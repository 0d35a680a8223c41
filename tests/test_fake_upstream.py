"""The fake upstream does what its scripts say, byte for byte, and sees what its peers do."""

import asyncio
import gzip
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import transcripts
from fake_upstream import FakeUpstream, Gate, Received, Script

ASK = b"GET /v1/models HTTP/1.1\r\nhost: fake\r\n\r\n"
QUESTION: Any = [{"role": "user", "content": "Good  morning to you"}]


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


async def everything(fake: FakeUpstream, request: bytes = ASK) -> bytes:
    """What the fake sends until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_a_script_is_sent_with_its_exact_headers_and_body(fake: FakeUpstream) -> None:
    fake.answer(Script(status=429, headers=[(b"Retry-AFTER", b"7")], body=b"no", keep_alive=False))
    assert await everything(fake) == (
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-AFTER: 7\r\ncontent-length: 2\r\n"
        b"connection: close\r\n\r\nno"
    )


async def test_pieces_are_chunks_of_their_own(fake: FakeUpstream) -> None:
    fake.answer(Script(pieces=[b"one", b"twelve bytes"], keep_alive=False))
    _, _, body = (await everything(fake)).partition(b"\r\n\r\n")
    assert body == b"3\r\none\r\nc\r\ntwelve bytes\r\n0\r\n\r\n"


async def test_cuts_re_cut_the_pieces(fake: FakeUpstream) -> None:
    fake.answer(Script(pieces=[b"one", b"two"], cuts=[2, 4], keep_alive=False))
    _, _, body = (await everything(fake)).partition(b"\r\n\r\n")
    assert body == b"2\r\non\r\n2\r\net\r\n2\r\nwo\r\n0\r\n\r\n"


async def test_a_body_may_end_with_the_connection(fake: FakeUpstream) -> None:
    fake.answer(Script(body=b"until the end", framing="close"))
    head, _, body = (await everything(fake)).partition(b"\r\n\r\n")
    assert b"content-length" not in head
    assert body == b"until the end"


async def test_gzip_is_announced_and_done(fake: FakeUpstream) -> None:
    fake.answer(Script(body=b"text", gzip=True, keep_alive=False))
    head, _, body = (await everything(fake)).partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head
    assert gzip.decompress(body) == b"text"


async def test_raw_bytes_are_the_whole_response(fake: FakeUpstream) -> None:
    fake.answer(Script(raw=b"HTTP/9 what\r\n", keep_alive=False))
    assert await everything(fake) == b"HTTP/9 what\r\n"


async def test_interim_answers_come_before_the_head(fake: FakeUpstream) -> None:
    fake.answer(Script(interim=b"HTTP/1.1 103 Early Hints\r\n\r\n", keep_alive=False))
    assert (await everything(fake)).startswith(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK")


async def test_close_at_ends_cleanly_at_that_byte(fake: FakeUpstream) -> None:
    fake.answer(Script(pieces=[b"12345", b"6789"], close_at=7))
    _, _, body = (await everything(fake)).partition(b"\r\n\r\n")
    assert body == b"5\r\n12345\r\n4\r\n67"
    assert fake.requests[0].answered is False


async def test_reset_at_resets_after_that_byte(fake: FakeUpstream) -> None:
    fake.answer(Script(body=b"123456789", reset_at=4))
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
    writer.write(ASK)
    await reader.readuntil(b"\r\n\r\n1234")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_a_closed_gate_holds_the_head_until_it_is_opened(fake: FakeUpstream) -> None:
    gate = Gate()
    fake.answer(Script(gate=gate, keep_alive=False))
    answer = asyncio.create_task(everything(fake))
    await fake.until(lambda: fake.requests)
    assert fake.requests[0].head_sent is False
    gate.open()
    assert (await answer).startswith(b"HTTP/1.1 200 OK")


async def test_a_piece_gate_holds_that_piece_and_the_last_one_the_end(fake: FakeUpstream) -> None:
    gates = {1: Gate(), 2: Gate()}
    fake.answer(Script(pieces=[b"a", b"b"], piece_gates=gates))
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
    writer.write(ASK)
    await reader.readuntil(b"1\r\na\r\n")
    gates[1].open()
    await reader.readuntil(b"1\r\nb\r\n")
    assert fake.requests[0].answered is False
    gates[2].open()
    await reader.readuntil(b"0\r\n\r\n")
    await fake.until(lambda: fake.requests[0].answered)
    writer.close()


@pytest.mark.parametrize("pieces", [0, 1, 2])
async def test_a_stalled_answer_stays_open_until_the_peer_leaves(
    fake: FakeUpstream, pieces: int
) -> None:
    fake.answer(Script(pieces=[b"a", b"b"], stall_after=pieces))
    _, writer = await asyncio.open_connection("127.0.0.1", fake.port)
    writer.write(ASK)
    await fake.until(lambda: fake.requests and fake.requests[0].head_sent)
    await fake.until(lambda: fake.requests[0].pieces_sent == pieces)
    assert fake.requests[0].closed_at is None
    writer.close()
    await fake.until(lambda: fake.requests[0].closed_at)
    assert fake.requests[0].answered is False
    assert fake.open_connections == []


async def test_delays_delay_and_lose_nothing(fake: FakeUpstream) -> None:
    fake.answer(
        Script(
            pieces=[b"a", b"b"],
            delay_head_s=0.001,
            delay_body_s=0.001,
            delay_piece_s=0.001,
            keep_alive=False,
        )
    )
    assert (await everything(fake)).endswith(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")


async def test_requests_are_recorded_as_they_were_sent(fake: FakeUpstream) -> None:
    async with httpx.AsyncClient() as client:
        for content in (b"whole", _upload()):
            await client.post(f"{fake.url}/x?y=1", content=content, headers={"X-Two": "2"})
    whole, chunked = fake.requests
    assert (whole.method, whole.target, whole.path) == ("POST", "/v1/x?y=1", "/v1/x")
    assert (b"X-Two", b"2") in whole.headers
    assert whole.header("x-two") == "2"
    assert whole.header("x-three") is None
    assert (whole.body, chunked.body) == (b"whole", b"in pieces")
    assert whole.started_at <= whole.body_read_at <= chunked.started_at
    assert whole.connection_id == chunked.connection_id == 0
    await fake.until(lambda: whole.closed_at)


async def _upload() -> AsyncIterator[bytes]:
    yield b"in "
    yield b"pieces"


async def test_counted_replies_come_in_order_then_the_standing_one(fake: FakeUpstream) -> None:
    fake.answer(Script(status=204))
    fake.answer(Script(status=202), path="/v1/b")
    fake.answer(Script(status=500), times=2)
    fake.answer(Script(status=501), path="/v1/b", times=1)
    async with httpx.AsyncClient(base_url=fake.url) as client:
        statuses = [(await client.get(path)).status_code for path in ("a", "a", "a", "b", "b")]
    assert statuses == [500, 500, 204, 501, 202]


async def test_a_reply_may_look_at_the_request(fake: FakeUpstream) -> None:
    fake.answer(lambda received: Script(body=received.method.encode()))
    async with httpx.AsyncClient() as client:
        assert (await client.put(fake.url)).text == "PUT"


async def test_a_fault_of_a_reply_surfaces_when_the_fake_is_left() -> None:
    def wrong(_: Received) -> Script:
        raise ZeroDivisionError

    async def ask() -> None:
        async with FakeUpstream() as fake:
            fake.answer(wrong)
            assert await everything(fake) == b""

    with pytest.raises(ZeroDivisionError):
        await ask()


@pytest.mark.parametrize(
    "request_bytes", [b"nonsense\r\n\r\n", b"A / B\r\nContent-Length: x\r\n\r\n"]
)
async def test_what_is_not_http_gets_400(fake: FakeUpstream, request_bytes: bytes) -> None:
    assert (await everything(fake, request_bytes)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("reset", [False, True])
async def test_open_connections_can_be_dropped(fake: FakeUpstream, reset: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", fake.port)
    await fake.until(lambda: fake.connections)
    fake.drop_connections(reset=reset)
    if reset:
        with pytest.raises(ConnectionResetError):
            await reader.read()
    else:
        assert await reader.read() == b""
    assert fake.open_connections == []
    assert fake.connections[0].peer_closed_at is None
    writer.close()


async def test_waiting_in_vain_ends_with_a_timeout(fake: FakeUpstream) -> None:
    with pytest.raises(TimeoutError):
        await fake.until(lambda: fake.requests, timeout_s=0.01)


def test_it_serves_from_a_thread_and_tells_that_thread_what_it_saw() -> None:
    with FakeUpstream.in_thread() as fake, httpx.Client() as client:
        gate = Gate()
        fake.answer(Script(gate=gate, body=b"held"), times=1)
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(client.get, fake.url)
            fake.wait_for(lambda: fake.requests)
            assert not answer.done()
            gate.open()
            assert answer.result().content == b"held"
        fake.wait_for(lambda: fake.requests[0].answered)
        with pytest.raises(TimeoutError):
            fake.wait_for(lambda: len(fake.requests) == 2, timeout_s=0.01)


def test_unscripted_it_speaks_to_the_official_client() -> None:
    with (
        FakeUpstream.in_thread(key="sk-right") as fake,
        openai.OpenAI(base_url=fake.url, api_key="sk-right", max_retries=0) as client,
    ):
        assert [model.id for model in client.models.list()] == ["fake-1", "fake-2"]
        assert client.models.retrieve("fake-2").id == "fake-2"
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.models.retrieve("fake-3")
        chat = client.chat.completions.create(model="any", messages=QUESTION)
        assert chat.choices[0].message.content == QUESTION[0]["content"]
        assert chat.usage
        assert (chat.model, chat.usage.total_tokens) == ("any", 9)
        with client.chat.completions.create(
            model="any", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        ) as stream:
            chunks = list(stream)
        words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
        assert words == ["", "Good ", " ", "morning ", "to ", "you", None]
        assert chunks[-1].usage
        assert chunks[-1].usage.total_tokens == 9
        parts: Any = [{"role": "user", "content": [{"type": "text", "text": "in parts"}]}]
        chat = client.chat.completions.create(model="any", messages=parts)
        assert chat.choices[0].message.content == "in parts"


def test_unscripted_it_refuses_what_openai_would() -> None:
    with FakeUpstream.in_thread(key="sk-right") as fake:
        right = {"authorization": "Bearer sk-right"}
        chat = f"{fake.url}/chat/completions"
        assert httpx.get(f"{fake.url}/models").status_code == 401
        assert httpx.get(f"{fake.root_url}/models", headers=right).status_code == 404
        assert httpx.post(chat, content=b"{", headers=right).status_code == 400
        refused = httpx.post(chat, json={"messages": []}, headers=right)
        assert refused.json()["error"]["param"] == "messages"


def test_it_runs_as_a_program() -> None:
    program = Path(__file__).with_name("fake_upstream.py")
    with subprocess.Popen(
        [sys.executable, program, "--port", "0", "--key", "sk-k"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().split()[-1]
            assert httpx.get(f"{url}/models").status_code == 401
        finally:
            process.terminate()


def test_transcripts_are_what_openai_sends() -> None:
    events = transcripts.chat_stream(["Grüß", "e"], usage=transcripts.USAGE, role_first=False)
    assert "Grüß".encode() in events[0]
    assert events[-1] == transcripts.DONE
    usage = json.loads(events[-2].removeprefix(b"data: "))
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 8)
    thinking = transcripts.reasoning_stream(["hm"], ["yes"])
    assert b'"delta":{"reasoning_content":"hm"}' in thinking[1]
    call = transcripts.tool_stream("add", ['{"a":', "1}"])
    assert b'"finish_reason":"tool_calls"' in call[-2]
    message = json.loads(transcripts.tool_body("add", '{"a":1}'))["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a":1}'}
