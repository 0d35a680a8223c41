"""What every test of an upstream client stands on: a fake upstream, and clients that are closed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop
from fake_upstream import FakeUpstream

from relay.events import Observer, ignore
from relay.settings import UpstreamSettings
from relay.upstream import Upstream

pytest.register_assert_rewrite("upstream.calls", "upstream.contract")
pytest.register_assert_rewrite("upstream.contract_failures", "upstream.contract_connections")
pytest.register_assert_rewrite("upstream.contract_uploads", "upstream.contract_keys")
pytest.register_assert_rewrite("upstream.contract_limits")

from upstream.calls import KEY, Connect  # noqa: E402 - its asserts are rewritten from here on


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both loops that the relay may run on; they differ in how a connection's end is told."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def fake() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def connect(
    fake: FakeUpstream, open_upstream: Callable[[UpstreamSettings, Observer], Upstream]
) -> AsyncIterator[Connect]:
    """Opens clients of the fake or of `base_url`, settings as keywords; closes them at the end."""
    opened: list[Upstream] = []

    def connect(
        base_url: str = fake.url, *, observe: Observer = ignore, **settings: Any
    ) -> Upstream:
        given = {"name": "fake", "api_keys": [KEY], "base_url": base_url} | settings
        opened.append(open_upstream(UpstreamSettings(**given), observe))
        return opened[-1]

    yield connect
    for upstream in opened:
        await upstream.aclose()


@pytest.fixture
async def upstream(connect: Connect) -> Upstream:
    return connect()
