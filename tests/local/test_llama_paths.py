"""What the small model answers beside chats: completions and embeddings."""

import base64
import json
import re
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest

from local.calls import body, chat_call
from relay.errors import InvalidRequest, RouteNotFound
from relay.local import LocalBackend, open_local, open_locals
from relay.settings import Settings
from relay.types import Call


def call(path: str, **fields: Any) -> Call:
    return Call(path=path, body=json.dumps({"model": "asked", **fields}).encode())


async def completed(backend: LocalBackend, **fields: Any) -> dict[str, Any]:
    return await body(backend, call("completions", **fields))


async def embedded(backend: LocalBackend, **fields: Any) -> dict[str, Any]:
    return await body(backend, call("embeddings", **fields))


async def pieces(backend: LocalBackend, asked: Call) -> list[bytes]:
    async with backend.stream(asked) as answer:
        return [piece async for piece in answer]


async def test_a_prompt_is_continued(smollm2: LocalBackend) -> None:
    answer = await completed(smollm2, prompt="One, two,", max_tokens=3)
    assert (answer["object"], answer["model"]) == ("text_completion", "asked")
    [choice] = answer["choices"]
    assert choice["text"]
    assert (choice["index"], choice["logprobs"], choice["finish_reason"]) == (0, None, "length")
    assert answer["usage"]["completion_tokens"] == 3


async def test_several_prompts_are_continued_several_times_in_order(smollm2: LocalBackend) -> None:
    answer = await completed(smollm2, prompt=["One", "Two"], n=3, max_tokens=2, echo=True)
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    begun = [choice["text"][:3] for choice in answer["choices"]]
    assert begun == ["One"] * 3 + ["Two"] * 3
    assert answer["usage"]["completion_tokens"] == 12
    assert answer["usage"]["prompt_tokens"] == 2


async def test_tokens_are_continued_like_text(smollm2: LocalBackend) -> None:
    answer = await completed(smollm2, prompt=[[1, 2, 3], [4]], max_tokens=1)
    assert answer["usage"]["prompt_tokens"] == 4
    assert len((await completed(smollm2, prompt=[1, 2], max_tokens=1))["choices"]) == 1


async def test_logprobs_come_in_the_old_form(smollm2: LocalBackend) -> None:
    answer = await completed(smollm2, prompt="One", max_tokens=3, logprobs=2)
    [choice] = answer["choices"]
    said = choice["logprobs"]
    assert "".join(said["tokens"]) == choice["text"]
    assert [len(top) for top in said["top_logprobs"]] == [2, 2, 2]
    assert said["text_offset"][0] == 0
    assert sorted(said["text_offset"]) == said["text_offset"]
    assert len(said["token_logprobs"]) == 3


async def test_a_streamed_completion_ends_with_its_usage_and_done(smollm2: LocalBackend) -> None:
    options = {"include_usage": True}
    asked = call("completions", prompt="One", max_tokens=3, stream=True, stream_options=options)
    *events, done = await pieces(smollm2, asked)
    assert done == b"data: [DONE]\n\n"
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_one_that_is_not_streamed_is_one_body_for_who_passes_it_on(
    smollm2: LocalBackend,
) -> None:
    [piece] = await pieces(smollm2, call("completions?x=1", prompt="One", max_tokens=1))
    assert json.loads(piece)["object"] == "text_completion"


async def test_several_texts_are_embedded_in_order_and_all_counted(smollm2: LocalBackend) -> None:
    texts = ["one", "two three", "one"]
    answer = await embedded(smollm2, input=texts)
    assert [one["index"] for one in answer["data"]] == [0, 1, 2]
    first, second, third = (one["embedding"] for one in answer["data"])
    assert len(first) == len(second) == 576
    assert first == pytest.approx(third, abs=1e-3)
    assert first != pytest.approx(second, abs=1e-3)
    assert answer["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
async def test_nothing_is_kept_of_what_was_embedded(smollm2: LocalBackend) -> None:
    def held_kb() -> int:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(re.findall(r"RssAnon:\s*(\d+) kB", status)[0])

    await embedded(smollm2, input="one " * 200)
    before = held_kb()
    for number in range(8):
        await embedded(smollm2, input=f"{number} " * 100)
    assert held_kb() - before < 10_000  # of each text the engine would keep 4 MB


async def test_base64_holds_the_same_numbers(smollm2: LocalBackend) -> None:
    plain = (await embedded(smollm2, input="one"))["data"][0]["embedding"]
    packed = (await embedded(smollm2, input="one", encoding_format="base64"))["data"][0]
    assert list(array("f", base64.b64decode(packed["embedding"]))) == pytest.approx(plain, abs=1e-3)


async def test_tokens_are_embedded_like_text(smollm2: LocalBackend) -> None:
    answer = await embedded(smollm2, input=[[1, 2], [3]])
    assert len(answer["data"]) == 2
    assert answer["usage"]["prompt_tokens"] == 3
    assert len((await embedded(smollm2, input=[1, 2]))["data"]) == 1


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("embeddings", {"input": "a", "dimensions": 64}, "dimensions"),
        ("embeddings", {"input": []}, "input"),
        ("embeddings", {"input": ["a", ""]}, "input"),
        ("embeddings", {"input": ["a"] * 2049}, "input"),
        ("embeddings", {"input": {"a": 1}}, "input"),
        ("embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ("embeddings", {"input": "word " * 1100}, "input"),
        ("embeddings", {"input": [10**9]}, "input"),
        ("completions", {"prompt": ""}, "prompt"),
        ("completions", {"prompt": "a", "suffix": "b"}, "suffix"),
        ("completions", {"prompt": "a", "best_of": 2}, "best_of"),
        ("completions", {"prompt": "a", "echo": True, "logprobs": 1}, "echo"),
        ("completions", {"prompt": [1], "echo": True}, "echo"),
        ("completions", {"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ("completions", {"prompt": "word " * 1100}, "prompt"),
    ],
)
async def test_what_cannot_be_done_is_400_and_names_the_field(
    smollm2: LocalBackend, path: str, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await pieces(smollm2, call(path, **fields))
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize("path", ["completions", "embeddings"])
async def test_a_body_that_is_no_json_is_400(smollm2: LocalBackend, path: str) -> None:
    for raw in (b"{", b"[1]"):
        with pytest.raises(InvalidRequest):
            await pieces(smollm2, Call(path=path, body=raw))


async def test_a_model_for_embeddings_answers_nothing_else() -> None:
    settings = Settings(local_context_tokens=128, local_parallel=1, local_threads=1)
    backend = open_local("smollm2", settings, options={"embeddings_only": True})
    backend.start()
    assert len((await embedded(backend, input="one"))["data"]) == 1
    for asked in (call("completions", prompt="a"), chat_call()):
        with pytest.raises(RouteNotFound):
            await backend.complete(asked)
    await backend.aclose()


async def test_two_files_take_turns_where_memory_is_for_one() -> None:
    models = [{"id": name, "backend": "smollm2"} for name in ("one", "two")]
    settings = Settings.model_validate(
        {
            "local_models": models,
            "local_memory_mb": 300,
            "local_context_tokens": 128,
            "local_parallel": 1,
            "local_threads": 1,
        }
    )
    backend = open_locals(settings)

    def loaded() -> list[str]:
        cards = [card.model_dump() for card in backend.cards()]
        return [card["id"] for card in cards if card["status"]["value"] == "loaded"]

    for name in ("one", "two", "one"):
        answer = await body(backend, chat_call(model=name, max_tokens=1))
        assert answer["usage"]["completion_tokens"] == 1
        assert loaded() == [name]
    await backend.aclose()
