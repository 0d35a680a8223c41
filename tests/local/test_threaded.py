"""A model of one's own behind the backend: shape, limits, failures, cancellation."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from local.calls import body, chat_call, deltas, events, no_threads_left, text, until
from relay.errors import BackendError, InvalidRequest, NoUpstream, RouteNotFound
from relay.local import Prompt
from relay.local.threaded import ThreadedBackend


class Pieces:
    """Says the pieces it was made with, and keeps what it was asked."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.prompts: list[Prompt] = []
        self.said: list[str] = []

    def generate(self, prompt: Prompt) -> Iterator[str]:
        self.prompts.append(prompt)
        for piece in self.pieces:
            self.said.append(piece)
            yield piece


class Endless:
    """Never stops by itself; tells when it was closed."""

    def __init__(self, beginning: int = 1) -> None:
        self.closed = threading.Event()
        self.running = 0
        self.most = 0

    def generate(self, prompt: Prompt) -> Iterator[str]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            while True:
                yield "again "
        finally:
            self.running -= 1
            self.closed.set()


class Broken:
    def __init__(self, after: int) -> None:
        self.after = after

    def generate(self, prompt: Prompt) -> Iterator[str]:
        for _ in range(self.after):
            yield "fine "
        raise RuntimeError("quotes the prompt")


def backend_of(*pieces: str) -> ThreadedBackend:
    return ThreadedBackend(Pieces(*pieces), parallel=2)


async def test_a_stream_has_role_then_content_then_the_reason():
    chunks = await events(backend_of("Py", "", "thon ü"), chat_call(stream=True))
    assert deltas(chunks) == [{"role": "assistant"}, {"content": "Py"}, {"content": "thon ü"}, {}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert {chunk["model"] for chunk in chunks} == {"asked"}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)


async def test_the_wire_is_compact_and_not_escaped():
    async with backend_of("ü").stream(chat_call()) as answer:
        raw = [event async for event in answer]
    assert raw[1].endswith(
        '"choices":[{"index":0,"delta":{"content":"ü"},"finish_reason":null}]}\n\n'.encode()
    )


async def test_usage_is_a_last_chunk_when_asked_for_and_always_in_a_body():
    backend = backend_of("a", "b")
    options = {"include_usage": True}
    chunks = await events(backend, chat_call("one two three", stream_options=options))
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == usage
    assert (await body(backend, chat_call("one two three")))["usage"] == usage


async def test_a_model_that_can_count_is_asked():
    class Counting(Pieces):
        def count_tokens(self, text: str) -> int:
            return len(text)

    answer = await body(ThreadedBackend(Counting("ab", "c"), parallel=1), chat_call("12345"))
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


@pytest.mark.parametrize(
    ("fields", "said", "reason"),
    [
        ({"max_tokens": 2}, "a b", "length"),
        ({"max_completion_tokens": 1}, "a", "length"),
        ({"max_tokens": 3, "max_completion_tokens": 2}, "a b", "length"),
        ({"max_length": 5}, "a b", "length"),
        ({"max_tokens": 50}, "a b c", "stop"),
        ({"stop": " b"}, "a", "stop"),
        ({"stop": ["zz", "b c"]}, "a ", "stop"),
        ({"stop": []}, "a b c", "stop"),
        ({"stop": " cd"}, "a b c", "stop"),
        ({"max_tokens": 2, "stop": " bc"}, "a b", "length"),
    ],
)
async def test_limits_and_stop_strings_are_kept_and_the_reason_is_true(
    fields: dict[str, object], said: str, reason: str
) -> None:
    model = Pieces("a", " b", " c")
    backend = ThreadedBackend(model, parallel=1)
    chunks = await events(backend, chat_call("one two three", **fields))
    assert text(chunks) == said
    assert chunks[-1]["choices"][0]["finish_reason"] == reason
    answer = await body(backend, chat_call("one two three", **fields))
    assert answer["choices"][0]["message"]["content"] == said
    assert answer["choices"][0]["finish_reason"] == reason


async def test_a_prompt_as_long_as_max_length_is_refused():
    with pytest.raises(InvalidRequest) as refused:
        await backend_of("a").complete(chat_call("one two three", max_length=3))
    assert refused.value.param == "max_length"
    assert refused.value.code == "context_length_exceeded"


async def test_several_answers_come_one_after_the_other():
    answer = await body(backend_of("a", "b"), chat_call("x", n=3))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] == 6


