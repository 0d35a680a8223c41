"""A relay that runs in a thread of the tests, and the requests they send it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from relay.app import Relay, Server

UPSTREAM_KEY = "sk-hidden-canary-0123456789"
"""The key that only the upstream may ever see."""


@dataclass
class RunningRelay:
    """A relay that serves in a thread, on a free port."""

    relay: Relay
    server: Server
    thread: threading.Thread
    root: str
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.root, timeout=30, trust_env=False, verify=False)

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def ask(self, text: str = "one two three", **fields: Any) -> httpx.Response:
        """One chat request, not streamed unless `stream=True` is among the fields."""
        return self.http.post("/v1/chat/completions", json=chat(text, **fields))

    def stop(self) -> None:
        self.http.close()
        self.server.should_exit = True
        self.thread.join(timeout=30)
        assert not self.thread.is_alive()


StartRelay = Callable[..., RunningRelay]


def chat(text: str = "one two three", **fields: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
