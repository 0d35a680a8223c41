"""The echo, as a model and behind the backend."""

import pytest

from local.calls import body, chat_call, deltas, events, text
from relay.local import Prompt, open_local
from relay.local.echo import EchoModel
from relay.settings import Settings


@pytest.mark.parametrize("said", ["one two", "  a\n b\t", "", " ", "Grüße, 世界!", "x" * 10_000])
def test_it_says_the_last_user_text_word_by_word(said: str) -> None:
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": [{"type": "text", "text": said}]},
        {"role": "assistant", "content": "prefix"},
    ]
    pieces = list(EchoModel().generate(Prompt(messages, "", [])))
    assert "".join(pieces) == said
    assert len(pieces) == max(len(said.split()), len(said) > 0) + said.endswith("\t")


def test_without_a_user_it_says_nothing():
    assert list(EchoModel().generate(Prompt([{"role": "system", "content": "x"}], "", []))) == []


async def test_nothing_to_say_is_still_an_answer():
    backend = open_local("echo", Settings())
    chunks = await events(backend, chat_call(""))
    assert deltas(chunks) == [{"role": "assistant"}, {}]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    answer = await body(backend, chat_call(""))
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": ""}


async def test_a_lone_surrogate_cannot_break_the_answer():
    backend = open_local("echo", Settings())
    call = chat_call()
    call.payload["messages"][0] |= {"content": [{"type": "text", "text": "a \ud800b"}]}
    assert text(await events(backend, call)) == "a ?b"
