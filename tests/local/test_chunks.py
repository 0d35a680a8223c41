"""How the parts of an answer are written, one by one or poured."""

from collections.abc import AsyncIterator

import pytest

from local.calls import chat_call
from relay.local.chunks import (
    DONE,
    ChatForm,
    Part,
    StreamChoice,
    StreamedAnswer,
    Text,
    ending,
    opening,
    read_chat_call,
)
from relay.schema import DeltaMessage, Usage

ODD = [
    "plain",
    "",
    "Grüße, 世界 🙂",
    '"quoted" \\ / </script>',
    "\x00\x01\x08\t\n\x0b\x0c\r\x1f\x7f\x80\u2028\u2029\ufeff",
    "%d %b {}",
]


def form(**fields: object) -> ChatForm:
    return ChatForm(read_chat_call(chat_call(**fields)))


@pytest.mark.parametrize("text", ODD)
def test_text_is_written_as_pydantic_would_write_it(text: str) -> None:
    one = form(model=f'odd "{text}" %s model')
    modelled = StreamChoice(index=3, delta=DeltaMessage(content=text), finish_reason=None)
    assert one.event(Text(3, text)) == one.event(modelled)


async def parts() -> AsyncIterator[Part]:
    yield opening(0)
    yield Text(0, "one")
    yield Text(0, "two")
    yield ending(0, "stop")
    yield Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("iterated", range(8))
async def test_whoever_has_begun_to_iterate_may_have_the_rest_poured(
    iterated: int, wanted: bool
) -> None:
    one = form(stream_options={"include_usage": wanted})
    whole = [event async for event in await StreamedAnswer.begin(one, parts())]
    assert len(whole) == 5 + wanted
    assert whole[-1] == DONE

    answer = await StreamedAnswer.begin(one, parts())
    events: list[bytes] = []
    pieces = aiter(answer)
    for _ in range(iterated):
        events += [piece async for piece in _first(pieces)]
    last = await answer.pour(events.append)
    assert events + [last] * bool(last) == whole


async def _first(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if (piece := await anext(pieces, b"")) != b"":
        yield piece
