"""The tokens of messages that pass as they are."""

import anthropic_fake as fake
import pytest

from relay.types import Usage
from relay.web.messages_usage import UsageInMessages, in_body

TOLD = Usage(prompt_tokens=14, completion_tokens=3, cached_tokens=4)


def test_a_message_tells_what_was_read_from_the_cache_apart() -> None:
    assert in_body(fake.message_body(fake.said("hi"))) == TOLD


@pytest.mark.parametrize(
    "body", [b"{}", b'"usage"', b'{"usage": null}', b'{"usage": {}', b"<html>"]
)
def test_a_body_that_tells_nothing_tells_nothing(body: bytes) -> None:
    assert in_body(body) is None


@pytest.mark.parametrize("joined", [False, True])
def test_a_stream_tells_it_at_both_ends_and_passes_as_it_is(joined: bool) -> None:
    events = fake.message_stream(fake.said("one two"))
    events = [b"".join(events)] if joined else events
    usage = UsageInMessages()
    assert usage.usage is None
    assert [usage.push(piece) for piece in events] == events
    assert usage.usage == TOLD


def test_what_cannot_be_read_passes_as_well() -> None:
    usage = UsageInMessages()
    for piece in (b'data: "usage" of what?\n\n', b'data: {"usage": {"output_tokens": null}}\n\n'):
        assert usage.push(piece) == piece
    assert usage.usage is None
