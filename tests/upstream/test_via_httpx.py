"""The upstream client on httpx keeps the contract."""

from collections.abc import Callable

import pytest
from upstream.contract import UpstreamContract

from relay.events import Observer
from relay.settings import UpstreamSettings
from relay.upstream import Upstream
from relay.upstream.via_httpx import HttpxUpstream


class TestHttpxUpstream(UpstreamContract):
    @pytest.fixture
    def open_upstream(self) -> Callable[[UpstreamSettings, Observer], Upstream]:
        return HttpxUpstream
