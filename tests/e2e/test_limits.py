"""Time limits: over all attempts, and those that a request asks for."""

import pytest
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay, chat


def test_the_total_time_holds_for_all_attempts_together(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(gate=Gate()))
    first, second = ({"name": name, "base_url": upstream.url} for name in "ab")
    relay = start_relay(
        upstreams=[first, second],
        models=[
            {
                "id": "m",
                "targets": [{"upstream": "a"}],
                "fallback": [{"upstream": "b"}],
                "timeouts": {"total_s": 0.4},
            }
        ],
    )
    reply = relay.ask()
    assert reply.status_code == 504
    assert "total_s allows (0.4 s)" in reply.json()["error"]["message"]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("asked", "limit"),
    [("first_byte_s=0.2", "first_byte_s"), ("total_s=0.2, first_byte_s=20", "total_s")],
)
def test_a_request_may_ask_for_shorter_limits(
    start_relay: StartRelay, upstream: FakeUpstream, asked: str, limit: str
) -> None:
    upstream.answer(Script(gate=Gate()))
    relay = start_relay(upstream_url=upstream.url)
    reply = relay.http.post(
        "/v1/chat/completions", json=chat(), headers={"x-relay-timeouts": asked}
    )
    assert reply.status_code == 504
    assert f"{limit} allows (0.2 s)" in reply.json()["error"]["message"]
    assert not upstream.requests[0].header("x-relay-timeouts")


def test_a_request_gets_no_longer_limit_than_the_operator_allows(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(gate=Gate()))
    relay = start_relay(
        upstream_url=upstream.url,
        timeouts={"first_byte_s": 0.1},
        longest_timeouts={"first_byte_s": 0.3},
    )
    reply = relay.http.post(
        "/v1/chat/completions", json=chat(), headers={"x-relay-timeouts": "first_byte_s=50"}
    )
    assert "first_byte_s allows (0.3 s)" in reply.json()["error"]["message"]


@pytest.mark.parametrize("asked", ["", "5", "idle_s", "idle_s=", "idle_s=-1", "idle_s=0", "a=1"])
def test_limits_that_cannot_be_read_are_400(remote: RunningRelay, asked: str) -> None:
    reply = remote.http.post(
        "/v1/chat/completions", json=chat(), headers={"x-relay-timeouts": asked}
    )
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "x-relay-timeouts"
