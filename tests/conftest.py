"""What the tests stand on: a fake upstream and a real relay, both on sockets of this machine."""

import os
import socket
from collections.abc import Iterator
from functools import cache

import httpx
import pytest
from fake_upstream import FakeUpstream
from hypothesis import HealthCheck, settings
from running import UPSTREAM_KEY, RunningRelay, StartRelay, relays

pytest_plugins = ["collector", "kinds", "servers"]

# The settings of whoever runs the tests are not those that are tested. Before a test is read, as
# some make settings when their file is; processes that tests start have this environment, too.
for name in set(os.environ):
    if name.upper().startswith(("RELAY_", "OPENAI_", "OTEL_")):
        del os.environ[name]

# Reading whom to trust takes 50 ms; a thousand clients of the tests would each do it anew.
httpx._transports.default.create_ssl_context = cache(httpx.create_ssl_context)  # type: ignore[attr-defined]

# On a machine that has other work, time says nothing of the code. Each run draws other examples.
settings.register_profile(
    "relay", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("relay")


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """An OpenAI-format server that does as it is told."""
    with FakeUpstream.in_thread() as fake:
        yield fake


@pytest.fixture
def start_relay() -> Iterator[StartRelay]:
    """Starts relays with the settings given; all of them stop with the test."""
    with relays() as start:
        yield start


@pytest.fixture
def remote(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    """A relay in front of the fake upstream."""
    return start_relay(upstream_url=upstream.url, upstream_api_key=UPSTREAM_KEY)


@pytest.fixture
def echo(start_relay: StartRelay) -> RunningRelay:
    """A relay that answers from its own echo."""
    return start_relay(local="echo")


@pytest.fixture
def silent_listener() -> Iterator[str]:
    """`host:port` of something that accepts connections and never says a word, so no TLS either."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
