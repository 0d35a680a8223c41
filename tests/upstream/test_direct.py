"""The upstream client of our own keeps the contract, and what else it promises."""

from collections.abc import Callable

import pytest
from upstream.contract import UpstreamContract

from relay.settings import UpstreamSettings
from relay.types import Backend
from relay.upstream.direct import DirectUpstream


class TestDirectUpstream(UpstreamContract):
    @pytest.fixture
    def open_upstream(self) -> Callable[[UpstreamSettings], Backend]:
        return DirectUpstream