async def test_the_model_gets_the_conversation_in_both_forms():
    model = Pieces("ok")
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
    ]
    call = chat_call(messages=messages, temperature=0.5, own_option=[1])
    await ThreadedBackend(model, parallel=1).complete(call)
    [prompt] = model.prompts
    assert prompt.messages == messages
    assert prompt.query == "Be brief.\n\ntwo"
    assert prompt.history == [("Be brief.\n\none", "1")]
    assert prompt.options == {"model": "asked", "temperature": 0.5, "own_option": [1]}


@pytest.mark.parametrize("way", ["complete", "stream"])
@pytest.mark.parametrize(
    ("call", "error", "param"),
    [
        (chat_call(path="embeddings"), RouteNotFound, None),
        (chat_call(messages=[]), InvalidRequest, "messages"),
        (chat_call(temperature=3), InvalidRequest, "temperature"),
    ],
)
async def test_a_wrong_call_is_refused_before_the_model_sees_it(
    way: str, call: object, error: type[Exception], param: str | None
) -> None:
    model = Pieces("a")
    backend = ThreadedBackend(model, parallel=1)
    with pytest.raises(error) as refused:
        await (backend.complete(call) if way == "complete" else events(backend, call))  # type: ignore[arg-type]  # parametrized
    assert getattr(refused.value, "param", None) == param
    assert model.prompts == []


async def test_a_failure_before_the_first_piece_is_an_error_before_the_answer():
    with pytest.raises(BackendError) as failed:
        async with ThreadedBackend(Broken(0), parallel=1).stream(chat_call()):
            raise AssertionError("an answer has begun")
    assert failed.value.code == "local_model_failed"


async def test_a_piece_that_is_no_text_is_told_by_the_models_name() -> None:
    class Counter:
        def generate(self, prompt: Prompt) -> Iterator[Any]:
            yield 5

    with pytest.raises(BackendError, match=r"'counter' yielded int: .* str or ToolCall"):
        async with ThreadedBackend(Counter(), parallel=1).stream(chat_call()):
            raise AssertionError("an answer has begun")


async def test_a_failure_in_the_middle_comes_out_of_the_answer():
    received = []
    async with ThreadedBackend(Broken(2), parallel=1).stream(chat_call()) as answer:
        with pytest.raises(BackendError, match="failed"):
            async for event in answer:
                received.append(event)
    assert len(received) == 3
    assert b"[DONE]" not in b"".join(received)


async def test_leaving_closes_the_generator():
    model = Endless()
    async with ThreadedBackend(model, parallel=1).stream(chat_call()) as answer:
        async for _ in answer:
            break
        assert not model.closed.is_set()
    assert model.closed.is_set()
    assert no_threads_left()


@pytest.mark.parametrize("way", ["complete", "stream"])
async def test_cancelling_closes_the_generator_and_frees_the_place(way: str) -> None:
    model = Endless()
    backend = ThreadedBackend(model, parallel=1)
    ask = backend.complete(chat_call()) if way == "complete" else events(backend, chat_call())
    task = asyncio.create_task(ask)
    await until(lambda: model.running == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.closed.is_set()
    assert (await body(backend, chat_call(max_tokens=1)))["usage"]["completion_tokens"] == 1


async def test_no_more_are_generated_at_once_than_allowed():
    model = Endless()
    backend = ThreadedBackend(model, parallel=3)
    await asyncio.gather(*(backend.complete(chat_call(max_tokens=200)) for _ in range(12)))
    assert 1 <= model.most <= 3
    assert model.running == 0


async def test_a_model_may_say_how_many_it_can_do_at_once():
    class Alone(Endless):
        parallel = 1

    model = Alone()
    backend = ThreadedBackend(model, parallel=3)
    await asyncio.gather(*(backend.complete(chat_call(max_tokens=200)) for _ in range(6)))
    assert model.most == 1


async def test_closing_the_backend_ends_its_answers_and_none_looks_whole():
    model = Endless()
    backend = ThreadedBackend(model, parallel=1)
    task = asyncio.create_task(backend.complete(chat_call()))
    await until(lambda: model.running == 1)
    await backend.aclose()
    assert model.closed.is_set()
    with pytest.raises(NoUpstream):
        await task
    assert no_threads_left()


async def test_any_iterator_will_do():
    class Listed:
        name = "listed"

        def generate(self, prompt: Prompt) -> Iterator[str]:
            return iter(["a", "b"])

    backend = ThreadedBackend(Listed(), parallel=1)
    backend.start()
    assert backend.state() == "ready"
    answer = await body(backend, chat_call(max_tokens=1))
    assert answer["choices"][0]["message"]["content"] == "a"
    [card] = backend.cards()
    assert (card.id, card.owned_by) == ("listed", "relay")
