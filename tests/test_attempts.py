"""The tokens of a request, as its trail has them when it is over."""

import pytest

from relay.attempts import CLIENT_LEFT, Trail
from relay.types import Usage
from relay.usage import UsageInStream, estimate_tokens
from relay.web.messages_usage import UsageInMessages, take_body

PROMPT = b"x" * 80
STARTED = (
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":'
    b'{"input_tokens":9,"output_tokens":1}}}\n\n'
)
TEXT = b'event: content_block_delta\ndata: {"delta":{"text":"%b"}}\n\n' % (b"y" * 400)
ENDED = b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":7}}\n\n'


def trail(**more: object) -> Trail:
    return Trail(**{"attempts": 1, "prompt": PROMPT, **more})  # type: ignore[arg-type]


def test_what_the_target_told_counts_whatever_the_end() -> None:
    told = Usage(1, 2)
    for status in (200, 400, CLIENT_LEFT):
        assert trail(usage=told).used(status) == (told, False)


@pytest.mark.parametrize("status", [200, CLIENT_LEFT])
def test_what_nobody_told_is_estimated(status: int) -> None:
    assert trail().used(status) == (Usage(20, 0), True)
    assert trail(written_tokens=5).used(status) == (Usage(20, 5), True)


def test_what_was_refused_or_never_asked_has_used_nothing() -> None:
    assert trail().used(502) == (None, False)
    assert trail(attempts=0).used(CLIENT_LEFT) == (None, False)
    assert trail(prompt=b"").used(200) == (None, False)
    assert trail(usage=Usage(3, 3), shared=True).used(200) == (Usage(), False)


def test_a_message_that_broke_off_has_the_prompt_it_told_and_an_estimate_of_the_rest() -> None:
    watcher = UsageInMessages()
    one = trail()
    watcher.push(STARTED)
    one.take_stream(watcher)
    assert one.used(200) == (Usage(9, 1), True)
    watcher.push(TEXT)
    one.take_stream(watcher)
    usage, estimated = one.used(200)
    assert usage is not None
    assert (usage.prompt_tokens, estimated) == (9, True)
    assert 90 < usage.completion_tokens < 200
    watcher.push(ENDED)
    one.take_stream(watcher)
    assert one.used(200) == (Usage(9, 7), False)


def test_a_whole_message_without_usage_is_estimated() -> None:
    one = trail()
    take_body(one, b'{"content":[{"type":"text","text":"%b"}]}' % (b"y" * 40))
    assert one.used(200) == (Usage(20, 10), True)


def test_a_picture_counts_as_one_and_not_by_its_bytes() -> None:
    picture = b"data:image/png;base64," + b"QUJD" * 10_000
    assert estimate_tokens(b'{"url":"%b"}' % picture) < 1100


def test_a_long_stream_is_estimated_by_its_beginning() -> None:
    watcher = UsageInStream(strip=False)
    for _ in range(1000):
        watcher.push(b'data: {"choices":[{"delta":{"content":"four"}}]}\n\n')
    estimate = watcher.estimate()
    assert estimate is not None
    assert 950 < estimate < 1050
