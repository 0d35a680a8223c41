"""Comments in the silences of a stream of events, so that nobody on the way takes it for dead.

    async with Pings(send, every_s=15, between=lambda: whole.between) as pings:
        await pings.send(…)        # instead of send: the head, the pieces, the end

One timer belongs to a stream. It is not touched when something is written; when it goes off and
the silence is too young, or an event is only half written, it is set anew. A task is made only for
a ping that is written. Pings go to the client alone: no limit of the upstream's hears of them.
"""

import asyncio
from collections.abc import Callable

from starlette.types import Message, Send

from relay.sse import comment
from relay.types import RawHeaders

PING = comment("ping")


def takes_comments(headers: RawHeaders) -> bool:
    """Whether an answer with that head is a stream of events, and in plain bytes."""
    named = dict(headers)
    kind = named.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return kind == b"text/event-stream" and b"content-encoding" not in named


class Pings:
    """ASGI's `send` for one stream, which writes a ping after `every_s` of silence.

    Between head and end only, and only while `between` says that no event is half written.
    """

    def __init__(self, send: Send, *, every_s: float, between: Callable[[], bool]) -> None:
        self._send = send
        self._every_s = every_s
        self._between = between
        self._loop = asyncio.get_running_loop()
        self._sending = False
        self._written_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Pings":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop()
        if self._ping is not None:
            self._ping.cancel()

    async def send(self, message: Message) -> None:
        """Write a part of the stream; a ping that is just being written goes before it."""
        if self._ping is not None:
            await self._ping
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._stop()
            await self._send(message)
            return
        self._sending = True
        await self._send(message)
        self._sending = False
        self._written_at = self._loop.time()
        if self._timer is None:
            self._set_timer(self._written_at)

    def _stop(self) -> None:
        self._sending = True  # for good: after the end nothing may be written
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, silent_since: float) -> None:
        self._timer = self._loop.call_at(silent_since + self._every_s, self._on_timer)

    def _on_timer(self) -> None:
        now = self._loop.time()
        if self._written_at + self._every_s > now:
            self._set_timer(self._written_at)
            return
        if not self._sending and self._ping is None and self._between():
            self._ping = self._loop.create_task(self._write_ping())
        self._set_timer(now)

    async def _write_ping(self) -> None:
        try:
            await self._send({"type": "http.response.body", "body": PING, "more_body": True})
        finally:
            self._ping = None
