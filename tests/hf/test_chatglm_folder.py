"""A real folder with chat code of its own, and models that a program has in hand."""

import asyncio
from pathlib import Path

import httpx
import pytest
from local.calls import body, chat_call, events, text
from running import ROOT, StartRelay, chat, program

from hf.folders import CHAT_CODE, TEMPLATE, make_model, make_tokenizer, save_chat
from relay.errors import NoUpstream
from relay.local import Handed, as_backend, open_local
from relay.settings import Settings


async def test_it_answers_plain_and_streamed(tiny_chat: Path) -> None:
    backend = open_local(f"chatglm:{tiny_chat}", Settings())
    chunks = await events(backend, chat_call(max_tokens=8, stream=True))
    answer = await body(backend, chat_call(max_tokens=8))
    assert text(chunks) == answer["choices"][0]["message"]["content"] != ""
    assert answer["usage"]["prompt_tokens"] == len("one two three")
    assert [card.id for card in backend.cards()] == ["tiny-chat"]
    await backend.aclose()


async def test_max_length_reaches_the_code_of_the_folder(tiny_chat: Path) -> None:
    backend = open_local(f"chatglm:{tiny_chat}", Settings())
    answer = await body(backend, chat_call(max_length=15 + 4))
    assert answer["choices"][0]["finish_reason"] == "stop"
    await backend.aclose()


async def test_many_ask_and_some_leave(tiny_chat: Path) -> None:
    backend = open_local(f"chatglm:{tiny_chat}", Settings(local_parallel=4))
    tasks = [asyncio.create_task(body(backend, chat_call(max_tokens=6))) for _ in range(9)]
    await tasks[0]
    for task in tasks[1::2]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    answers = [one["choices"] for one in done if isinstance(one, dict)]
    assert len(answers) >= 5
    assert all(one == answers[0] for one in answers)
    await backend.aclose()


async def test_a_folder_whose_code_cannot_chat_is_one_clear_sentence(tmp_path: Path) -> None:
    folder = save_chat(tmp_path / "mute", code=CHAT_CODE.replace("def stream_chat", "def other"))
    backend = open_local(f"chatglm:{folder}", Settings())
    with pytest.raises(NoUpstream, match="name it as transformers:DIR"):
        await body(backend, chat_call())
    await backend.aclose()


async def test_a_model_in_hand_is_asked_through_its_template() -> None:
    settings = Settings(local_parallel=2)
    backend = as_backend(Handed(make_model(), make_tokenizer(TEMPLATE)), settings)
    answer = await body(backend, chat_call(max_tokens=3, temperature=0))
    assert answer["usage"]["completion_tokens"] == 3
    assert [card.id for card in backend.cards()] == ["glmforcausallm"]
    await backend.aclose()


def test_the_example_serves_a_folder(tmp_path: Path, tiny_chat: Path) -> None:
    script = str(ROOT / "examples" / "chatglm_server.py")
    with program(tmp_path, script, str(tiny_chat)) as root:
        asked = chat("Hello", max_tokens=5)
        answer = httpx.post(f"{root}/v1/chat/completions", json=asked, trust_env=False, timeout=60)
        assert answer.json()["choices"][0]["finish_reason"] == "length"


def test_a_real_relay_serves_a_folder(start_relay: StartRelay, tiny: Path) -> None:
    relay = start_relay(local=f"transformers:{tiny}")
    answer = relay.ask("Hello", max_tokens=5, temperature=0).json()
    assert answer["usage"]["completion_tokens"] == 5
    assert relay.ask("Hello", max_tokens=5, stream=True).text.endswith("data: [DONE]\n\n")
    refused = relay.ask("x" * 300)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
