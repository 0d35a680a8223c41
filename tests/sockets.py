"""WebSocket clients of the tests."""

from typing import Any

from running import RunningRelay
from websockets.sync.client import ClientConnection, connect


def dial(relay: RunningRelay, path: str = "/ws", **more: Any) -> ClientConnection:
    """A socket of that relay."""
    return connect(relay.root.replace("http", "ws") + path, proxy=None, **more)
