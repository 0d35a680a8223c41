"""ChatGLM-style objects: their histories, their cumulative text, one at a time."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from local.calls import body, chat_call, deltas, events, text, until
from relay.local import Handed, as_backend
from relay.local.chatglm import differences
from relay.settings import Settings, SettingsError

SETTINGS = Settings(local_parallel=4)
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "two"},
]


class Tokenizer:
    def encode(self, text: str) -> list[int]:
        return list(text.encode())


class Second:
    """As ChatGLM2: pairs; keeps what it was asked, and says its texts."""

    def __init__(self, *texts: Any) -> None:
        self.texts = texts or ("Py", "Python")
        self.asked: list[Any] = []
        self.running = 0
        self.most = 0
        self.closed = threading.Event()

    def chat(self, tokenizer: Any, query: str, history: Any = None) -> Any:
        raise AssertionError("streaming can do all that it can, and be stopped")

    def stream_chat(
        self,
        tokenizer: Any,
        query: str,
        history: Any = None,
        max_length: int = 8192,
        do_sample: bool = True,
        top_p: float = 0.8,
        temperature: float = 0.8,
    ) -> Iterator[Any]:
        given = {"do_sample": do_sample, "top_p": top_p, "temperature": temperature}
        self.asked.append((tokenizer, query, list(history), given | {"max_length": max_length}))
        yield from self._say(query, history)

    def _say(self, query: str, history: Any) -> Iterator[Any]:
        self.running += 1
        self.most = max(self.most, self.running)
        said = ""
        try:
            while query == "for ever":
                said += "again "
                yield said, history
            for said in self.texts:
                yield said, [*history, (query, said)]
        finally:
            self.running -= 1
            self.closed.set()


class Third(Second):
    """As ChatGLM3: role dicts, which it adds to."""

    def stream_chat(  # type: ignore[override]  # so it is in that model
        self,
        tokenizer: Any,
        query: str,
        history: Any = None,
        role: str = "user",
        **kwargs: Any,
    ) -> Iterator[Any]:
        self.asked.append((tokenizer, query, [dict(turn) for turn in history], kwargs))
        history.append({"role": role, "content": query})
        yield from self._say(query, history)


async def test_history_is_pairs_with_the_system_prompt_in_front_of_every_query() -> None:
    model, tokenizer = Second(), Tokenizer()
    backend = as_backend(Handed(model, tokenizer), SETTINGS)
    answer = await body(backend, chat_call(messages=CONVERSATION))
    assert answer["choices"][0]["message"]["content"] == "Python"
    [(seen, query, history, _)] = model.asked
    assert seen is tokenizer
    assert query == "Be brief.\n\ntwo"
    assert history == [("Be brief.\n\none", "1")]


async def test_history_is_role_dicts_where_the_object_takes_a_role_and_the_callers_stays() -> None:
    model = Third()
    backend = as_backend(Handed(model, Tokenizer()), SETTINGS)
    call = chat_call(messages=[dict(message) for message in CONVERSATION])
    for _ in range(2):
        await body(backend, call)
    assert model.asked[0] == model.asked[1]
    _, query, history, _ = model.asked[0]
    assert query == "Be brief.\n\ntwo"
    assert history == [
        {"role": "user", "content": "Be brief.\n\none"},
        {"role": "assistant", "content": "1"},
    ]
    assert call.payload["messages"] == CONVERSATION


async def test_cumulative_text_comes_out_as_differences() -> None:
    backend = as_backend(Handed(Second("Py", "Pyth", "Pyth", "Python"), Tokenizer()), SETTINGS)
    chunks = await events(backend, chat_call(stream=True))
    contents = [delta["content"] for delta in deltas(chunks) if "content" in delta]
    assert contents == ["Py", "th", "on"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("texts", "pieces"),
    [
        ([], []),
        (["a", "ab"], ["a", "b"]),
        (["", "a"], ["a"]),
        (["a\ufffd", "aü"], ["a", "ü"]),
        (["a", "a\ufffd"], ["a", "\ufffd"]),
        (["你好,", "你好，", "你好，我"], ["你好,", "我"]),
        (["a ", "a", "a b"], ["a ", "b"]),
        (["in [[year]", "in 2023", "in 2023."], ["in [[year]", "2023", "."]),
    ],
)
def test_a_prefix_that_changes_repeats_and_loses_nothing_that_matters(
    texts: list[str], pieces: list[str]
) -> None:
    assert list(differences(texts)) == pieces


async def test_what_is_no_text_is_told_as_json_and_bare_texts_will_do() -> None:
    call = {"name": "weather", "parameters": {"city": "Kōln"}}
    backend = as_backend(Handed(Second(call), None), SETTINGS)
    answer = await body(backend, chat_call())
    said = answer["choices"][0]["message"]["content"]
    assert said == '{"name": "weather", "parameters": {"city": "Kōln"}}'

    class Plain(Second):
        def _say(self, query: str, history: Any) -> Iterator[Any]:
            yield from ("Py", "Python")

    answer = await body(as_backend(Handed(Plain(), None), SETTINGS), chat_call())
    assert answer["choices"][0]["message"]["content"] == "Python"


async def test_options_go_along_where_the_object_takes_them() -> None:
    second, third = Second(), Third()
    fields = {"temperature": 0.5, "top_p": 0.25, "max_length": 100, "user": "u"}
    for model in (second, third):
        await body(as_backend(Handed(model, Tokenizer()), SETTINGS), chat_call(**fields))
    expected = {"temperature": 0.5, "top_p": 0.25, "max_length": 100}
    assert second.asked[0][3] == expected | {"do_sample": True}
    assert third.asked[0][3] == expected
    await body(as_backend(Handed(second, Tokenizer()), SETTINGS), chat_call(temperature=0))
    assert second.asked[1][3] == {
        "do_sample": False,
        "temperature": 0.8,
        "top_p": 0.8,
        "max_length": 8192,
    }


async def test_tokens_are_counted_by_the_tokenizer() -> None:
    backend = as_backend(Handed(Second(), Tokenizer()), SETTINGS)
    usage = (await body(backend, chat_call("ü")))["usage"]
    assert usage == {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}


async def test_a_seed_is_torchs_where_torch_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(manual_seed=seeds.append))
    backend = as_backend(Handed(Second(), Tokenizer()), SETTINGS)
    await body(backend, chat_call(seed=7))
    await body(backend, chat_call())
    assert seeds == [7]


async def test_one_answer_at_a_time_and_leaving_closes_the_generator() -> None:
    model = Second()
    backend = as_backend(Handed(model, Tokenizer()), SETTINGS)
    task = asyncio.create_task(events(backend, chat_call("for ever", stream=True)))
    await until(lambda: model.running == 1)
    second = asyncio.create_task(body(backend, chat_call()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.closed.is_set()
    await second
    await asyncio.gather(*(events(backend, chat_call()) for _ in range(8)))
    assert model.most == 1


async def test_max_tokens_ends_it() -> None:
    model = Second()
    backend = as_backend(Handed(model, Tokenizer()), SETTINGS)
    chunks = await events(backend, chat_call("for ever", max_tokens=3, stream=True))
    assert text(chunks) == "again again again "
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert model.closed.is_set()


async def test_an_object_with_its_tokenizer_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Second()
    model.tokenizer = Tokenizer()  # type: ignore[attr-defined]  # where such objects may have it
    await body(as_backend(model, SETTINGS), chat_call())
    assert model.asked[0][0] is model.tokenizer  # type: ignore[attr-defined]  # as above


def test_what_is_no_chat_model_is_one_clear_sentence() -> None:
    with pytest.raises(SettingsError, match="a int with a Tokenizer is no chat model: it has nei"):
        Handed(7, Tokenizer())
