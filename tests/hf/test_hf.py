"""A real folder of transformers behind the backend: shape, limits, batches, cancellation."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from local.calls import body, chat_call, deltas, events, no_threads_left, text, until

from hf.folders import CONTEXT_TOKENS, END, NO_SYSTEM, TEMPLATE, make_model, make_tokenizer, save
from relay.errors import BackendError, InvalidRequest, NoUpstream, Overloaded, RouteNotFound
from relay.local import LocalBackend, open_local
from relay.local.hf import HfBackend, HfOptions
from relay.settings import Settings, SettingsError

PROMPT_TOKENS = len("<user>one two three") - len("<user>") + 2
"""The bytes of the question, and who speaks, twice."""


@pytest.fixture
async def backend(tiny: Path) -> AsyncIterator[LocalBackend]:
    opened = open_local(f"transformers:{tiny}", Settings(local_parallel=4, local_threads=1))
    yield opened
    await opened.aclose()


class Watched:
    """The model, with a look at each of its steps; `hold` makes it wait in the middle of one."""

    def __init__(self) -> None:
        self.model = make_model()
        self.rows: list[int] = []
        self.going_on = threading.Event()
        self.going_on.set()
        self.layers: list[int] = []
        for number, layer in enumerate(self.model.model.layers):
            layer.register_forward_hook(self._ran(number))
        self.model.register_forward_pre_hook(self._look, with_kwargs=True)

    def _ran(self, number: int) -> Callable[..., None]:
        def ran(*_: Any) -> None:
            self.layers.append(number)
            self.going_on.wait(30)

        return ran

    def _look(self, _: Any, __: Any, given: dict[str, Any]) -> None:
        self.rows.append(given["input_ids"].shape[0])


def around(watched: Watched, *, parallel: int = 4) -> HfBackend:
    options = HfOptions(context_tokens=4096, parallel=parallel)
    tokenizer = make_tokenizer(TEMPLATE)
    return HfBackend(watched.model, tokenizer, name="tiny", options=options)


async def test_a_stream_and_a_body_say_the_same_with_true_counts(backend: LocalBackend) -> None:
    fields = {"max_tokens": 12, "temperature": 0}
    options = {"include_usage": True}
    chunks = await events(backend, chat_call(stream=True, stream_options=options, **fields))
    answer = await body(backend, chat_call(**fields))
    assert deltas(chunks)[0] == {"role": "assistant"}
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert text(chunks) == answer["choices"][0]["message"]["content"]
    usage = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": 12,
        "total_tokens": PROMPT_TOKENS + 12,
    }
    assert chunks[-1]["usage"] == answer["usage"] == usage
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_it_answers_under_the_folders_name(backend: LocalBackend) -> None:
    assert backend.state() == "loading"
    backend.start()
    await until(lambda: backend.state() == "ready")
    assert [card.id for card in backend.cards()] == ["tiny"]


async def test_a_seed_gives_the_same_answer_whatever_else_is_asked(backend: LocalBackend) -> None:
    call = chat_call(seed=7, max_tokens=20)
    alone = await body(backend, call)
    others = [body(backend, chat_call(max_tokens=30)) for _ in range(6)]
    together, *_ = await asyncio.gather(body(backend, call), *others)
    other = await body(backend, chat_call(seed=8, max_tokens=20))
    assert together["choices"] == alone["choices"]
    assert other["choices"] != alone["choices"]


async def test_temperature_zero_needs_no_seed(backend: LocalBackend) -> None:
    call = chat_call(temperature=0, max_tokens=20)
    assert (await body(backend, call))["choices"] == (await body(backend, call))["choices"]


async def test_several_answers_are_one_batch_and_differ(backend: LocalBackend) -> None:
    chunks = await events(backend, chat_call(n=3, seed=1, max_tokens=9, stream=True))
    assert len({text(chunks, index) for index in range(3)}) == 3
    answer = await body(backend, chat_call(n=3, seed=1, max_tokens=9))
    said = [choice["message"]["content"] for choice in answer["choices"]]
    assert said == [text(chunks, index) for index in range(3)]
    assert answer["usage"]["completion_tokens"] == 27


async def test_requests_that_wait_together_are_computed_together_each_by_its_own_rules() -> None:
    watched = Watched()
    backend = around(watched)
    watched.going_on.clear()
    first = asyncio.create_task(body(backend, chat_call(max_tokens=2, temperature=0)))
    await until(lambda: bool(watched.rows))
    others = [
        asyncio.create_task(body(backend, chat_call(question, max_tokens=length, temperature=0)))
        for question, length in (("a", 3), ("longer than that", 7), ("b", 5))
    ]
    await until(lambda: len(backend._batcher._waiting) == 3)
    watched.going_on.set()
    answers = await asyncio.gather(first, *others)
    assert [one["usage"]["completion_tokens"] for one in answers] == [2, 3, 7, 5]
    assert watched.rows == [1, 1, *[3] * 7]
    alone = await body(backend, chat_call("longer than that", max_tokens=7, temperature=0))
    assert alone["choices"] == answers[2]["choices"]
    await backend.aclose()


async def test_stop_strings_end_an_answer_and_are_not_told(backend: LocalBackend) -> None:
    fields = {"temperature": 0, "max_tokens": 30}
    whole = (await body(backend, chat_call(**fields)))["choices"][0]["message"]["content"]
    stop = next(a + b for a, b in pairwise(whole[3:]) if "\ufffd" not in a + b)
    answer = await body(backend, chat_call(stop=["never", stop], **fields))
    assert answer["choices"][0]["message"]["content"] == whole[: whole.index(stop)]
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_the_end_token_ends_an_answer_and_biases_are_kept_to(backend: LocalBackend) -> None:
    tokenizer = make_tokenizer(TEMPLATE)
    end, letter = tokenizer.convert_tokens_to_ids(END), tokenizer.convert_tokens_to_ids("x")
    answer = await body(backend, chat_call(logit_bias={str(end): 100}))
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["message"]["content"] == ""
    assert answer["usage"]["completion_tokens"] == 1
    answer = await body(backend, chat_call(logit_bias={str(letter): 100}, max_tokens=4))
    assert answer["choices"][0]["message"]["content"] == "xxxx"


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
async def test_penalties_keep_it_from_saying_one_thing_for_ever(
    backend: LocalBackend, penalty: str
) -> None:
    letter = make_tokenizer(TEMPLATE).convert_tokens_to_ids("x")
    # Just so likely that it is said for ever, unless that is punished.
    fields = {"temperature": 0, "max_tokens": 12, "logit_bias": {str(letter): 1.5}}
    plain = await body(backend, chat_call(**fields))
    punished = await body(backend, chat_call(**fields, **{penalty: 2}))
    assert plain["choices"][0]["message"]["content"] == "x" * 12
    assert punished["choices"][0]["message"]["content"].count("x") < 12


@pytest.mark.parametrize("cut", [{"top_p": 0.0}, {"top_k": 1}])
async def test_cuts_leave_the_likeliest(backend: LocalBackend, cut: dict[str, Any]) -> None:
    greedy = await body(backend, chat_call(temperature=0, max_tokens=12))
    chosen = await body(backend, chat_call(temperature=1, max_tokens=12, **cut))
    assert chosen["choices"] == greedy["choices"]


async def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(
    backend: LocalBackend,
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await body(backend, chat_call("x" * CONTEXT_TOKENS))
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "messages"
    assert f"has {CONTEXT_TOKENS + 2} tokens" in refused.value.message
    assert f"is {CONTEXT_TOKENS} tokens" in refused.value.message
    answer = await body(backend, chat_call("x" * (CONTEXT_TOKENS - 7), temperature=0))
    assert answer["usage"]["total_tokens"] == CONTEXT_TOKENS
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_max_length_counts_the_prompt(backend: LocalBackend) -> None:
    answer = await body(backend, chat_call(max_length=PROMPT_TOKENS + 3, temperature=0))
    assert answer["usage"]["completion_tokens"] == 3
    with pytest.raises(InvalidRequest, match="leaves nothing of 'max_length'"):
        await body(backend, chat_call(max_length=PROMPT_TOKENS))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 5}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"logit_bias": {"9999": 1}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
async def test_what_it_cannot_keep_to_is_refused(
    backend: LocalBackend, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await body(backend, chat_call(**fields))
    assert refused.value.param == param


async def test_other_paths_are_not_served(backend: LocalBackend) -> None:
    with pytest.raises(RouteNotFound):
        await backend.complete(chat_call(path="embeddings"))


async def test_parts_and_tools_reach_the_template(backend: LocalBackend) -> None:
    parts = [{"type": "text", "text": "one two "}, {"type": "text", "text": "three"}]
    messages = [{"role": "user", "content": parts}]
    answer = await body(backend, chat_call(messages=messages, max_tokens=1))
    assert answer["usage"]["prompt_tokens"] == PROMPT_TOKENS
    tools = [{"type": "function", "function": {"name": "f"}}]
    answer = await body(backend, chat_call(messages=messages, max_tokens=1, tools=tools))
    assert answer["usage"]["prompt_tokens"] > PROMPT_TOKENS


async def test_a_template_without_a_system_role_gets_the_prompt_in_every_query(
    tmp_path: Path,
) -> None:
    folder = save(tmp_path / "strict", template=NO_SYSTEM + TEMPLATE)
    backend = open_local(f"transformers:{folder}", Settings())
    messages = [{"role": "system", "content": "Be"}, {"role": "user", "content": "a"}]
    answer = await body(backend, chat_call(messages=messages, max_tokens=1))
    assert answer["usage"]["prompt_tokens"] == len("Be\n\na") + 2
    await backend.aclose()


async def test_what_a_template_refuses_altogether_is_a_bad_request(tmp_path: Path) -> None:
    template = "{{ raise_exception('never\nat all') }}"
    backend = open_local(f"transformers:{save(tmp_path / 'no', template=template)}", Settings())
    with pytest.raises(InvalidRequest, match=r"cannot take these messages: never$") as refused:
        await body(backend, chat_call())
    assert refused.value.param == "messages"
    await backend.aclose()


@pytest.mark.parametrize("way", ["complete", "stream"])
async def test_who_leaves_in_the_middle_of_a_prompt_ends_the_work_between_two_layers(
    way: str,
) -> None:
    watched = Watched()
    backend = around(watched, parallel=1)
    watched.going_on.clear()
    call = chat_call(max_tokens=100)
    ask = backend.complete(call) if way == "complete" else events(backend, call)
    task = asyncio.create_task(ask)
    await until(lambda: watched.layers == [0])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    watched.going_on.set()
    answer = await body(backend, chat_call(max_tokens=1, temperature=0))
    assert answer["usage"]["completion_tokens"] == 1
    assert watched.layers == [0, 0, 1], "the first prompt came no further than its first layer"
    await backend.aclose()
    assert no_threads_left("relay-batch")


async def test_who_leaves_a_batch_lets_the_others_go_on() -> None:
    watched = Watched()
    backend = around(watched)
    fields = {"temperature": 0}  # a chance answer may end early

    async def leave() -> None:
        async with backend.stream(chat_call(max_tokens=200, stream=True, **fields)) as answer:
            async for _ in answer:
                break

    watched.going_on.clear()
    first = asyncio.create_task(body(backend, chat_call(max_tokens=1, **fields)))
    await until(lambda: bool(watched.rows))
    leaving = asyncio.create_task(leave())
    staying = asyncio.create_task(body(backend, chat_call(max_tokens=30, **fields)))
    await until(lambda: len(backend._batcher._waiting) == 2)
    watched.going_on.set()
    await asyncio.gather(first, leaving)
    assert (await staying)["usage"]["completion_tokens"] == 30
    assert watched.rows == [1, *[2] * 30], "both were in one batch, which ended with its last"
    await backend.aclose()
    assert no_threads_left("relay-local")
    assert no_threads_left("relay-batch")


async def test_who_waits_for_a_batch_may_leave_and_too_many_are_sent_away() -> None:
    watched = Watched()
    backend = around(watched, parallel=2)
    watched.going_on.clear()
    running = asyncio.create_task(body(backend, chat_call(max_tokens=2, temperature=0)))
    await until(lambda: bool(watched.rows))
    waiting = asyncio.create_task(body(backend, chat_call(max_tokens=2)))
    await until(lambda: len(backend._batcher._waiting) == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    line = [asyncio.create_task(body(backend, chat_call(max_tokens=1))) for _ in range(101)]
    await until(lambda: len(backend._turns._line) == 100)
    with pytest.raises(Overloaded):
        await body(backend, chat_call())
    watched.going_on.set()
    await asyncio.gather(running, *line)
    assert sum(watched.rows[:2]) == 2, "nothing was computed for the one that left"
    await backend.aclose()


async def test_an_engine_that_fails_is_an_error_of_every_answer_in_the_batch() -> None:
    watched = Watched()
    backend = around(watched)

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    hook = watched.model.model.layers[1].register_forward_hook(fail)
    with pytest.raises(BackendError) as failed:
        await body(backend, chat_call())
    assert failed.value.code == "local_model_failed"
    hook.remove()
    assert (await body(backend, chat_call(max_tokens=1)))["choices"]
    await backend.aclose()


async def test_the_model_stays_its_owners() -> None:
    """A program that has handed it over may go on using it."""
    watched = Watched()
    backend = around(watched)
    await body(backend, chat_call(max_tokens=1))
    await until(lambda: not backend._batcher._running)
    with torch.inference_mode():
        assert watched.model(input_ids=torch.tensor([[1, 2]])).logits.shape[:2] == (1, 2)


async def test_a_folder_without_a_template_is_one_clear_sentence(tmp_path: Path) -> None:
    backend = open_local(f"transformers:{save(tmp_path / 'base', template=None)}", Settings())
    with pytest.raises(NoUpstream, match="The model base has no chat template, so it is no chat"):
        await body(backend, chat_call())
    assert backend.state().startswith("The model base has no chat template")
    await backend.aclose()


def test_a_folder_without_a_model_is_one_clear_sentence(tmp_path: Path) -> None:
    for kind in ("transformers", "chatglm"):
        with pytest.raises(SettingsError, match=rf"^RELAY_LOCAL: there is no model in {tmp_path}"):
            open_local(f"{kind}:{tmp_path}", Settings())


async def test_a_broken_folder_is_one_clear_sentence(tmp_path: Path) -> None:
    folder = save(tmp_path / "broken")
    next(folder.glob("*.safetensors")).write_bytes(b"no weights")
    backend = open_local(f"transformers:{folder}", Settings())
    with pytest.raises(NoUpstream, match=r"broken could not be loaded \(\w+\); the relay's log"):
        await body(backend, chat_call())
    await backend.aclose()
    with pytest.raises(NoUpstream):
        await body(backend, chat_call())
