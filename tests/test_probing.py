"""Probes tell a target's health what a client's call would find."""

from collections.abc import Iterator

import pytest
from fake_script import Script
from fake_upstream import FakeUpstream
from running import StartRelay

from relay.health import Health
from relay.probing import probe
from relay.settings import BreakerSettings, UpstreamSettings
from relay.upstream import open_upstream


@pytest.fixture
def other() -> Iterator[FakeUpstream]:
    with FakeUpstream.in_thread() as fake:
        yield fake


@pytest.mark.parametrize(
    ("script", "failures", "state"),
    [
        (Script(body=b"{}"), 0, "closed"),
        (Script(status=404, body=b"{}"), 0, "closed"),
        (Script(status=500, body=b"{}"), 1, "closed"),
        (Script(status=503, body=b"{}", headers=[(b"retry-after", b"30")]), 0, "open"),
        (Script(status=401, body=b"{}"), 1, "closed"),
        (Script(raw=b"no HTTP"), 1, "closed"),
    ],
)
async def test_a_probe_says_of_a_target_what_a_call_would(
    upstream: FakeUpstream, script: Script, failures: int, state: str
) -> None:
    upstream.answer(script)
    backend = open_upstream(UpstreamSettings(name="u", base_url=upstream.url))
    health = Health(BreakerSettings())
    await probe(backend, health)
    await backend.aclose()
    assert (health.failures, health.state) == (failures, state)
    assert upstream.requests[0].target == "/v1/models"


def test_a_sick_upstream_is_left_alone_before_any_call(
    start_relay: StartRelay, upstream: FakeUpstream, other: FakeUpstream
) -> None:
    upstream.answer(Script(status=500, body=b"{}"))
    relay = start_relay(
        upstreams=[
            {"name": "sick", "base_url": upstream.url, "probe_s": 0.02},
            {"name": "well", "base_url": other.url},
        ],
        models=[{"id": "m", "targets": [{"upstream": "sick"}, {"upstream": "well"}]}],
    )
    upstream.wait_for(lambda: len(upstream.requests) > 5)
    reply = relay.ask()
    assert reply.headers["x-relay-upstream"] == "well"
    assert reply.headers["x-relay-attempts"] == "1"
    assert not [request for request in other.requests if request.path.endswith("models")]
