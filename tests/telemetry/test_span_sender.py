"""What waits to be sent: never too much, and lost aloud."""

import logging
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from relay.telemetry.span_sender import BATCH, MAX_WAITING, SpanSender
from relay.telemetry.traces import Ended

ENDED = cast(Ended, ())


class Collected:
    """A collector that takes what it is sent when it is let; what raises is a fault of ours."""

    url = "http://collector/v1/traces"

    def __init__(self) -> None:
        self.taken = 0
        self.asked = threading.Event()
        self.open = threading.Event()
        self.fault: Exception | None = None

    def send(self, ended: Sequence[Ended]) -> str:
        self.asked.set()
        self.open.wait(20)
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault
        self.taken += len(ended)
        return ""

    def give_up(self) -> None:
        self.open.set()


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [cast(Any, one).fields for one in caplog.records if one.message == "traces_lost"]


async def test_no_more_than_so_many_wait_and_the_others_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    collected = Collected()
    sender = SpanSender(lambda: collected)
    sender.start()
    for _ in range(BATCH):
        sender.put(ENDED)
    assert collected.asked.wait(20)  # a batch is on its way
    for _ in range(MAX_WAITING + 10):
        sender.put(ENDED)
    assert sender.lost == 10
    collected.open.set()
    with caplog.at_level(logging.WARNING):
        await sender.aclose()
    assert collected.taken == BATCH + MAX_WAITING
    assert [one["requests"] for one in told(caplog)] == [10]


async def test_a_batch_that_cannot_be_made_does_not_end_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    collected = Collected()
    collected.fault = ZeroDivisionError()
    sender = SpanSender(lambda: collected)
    with caplog.at_level(logging.WARNING):
        for _ in range(BATCH + 1):
            sender.put(ENDED)
        collected.open.set()
        sender.start()
        await sender.aclose()
    assert collected.taken == 1
    assert told(caplog) == [
        {"url": collected.url, "requests": BATCH, "reason": "ZeroDivisionError"}
    ]


async def test_what_was_never_started_ends_at_once() -> None:
    sender = SpanSender(Collected)
    sender.put(ENDED)
    await sender.aclose()
