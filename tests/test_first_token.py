"""What counts as the first token of a stream, cut anywhere; how what was held is given on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anthropic_fake
import orjson
import pytest
import transcripts
from transcripts import DONE, chunk, event

from relay.errors import UpstreamProtocol, UpstreamStatus, UpstreamTimeout
from relay.first_token import MAX_HELD_BYTES, ByFirstToken, FirstToken
from relay.types import Answer, Backend, Call, Completion, RawHeaders

EVENTS = (b"content-type", b"Text/Event-Stream; charset=utf-8")
ROLE = chunk({"role": "assistant", "content": ""})
COMMENT = b": PROCESSING\n\n"


def delta(kind: str, **fields: str) -> bytes:
    told = {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **fields}}
    return anthropic_fake.event(told)


def choice(**fields: object) -> bytes:
    return event({"object": "text_completion", "choices": [{"index": 0, **fields}]})


SILENT = {
    "a comment": COMMENT,
    "a role": ROLE,
    "a role alone": chunk({"role": "assistant"}),
    "a role with all that is empty": chunk(
        {"role": "assistant", "name": "n", "content": "", "refusal": None, "tool_calls": []}
    ),
    "an empty delta": chunk({}),
    "no delta": choice(finish_reason=None, delta=None),
    "an empty text": choice(text="", finish_reason=None, logprobs=None),
    "an empty message beside the delta": choice(
        message={"role": "assistant", "content": ""}, delta={"content": ""}, finish_reason=None
    ),
    "no choices": event({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),
    "choices of another form": event({"choices": ["?"]}),
    "no data": b"data:\n\n",
    "message_start": anthropic_fake.message_stream(anthropic_fake.said("x"))[0],
    "ping": anthropic_fake.event({"type": "ping"}),
    "a block": anthropic_fake.message_stream(anthropic_fake.called("f", {}))[2],
    "an empty text_delta": delta("text_delta", text=""),
    "an empty input_json_delta": delta("input_json_delta", partial_json=""),
    "a response": anthropic_fake.event({"type": "response.created", "response": {"error": None}}),
    "an item": anthropic_fake.event({"type": "response.output_item.added", "item": {"id": "x"}}),
    "an empty delta of a response": event({"type": "response.output_text.delta", "delta": ""}),
    "keepalive": event({"type": "keepalive", "sequence_number": 3}),
}
COUNTING = {
    "content": chunk({"content": " "}),
    "content with the role": chunk({"role": "assistant", "content": "a"}),
    "reasoning_content": chunk({"content": None, "reasoning_content": "a"}),
    "reasoning": chunk({"content": "", "reasoning": "a"}),
    "a refusal": chunk({"refusal": "a"}),
    "a tool call": transcripts.tool_stream("f", ["{}"])[1],
    "the second choice": event({"choices": [{"delta": {}}, {"delta": {"content": "b"}}]}),
    "a finish_reason": chunk({}, finish_reason="stop"),
    "a text": choice(text="a"),
    "[DONE]": DONE,
    "text_delta": delta("text_delta", text="a"),
    "thinking_delta": delta("thinking_delta", thinking="a"),
    "input_json_delta": delta("input_json_delta", partial_json="{"),
    "a stop_reason": anthropic_fake.message_stream()[-2],
    "message_stop": anthropic_fake.event({"type": "message_stop"}),
    "a delta of a response": event({"type": "response.output_text.delta", "delta": "a"}),
    "a response's end": event({"type": "response.completed", "response": {}}),
    "an error": event({"error": {"message": "no"}}),
    "an error of a response": event({"type": "error", "code": None, "message": "no"}),
    "an error with choices": event({"error": {"code": 502}, "choices": [{"delta": {}}]}),
    "what is unknown": event({"type": "odd"}),
    "no object": b"data: 1\n\n",
    "no JSON": b"data: hello\n\n",
}
counting = pytest.mark.parametrize("token", COUNTING.values(), ids=COUNTING.keys())


@pytest.mark.parametrize("silent", SILENT.values(), ids=SILENT.keys())
def test_what_brings_nothing_is_not_the_first_token_wherever_it_is_cut(silent: bytes) -> None:
    for at in range(len(silent) + 1):
        first = FirstToken()
        assert not first.feed(silent[:at])
        assert not first.feed(silent[at:])


@counting
def test_what_brings_something_is_found_with_its_last_byte_wherever_it_is_cut(
    token: bytes,
) -> None:
    before = COMMENT + ROLE
    stream = before + token
    for at in range(len(stream)):
        first = FirstToken()
        assert not first.feed(stream[:at])
        assert first.feed(stream[at:])
        assert not first.error  # it is not the first of all
    first = FirstToken()
    assert [at for at in range(len(stream)) if first.feed(stream[at : at + 1])] == [len(stream) - 1]


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_lines_may_end_in_other_ways(end: bytes) -> None:
    first = FirstToken()
    assert not first.feed((COMMENT + ROLE).replace(b"\n", end))
    assert first.feed(COUNTING["content"].replace(b"\n", end))


def test_an_error_is_kept_when_it_is_the_first_event_with_data() -> None:
    error = event({"error": {"message": "no"}})
    for at in range(len(error)):
        first = FirstToken()
        assert not first.feed(COMMENT + b"data:\n\n" + error[:at])
        assert first.feed(error[at:] + COUNTING["content"])
        assert first.error == error[6:-2]


class Pieces:
    """An answer of those pieces, the last of which may be a failure; by an own way, or not."""

    status = 200

    def __init__(self, pieces: Sequence[bytes | Exception], headers: RawHeaders) -> None:
        self.headers = headers
        self.left = list(pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.left:
            piece = self.left.pop(0)
            if isinstance(piece, Exception):
                raise piece
            yield piece


class PouredPieces(Pieces):
    async def pour(self, sink: Callable[[bytes], Awaitable[None] | None]) -> bytes:
        while len(self.left) > 1:
            if (wait := sink(await anext(aiter(self)))) is not None:
                await wait
        return await anext(aiter(self), b"")


class Scripted:
    """A backend with one answer, which tells whether it is open."""

    name = "scripted"

    def __init__(self, answer: Pieces) -> None:
        self.answer = answer
        self.open = False

    async def complete(self, call: Call) -> Completion:
        return Completion(200, (), b"whole")

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        self.open = True
        try:
            yield self.answer
        finally:
            self.open = False

    async def aclose(self) -> None:
        return


def backend(*pieces: bytes | Exception, poured: bool = False, **headers: bytes) -> Scripted:
    pairs = [EVENTS, *((name.replace("_", "-").encode(), v) for name, v in headers.items())]
    return Scripted((PouredPieces if poured else Pieces)(pieces, pairs))


PIECES = (COMMENT, ROLE[:9], ROLE[9:], *transcripts.chat_stream(["a", "b"])[1:])


@pytest.mark.parametrize("poured", [False, True])
async def test_an_answer_is_the_same_whichever_way_it_is_read(poured: bool) -> None:
    async with ByFirstToken(backend(*PIECES, poured=poured)).stream(Call("x")) as answer:
        assert b"".join([piece async for piece in answer]) == b"".join(PIECES)
        assert [piece async for piece in answer] == []
    async with ByFirstToken(backend(*PIECES, poured=poured)).stream(Call("x")) as answer:
        got: list[bytes] = []
        got.append(await answer.pour(got.append))  # type: ignore[attr-defined]
        assert b"".join(got) == b"".join(PIECES)


@pytest.mark.parametrize("poured", [False, True])
async def test_nothing_is_poured_while_there_is_no_room(poured: bool) -> None:
    room = asyncio.Semaphore(0)
    got: list[bytes] = []

    async def wait() -> None:
        await room.acquire()

    def sink(piece: bytes) -> Awaitable[None]:
        got.append(piece)
        return wait()

    async with ByFirstToken(backend(*PIECES, poured=poured)).stream(Call("x")) as answer:
        pouring = asyncio.create_task(answer.pour(sink))  # type: ignore[attr-defined]
        for pieces in (1, 2, 3):
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(got) == pieces
            room.release()
        pouring.cancel()
        await asyncio.wait([pouring])
    assert got[0] == b"".join(PIECES[:4])


async def test_entering_reads_no_further_than_the_first_token() -> None:
    one = backend(*PIECES)
    async with ByFirstToken(one).stream(Call("x")):
        assert one.answer.left == list(PIECES[4:])
    assert not one.open


@pytest.mark.parametrize("poured", [False, True])
async def test_what_grows_too_long_has_begun(poured: bool) -> None:
    comments = [COMMENT * 1000] * 10
    one = backend(*comments, UpstreamTimeout("late"), poured=poured)
    async with ByFirstToken(one).stream(Call("x")) as answer:
        read = 10 - len(one.answer.left) + 1
        assert (read - 1) * 14_000 <= MAX_HELD_BYTES < read * 14_000
        got = []
        with pytest.raises(UpstreamTimeout):
            async for piece in answer:
                got.append(piece)
        assert b"".join(got) == b"".join(comments)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-type", b"application/json")],
        [],
        [EVENTS, (b"content-encoding", b"gzip")],
    ],
)
async def test_what_is_no_stream_of_plain_events_stays_as_it_is(headers: RawHeaders) -> None:
    inner = Pieces([b"{}"], headers)
    async with ByFirstToken(Scripted(inner)).stream(Call("x")) as answer:
        assert answer is inner
        assert inner.left == [b"{}"]


@pytest.mark.parametrize("pieces", [(), (COMMENT,), (COMMENT, ROLE), (ROLE[:-2],)])
async def test_an_end_without_a_token_is_a_failure(pieces: Sequence[bytes]) -> None:
    one = backend(*pieces)
    with pytest.raises(UpstreamProtocol, match="before its first token"):
        async with ByFirstToken(one).stream(Call("x")):
            pass
    assert not one.open


async def test_the_last_event_may_lack_its_blank_line() -> None:
    async with ByFirstToken(backend(ROLE, COUNTING["content"][:-2])).stream(Call("x")) as answer:
        assert [piece async for piece in answer] == [ROLE + COUNTING["content"][:-2]]


async def test_what_breaks_off_before_a_token_is_the_failure_that_it_is() -> None:
    late = UpstreamTimeout("late")
    one = backend(ROLE, late)
    with pytest.raises(UpstreamTimeout) as raised:
        async with ByFirstToken(one).stream(Call("x")):
            pass
    assert raised.value is late
    assert not one.open


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"message": "no"}, 500),
        ("no", 500),
        ({"message": "no", "type": "server_error", "code": None}, 500),
        ({"message": "no", "code": 502}, 502),
        ({"message": "no", "type": "requests", "code": "rate_limit_exceeded"}, 429),
        ({"message": "no", "type": "overloaded_error"}, 503),
        ({"message": "no", "type": "insufficient_quota", "code": "insufficient_quota"}, 429),
    ],
)
async def test_an_error_of_the_upstreams_that_comes_first_has_a_status(
    error: object, status: int
) -> None:
    told = transcripts.to_json({"type": "error", "error": error})
    one = backend(COMMENT, b"event: error\ndata: " + told + b"\n\n", retry_after=b"7")
    with pytest.raises(UpstreamStatus) as raised:
        async with ByFirstToken(one).stream(Call("x")):
            pass
    assert (raised.value.status, raised.value.body) == (status, told)
    assert raised.value.headers == [
        (b"content-type", b"application/json"),
        (b"retry-after", b"7"),
    ]
    assert not one.open


async def test_an_error_of_a_response_is_put_into_the_envelope() -> None:
    told = {"type": "error", "code": "rate_limit_exceeded", "message": "no"}
    with pytest.raises(UpstreamStatus) as raised:
        async with ByFirstToken(backend(event(told))).stream(Call("x")):
            pass
    assert raised.value.status == 429
    assert orjson.loads(raised.value.body) == {"error": told}


@pytest.mark.parametrize(
    "pieces",
    [
        [event({"error": {"message": "no", "type": "invalid_request_error"}})],
        [event({"error": {"message": "no", "code": 400}})],
        [ROLE, event({"error": {"message": "no"}})],
    ],
)
async def test_any_other_error_passes_as_it_is(pieces: Sequence[bytes]) -> None:
    async with ByFirstToken(backend(*pieces)).stream(Call("x")) as answer:
        assert b"".join([piece async for piece in answer]) == b"".join(pieces)


async def test_a_whole_answer_is_the_backends() -> None:
    one: Backend = ByFirstToken(backend())
    assert one.name == "scripted"
    assert (await one.complete(Call("x"))).body == b"whole"
