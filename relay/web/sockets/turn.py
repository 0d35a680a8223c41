"""One question on a socket and its answer: asked, told, and accounted for.

It goes the same way as a request over HTTP: the engine reserves from the caller's limits, and the
accounts are closed once, however it ends.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from relay.attempts import CLIENT_LEFT, Trail
from relay.engine import Engine
from relay.errors import RelayError
from relay.keys import Keyring
from relay.sessions import Sessions
from relay.settings import SocketSettings
from relay.sse import WholeEvents
from relay.telemetry.traces import NoTraces, Traces
from relay.types import Call, Identity
from relay.usage import UsageInStream
from relay.web.accounts import Accounts
from relay.web.cors import Origins
from relay.web.door import internal_error
from relay.web.models import Models
from relay.web.presence import ClientLeft, ShuttingDown
from relay.web.recording import MAX_BYTES
from relay.web.replies import new_request_id
from relay.web.sockets.wire import Wire
from relay.web.users import Users

_log = logging.getLogger("relay.web")


@dataclass(frozen=True, slots=True)
class Turns:
    """What one configuration gives to the turns of sockets."""

    engine: Engine
    models: Models
    keyring: Keyring
    origins: Origins
    users: Users
    accounts: Accounts
    limits: SocketSettings
    sessions: Sessions
    traces: Traces | NoTraces


Latest = Callable[[], Turns]
"""Those of the configuration that holds now: a socket may be open for days, and keeps no other."""


class Telling(Protocol):
    """How one kind of frame asks, and tells what is answered."""

    async def call(self, models: Models, identity: Identity, request_id: str) -> Call: ...
    def read(self, piece: bytes) -> Iterator[str]: ...
    def close(self) -> None: ...
    def said(self) -> bytes: ...
    def done(self) -> str: ...
    def failed(self, error: RelayError) -> str: ...


class Turn:
    """A question that is being answered, in a task of its own, from when it is made."""

    def __init__(self, wire: Wire, turns: Turns, identity: Identity, telling: Telling) -> None:
        self._wire = wire
        self._turns = turns
        self._identity = identity
        self._telling = telling
        self._request_id = new_request_id()
        self._trail = Trail()
        self._status = 200
        self._began = perf_counter()
        self._ended_by: RelayError | None = None
        turns.users.enter()
        turns.traces.enter(wire.scope["headers"])  # for the task, which begins in this context
        self.task = asyncio.get_running_loop().create_task(self._run())
        self.task.add_done_callback(self._over)

    async def stop(self) -> None:
        """End it as its client wishes, and tell that it is over. Raises: ClientLeft."""
        if await self.cancel():
            await self._wire.send(self._telling.done())

    async def shut_down(self) -> None:
        """End it since the relay stops, and tell that. Raises: ClientLeft."""
        self._ended_by = ShuttingDown()
        if await self.cancel():
            await self._wire.send(self._telling.failed(self._ended_by))

    async def cancel(self) -> bool:
        """End it, wherever it stands; whether it was not over by itself."""
        self.task.cancel()
        await asyncio.wait([self.task])
        return self.task.cancelled()

    async def _run(self) -> None:
        try:
            await self._answer()
        except RelayError as error:
            await self._fail(error)
        except ClientLeft:
            self._note(CLIENT_LEFT, "client_left")
        except Exception:  # the last line, as at the door: no answer may end without a word
            _log.exception("internal_error", extra={"fields": {"request_id": self._request_id}})
            await self._fail(internal_error(self._request_id))

    async def _answer(self) -> None:
        turns, trail, telling = self._turns, self._trail, self._telling
        call = await telling.call(turns.models, self._identity, self._request_id)
        if turns.accounts.ledger.full:
            await turns.accounts.ledger.room()
        async with turns.engine.stream(call, trail) as answer:
            whole, usage = WholeEvents(), UsageInStream(strip=trail.usage_unasked)
            try:
                async for piece in answer:
                    for frame in telling.read(usage.push(whole.push(piece))):
                        await self._wire.send(frame)
                for frame in telling.read(usage.push(whole.tail())):
                    await self._wire.send(frame)
            finally:
                trail.take_stream(usage)
        telling.close()
        await self._wire.send(telling.done())

    async def _fail(self, error: RelayError) -> None:
        self._note(error.status, error.name)
        try:
            await self._wire.send(self._telling.failed(error))
        except ClientLeft:
            return

    def _note(self, status: int, error: str) -> None:
        self._status, self._trail.error = status, error

    def _over(self, task: asyncio.Task[None]) -> None:
        """Close the accounts: here, since a task that is cancelled early never runs."""
        if task.cancelled():
            by = self._ended_by
            self._note(*((CLIENT_LEFT, "client_left") if by is None else (by.status, by.name)))
        self._turns.users.leave()
        bodies = None
        if self._identity.keep_bodies:
            bodies = (self._trail.prompt[:MAX_BYTES], self._telling.said()[:MAX_BYTES])
        self._turns.accounts.close(
            self._trail,
            identity=self._identity,
            request_id=self._request_id,
            method="GET",
            path=self._wire.scope["path"],
            status=self._status,
            began=self._began,
            kept=True,
            bodies=bodies,
        )
