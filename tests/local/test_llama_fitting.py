"""Conversations that are too long: the oldest turns go, the system prompt and the question stay."""

from typing import Any

import pytest

from local.calls import chat_call
from relay.errors import InvalidRequest
from relay.local.llama_fitting import trimmed, within_length
from relay.local.llama_request import EngineRequest, build
from relay.schema import read_chat_request

SYSTEM = {"role": "system", "content": "brief"}


class Counter:
    """An engine whose tokens are letters, with none around a message."""

    def __init__(self) -> None:
        self.counted = 0

    def count(self, body: dict[str, Any], *, chat: bool) -> int:
        assert chat
        self.counted += 1
        return sum(len(message["content"]) for message in body["messages"])


def asked(messages: list[dict[str, str]], **fields: Any) -> EngineRequest:
    payload = chat_call(messages=messages, **fields).payload
    return build(read_chat_request(payload), payload, parallel=1)


def turn(letter: str, length: int) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": letter * length},
        {"role": "assistant", "content": letter * length},
    ]


def left(request: EngineRequest) -> list[str]:
    return [message["content"][0] for message in request.asks[0].body["messages"]]


QUESTION = {"role": "user", "content": "q" * 10}
LONG = [SYSTEM, *turn("a", 100), *turn("b", 100), *turn("c", 100), QUESTION]


def test_what_fits_is_left_alone_and_not_even_counted() -> None:
    engine = Counter()
    request = asked([SYSTEM, QUESTION])
    assert trimmed(engine, request, 1000) is request
    assert engine.counted == 0


def test_what_fits_once_it_is_counted_is_left_alone() -> None:
    request = asked(LONG, max_tokens=10)
    assert left(trimmed(Counter(), request, 630)) == list("baabbccq")


@pytest.mark.parametrize(
    ("context", "max_tokens", "kept"),
    [
        (500, 10, "bbbccq"),
        (440, 100, "bccq"),
        (400, None, "bccq"),
        (100, 10, "bq"),
    ],
)
def test_the_oldest_turns_go_until_question_and_answer_have_room(
    context: int, max_tokens: int | None, kept: str
) -> None:
    request = asked(LONG, max_tokens=max_tokens)
    assert left(trimmed(Counter(), request, context)) == list(kept)


def test_a_question_that_alone_is_too_long_is_refused_with_both_numbers() -> None:
    request = asked([*turn("a", 100), {"role": "user", "content": "q" * 200}])
    with pytest.raises(InvalidRequest, match=r"200 tokens, .* holds 128") as refused:
        trimmed(Counter(), request, 128)
    assert refused.value.code == "context_length_exceeded"


def test_a_question_that_leaves_less_than_was_wanted_is_still_asked() -> None:
    request = asked([*turn("a", 100), {"role": "user", "content": "q" * 120}])
    assert left(trimmed(Counter(), request, 128)) == ["q"]


def test_each_round_of_a_request_is_trimmed() -> None:
    request = trimmed(Counter(), asked(LONG, n=2, max_tokens=10), 100)
    assert [len(ask.body["messages"]) for ask in request.asks] == [2, 2]


def test_max_length_leaves_what_the_prompt_does_not_take() -> None:
    request = within_length(Counter(), asked([QUESTION], max_length=15))
    assert request.asks[0].body["max_tokens"] == 5
    with pytest.raises(InvalidRequest, match="10 tokens"):
        within_length(Counter(), asked([QUESTION], max_length=10))
    untouched = asked([QUESTION])
    assert within_length(Counter(), untouched) is untouched
