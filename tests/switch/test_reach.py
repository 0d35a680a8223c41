"""What counts as within reach."""

import asyncio

import pytest

from relay.errors import (
    ConnectTimeout,
    UpstreamAuth,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from relay.switch import Probe, Reach


def raising(error: Exception | None) -> Probe:
    async def probe(_: float) -> None:
        if error is not None:
            raise error

    return probe


async def never(_: float) -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "reachable"),
        (UpstreamStatus(500, headers=(), body=b""), "reachable"),
        (UpstreamAuth("The key is refused."), "reachable"),
        (UpstreamUnreachable("Refused."), "unreachable"),
        (ConnectTimeout("Late."), "unreachable"),
        (UpstreamTimeout("Late."), "unreachable"),
        (OSError("No route."), "unreachable"),
    ],
)
async def test_whatever_an_upstream_answers_is_within_reach(
    error: Exception | None, state: str
) -> None:
    reach = Reach({"a": raising(error)})
    assert await reach.look() == (state == "reachable")
    assert reach.states == {"a": state}


async def test_a_probe_that_keeps_no_limit_is_given_one() -> None:
    reach = Reach({"a": never}, limit_s=0.01)
    assert not await reach.look()
    assert reach.states == {"a": "unreachable"}


async def test_the_first_within_reach_decides() -> None:
    reach = Reach({"a": never, "b": raising(None)}, limit_s=60)
    assert await reach.look()
    assert reach.states == {"a": "unknown", "b": "reachable"}


async def test_what_was_known_can_be_forgotten() -> None:
    reach = Reach({"a": raising(None)})
    await reach.look()
    reach.forget()
    assert reach.states == {"a": "unknown"}
