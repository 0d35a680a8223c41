"""What a call may use, from its body."""

import json
from typing import Any

import pytest

from relay.limits.estimate import ATTACHMENT_TOKENS, Estimate, estimate
from relay.types import Call


def call(path: str = "chat/completions", *, parsed: bool = True, **fields: Any) -> Call:
    payload = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    body = json.dumps(payload, separators=(",", ":")).encode()
    return Call(path, body=body, payload=payload if parsed else {}, model="m")


def of(asked: Call) -> Estimate:
    return estimate(asked, 1000)


@pytest.mark.parametrize(
    ("fields", "completion", "sure"),
    [
        ({}, 1000, False),
        ({"n": 3}, 3000, False),
        ({"max_tokens": 7}, 7, True),
        ({"max_completion_tokens": 9, "max_tokens": 7}, 9, True),
        ({"max_output_tokens": 5}, 5, True),
        ({"max_tokens": 7, "n": 4}, 28, True),
        ({"max_tokens": 0}, 0, True),
        ({"max_tokens": None, "n": None}, 1000, False),
        ({"max_tokens": -7}, 1000, False),
        ({"max_tokens": "7"}, 1000, False),
        ({"max_tokens": True}, 1000, False),
        ({"n": 0, "max_tokens": 7}, 7, True),
    ],
)
def test_completions_are_what_is_asked_for(
    fields: dict[str, Any], completion: int, sure: bool
) -> None:
    found = of(call(**fields))
    assert (found.completion_tokens, found.sure) == (completion, sure)


def test_prompts_are_a_quarter_of_the_body() -> None:
    text = "word " * 400
    plain, longer = of(call()), of(call(messages=[{"role": "user", "content": text}]))
    assert longer.prompt_tokens - plain.prompt_tokens == (len(text) - 1) // 4


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}},
        {"type": "input_audio", "input_audio": {"data": "A" * 400_000, "format": "wav"}},
        {"type": "file", "file": {"file_data": "A" * 400_000}},
    ],
)
def test_images_sounds_and_files_are_not_counted_by_their_bytes(part: dict[str, Any]) -> None:
    found = of(call(messages=[{"role": "user", "content": [part, part]}]))
    assert 2 * ATTACHMENT_TOKENS < found.prompt_tokens < 2 * ATTACHMENT_TOKENS + 100


def test_a_word_called_data_is_text() -> None:
    found = of(call(data="A" * 100, padding="B" * 1000))
    assert found.prompt_tokens < ATTACHMENT_TOKENS


def test_an_attachment_without_an_end_does_not_break_it() -> None:
    body = b'{"messages": [], "data":"' + b"A" * 1000
    assert of(Call("responses", body=body)).prompt_tokens == ATTACHMENT_TOKENS + 6


@pytest.mark.parametrize("path", ["responses", "completions", "messages", "responses?x=1"])
def test_bodies_that_were_not_parsed_are_looked_into(path: str) -> None:
    found = of(call(path, parsed=False, max_output_tokens=5))
    assert (found.completion_tokens, found.sure, found.model) == (5, True, "m")


def test_the_model_of_a_call_that_names_none_is_that_of_its_body() -> None:
    assert of(Call("responses", body=b'{"model": "deep"}')).model == "deep"
    assert of(Call("responses", body=b'{"model": 7}')).model == ""
    assert of(Call("responses", body=b"[7]")).model == ""
    assert of(Call("responses", body=b"no json")).completion_tokens == 1000


@pytest.mark.parametrize("path", ["embeddings", "audio/speech", "images/generations", "files"])
def test_what_generates_no_text_has_a_prompt_only(path: str) -> None:
    found = of(call(path, parsed=False, input="x" * 400))
    assert (found.completion_tokens, found.sure) == (0, True)
    assert found.prompt_tokens > 100


def test_counting_tokens_uses_none() -> None:
    assert of(call("messages/count_tokens"))[:3] == (0, 0, True)


def test_a_body_that_is_streamed_is_not_known() -> None:
    assert of(Call("audio/transcriptions"))[:2] == (0, 0)
