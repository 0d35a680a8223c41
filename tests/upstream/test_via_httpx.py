"""The upstream client on httpx keeps the contract."""

from collections.abc import Callable

import pytest
from upstream.contract import UpstreamContract

from relay.settings import UpstreamSettings
from relay.types import Backend
from relay.upstream.via_httpx import HttpxUpstream


class TestHttpxUpstream(UpstreamContract):
    @pytest.fixture
    def open_upstream(self) -> Callable[[UpstreamSettings], Backend]:
        return HttpxUpstream
