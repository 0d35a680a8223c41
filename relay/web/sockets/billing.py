"""What a session costs: each response, and each transcription, is one request of its caller's.

    the session opens   the first of them is reserved for, as a call is
    response.done       its tokens are settled and noted, the next one is reserved for
    ….completed         a transcription's likewise, under the name of the model that wrote it
    the session ends    a response that had begun is noted as given up, another costs nothing

So limits and budgets hold while a session lasts, and the ledger has its tokens at once. A session
in which neither came is one request without tokens.

Source: OpenAI's API reference, "Realtime", server events.
"""

from time import perf_counter
from typing import Any

import orjson

from relay.attempts import CLIENT_LEFT, Trail
from relay.errors import RelayError
from relay.sessions import Sessions
from relay.types import Call, Identity, Usage
from relay.usage import read_usage
from relay.web.accounts import Accounts
from relay.web.replies import new_request_id
from relay.web.sockets.wishes import transcriber_of

TRANSCRIBED = "conversation.item.input_audio_transcription.completed"

_MARKS = (
    "response.created",
    "response.done",
    "transcription.completed",
    "buffer.committed",
    "session.created",
    "session.updated",
)
"""What stands in the events that are read; the many others are passed on without."""

_SOUND = 'audio.delta"'
_HEAD = 256
"""Most of what passes is sound, and long: 12 kB take 20 us to be searched for all marks."""


class Billing:
    """The accounts of one session; `trail` is that of its opening."""

    def __init__(self, accounts: Accounts, identity: Identity, path: str) -> None:
        self.trail = Trail()
        self.request_id = new_request_id()
        self.status = 200
        self.identity = identity
        self.responding = False
        self._transcriber = ""
        self._accounts = accounts
        self._path = path
        self._began = self._heard = perf_counter()
        self._noted = False

    async def look(self, message: str | bytes, call: Call, sessions: Sessions) -> None:
        """See an event of the upstream's.

        Raises:
            RateLimited, InsufficientQuota, …: no further response may be had.
        """
        if not isinstance(message, str) or _SOUND in message[:_HEAD]:
            return
        if not any(mark in message for mark in _MARKS):
            return
        try:
            event = orjson.loads(message)
            kind, response = event.get("type"), event.get("response")
        except (orjson.JSONDecodeError, AttributeError):
            return  # not for us to judge
        if kind == "response.created":
            self.responding = True
            self._began = perf_counter()
        elif kind == "response.done" and isinstance(response, dict):
            self.responding = False
            self.trail.usage = read_usage(response.get("usage")) or Usage()
            self._note(self._began)
            await self._go_on(self.trail, call, sessions)
        elif kind == TRANSCRIBED:
            await self._transcribed(event, call, sessions)
        elif kind == "input_audio_buffer.committed":
            self._heard = perf_counter()
        elif isinstance(kind, str) and kind.endswith(("session.created", "session.updated")):
            self._transcriber = transcriber_of(event.get("session"))

    async def _transcribed(self, event: dict[str, Any], call: Call, sessions: Sessions) -> None:
        """It may come while a response runs, which is then reserved for anew."""
        trail = self.trail
        ours = Trail(target=trail.target, model=trail.model, served=trail.served)
        trail.model = trail.served = self._transcriber
        trail.usage = read_usage(event.get("usage")) or Usage()
        self._note(self._heard)
        self._heard = perf_counter()
        await self._go_on(ours, call, sessions)

    async def _go_on(self, before: Trail, call: Call, sessions: Sessions) -> None:
        self.trail = trail = Trail()
        trail.target, trail.model, trail.served = before.target, before.model, before.served
        trail.attempts = 1
        self.request_id = new_request_id()
        if not self.responding:
            self._began = perf_counter()
        if self.identity.holders:
            await sessions.admit(call, trail)

    def fail(self, error: RelayError) -> None:
        """The session was refused, or is ended, for that."""
        self.status, self.trail.error = error.status, error.name

    def leave(self) -> None:
        """The client left before it had what it asked for."""
        self.status, self.trail.error = CLIENT_LEFT, "client_left"

    def close(self) -> None:
        """The session is over."""
        if self.responding:
            # Nobody tells what it cost: what was reserved is kept.
            if self.status < 400:
                self.leave()
            self._note(self._began)
            return
        self.trail.usage = Usage()
        if self.status >= 400 or not self._noted:
            self._note(self._began)
        elif self.trail.reservation is not None:
            self.trail.reservation.end(Usage(), 0)

    def _note(self, began: float) -> None:
        self._noted = True
        self.trail.stream = True
        self._accounts.close(
            self.trail,
            identity=self.identity,
            request_id=self.request_id,
            method="GET",
            path=self._path,
            status=self.status,
            began=began,
            kept=True,
        )
