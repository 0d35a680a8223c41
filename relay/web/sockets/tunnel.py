"""WebSockets that are passed on: `/v1/realtime`, and what else `websocket.passthrough` names.

    client <--messages, as they are--> relay <--the same, with the hidden key--> upstream

The upstream is asked before the client's socket is opened: a handshake that it refuses is refused
here with the status and the error that a call would get. Path, query and subprotocols are the
client's, less its key. A message waits until the other side has room for it; nothing is dropped.
Codes of closes pass, but for those that cannot be sent.

    the upstream's connection was lost     1014 to the client
    the client's connection was lost       1001 to the upstream
    the key holds no longer, or its limits or budget are used up
                                           an `error` event and 1008 to the client
    the relay stops                        1001 to both, as soon as no response runs

An event in which a key for certain models asks for another is not passed on: the client gets an
`error` event, and the session goes on.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import orjson

from relay.errors import RelayError, RouteNotFound
from relay.sessions import Session, Sessions, model_of
from relay.types import Call
from relay.upstream import NO_STATUS, SocketClosed, upward
from relay.web.allowlist import check_path
from relay.web.passthrough import PREFIX, target_of
from relay.web.presence import ClientLeft, ShuttingDown
from relay.web.sockets.billing import Billing
from relay.web.sockets.credential import (
    SUBPROTOCOL,
    Credential,
    identity_of,
    no_credential,
    without_keys,
)
from relay.web.sockets.crowd import Crowd
from relay.web.sockets.frames import GOING_AWAY, POLICY_VIOLATION
from relay.web.sockets.pace import Pace
from relay.web.sockets.turn import Latest, Turns
from relay.web.sockets.wire import Wire
from relay.web.sockets.wishes import Unwanted, check_event

BAD_GATEWAY = 1014
LOOK_AGAIN_S = 1.0
"""How often the key of an open session is looked at while its client sends."""


@dataclass(frozen=True, slots=True)
class End:
    """Why a session is over: what each side is told."""

    to_client: tuple[int, str]
    to_upstream: tuple[int, str]


def passes(path: str, turns: Turns) -> bool:
    """Whether sockets of that path are passed on."""
    return any(fnmatchcase(path, pattern) for pattern in turns.limits.passthrough)


class Tunnel:
    """One socket that is passed on."""

    def __init__(self, wire: Wire, latest: Latest, crowd: Crowd, credential: Credential | None):
        self._wire = wire
        self._latest = latest
        self._crowd = crowd
        self._credential = credential or no_credential
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[End] = self._loop.create_future()
        self._pace = Pace()
        self._looked_at = self._loop.time()
        self._draining = False
        self._billing: Billing | None = None

    async def run(self) -> None:
        """Serve the socket, from its handshake to its end.

        Raises:
            RelayError: it cannot be opened; nothing was answered yet.
            ClientLeft: its client left before it was.
        """
        turns = self._latest()
        self._identity = identity = await identity_of(self._credential, turns.keyring)
        with self._crowd.entered(self, identity, turns.limits.max_open):
            if self._crowd.draining:
                raise ShuttingDown
            turns.users.enter()
            turns.traces.enter(self._wire.scope["headers"])
            self._billing = billing = Billing(turns.accounts, identity, self._wire.scope["path"])
            try:
                await self._serve(turns.sessions, billing)
            except RelayError as error:
                billing.fail(error)
                raise
            except ClientLeft:
                billing.leave()
                raise
            finally:
                billing.close()
                turns.users.leave()

    async def drain(self) -> None:
        """End as soon as no response runs."""
        self._draining = True
        if self._billing is None or not self._billing.responding:
            await self.end()

    async def end(self) -> None:
        """End now, since the relay stops."""
        stop = (GOING_AWAY, "the relay is stopping")
        self._finish(End(stop, stop))

    async def _serve(self, sessions: Sessions, billing: Billing) -> None:
        scope = self._wire.scope
        call = _call(scope, billing)
        offered = without_keys(scope["subprotocols"])
        session = await self._unless_left(sessions.open(call, billing.trail, offered))
        end = End((GOING_AWAY, ""), (GOING_AWAY, ""))
        try:
            ours = SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
            await self._wire.accept(session.socket.subprotocol or ours)
            end = await self._pass_on(session, call, sessions, billing)
        finally:
            await session.close(*end.to_upstream)
        await self._wire.close(*end.to_client)

    async def _unless_left(self, opening: Awaitable[Session]) -> Session:
        """What comes of that, unless the client leaves before."""
        await self._wire.connected()
        task = asyncio.ensure_future(opening)
        leaving = self._loop.create_task(self._wire.left())
        try:
            await _first([task, leaving, self._ended])
            if task.done():
                return task.result()
        finally:
            leaving.cancel()
            task.cancel()
            await asyncio.wait([task, leaving])
        if not task.cancelled() and task.exception() is None:
            await task.result().close(GOING_AWAY, "")  # it came a moment too late
        if leaving.cancelled():
            raise ShuttingDown
        raise ClientLeft

    async def _pass_on(
        self, session: Session, call: Call, sessions: Sessions, billing: Billing
    ) -> End:
        up = self._loop.create_task(self._up(session, billing))
        down = self._loop.create_task(self._down(session, call, sessions, billing))
        try:
            await _first([up, down, self._ended])
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.wait([up, down])
        for task in (up, down):
            if not task.cancelled() and not self._ended.done():
                self._ended.set_result(task.result())
        return self._ended.result()

    async def _up(self, session: Session, billing: Billing) -> End:
        while True:
            try:
                message = await self._wire.receive()
                turns = self._latest()
                if excess := self._pace.excess(turns.limits.frames_per_s):
                    await asyncio.sleep(excess / turns.limits.frames_per_s)
                await self._look_at_key(turns)
                if self._identity.models:
                    check_event(message, self._identity, session.target.model or "")
                await session.socket.send(message)
            except Unwanted as unwanted:
                with suppress(ClientLeft):  # which is heard of with the next message
                    await self._tell(unwanted.error, unwanted.event_id)
            except ClientLeft:
                return End((GOING_AWAY, ""), _sendable(self._wire.code, self._wire.reason))
            except SocketClosed as closed:
                return _closed(closed)
            except RelayError as error:
                return await self._refused(error, billing)

    async def _down(
        self, session: Session, call: Call, sessions: Sessions, billing: Billing
    ) -> End:
        while True:
            try:
                message = await session.socket.receive()
                await self._wire.send(message)
                await billing.look(message, call, sessions)
            except ClientLeft:
                return End((GOING_AWAY, ""), (GOING_AWAY, "the client left"))
            except SocketClosed as closed:
                return _closed(closed)
            except RelayError as error:
                return await self._refused(error, billing)
            if self._draining and not billing.responding:
                await self.end()

    async def _look_at_key(self, turns: Turns) -> None:
        now = self._loop.time()
        if now - self._looked_at >= LOOK_AGAIN_S:
            self._looked_at = now
            self._identity = await identity_of(self._credential, turns.keyring)

    async def _refused(self, error: RelayError, billing: Billing) -> End:
        """Tell the client in an event as OpenAI's, and close."""
        billing.fail(error)
        with suppress(ClientLeft):
            await self._tell(error)
        return End((POLICY_VIOLATION, error.message), (GOING_AWAY, ""))

    async def _tell(self, error: RelayError, about: str | None = None) -> None:
        """An `error` event; `about` is the client's event that it is for. Raises: ClientLeft."""
        told: dict[str, Any] = orjson.loads(RelayError.envelope(error))
        told["error"]["event_id"] = about
        event = {"type": "error", "event_id": f"event_{self._loop.time():.6f}", **told}
        await self._wire.send(orjson.dumps(event).decode())

    def _finish(self, end: End) -> None:
        if not self._ended.done():
            self._ended.set_result(end)


async def _first(ends: Iterable[asyncio.Future[Any]]) -> None:
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)


def _call(scope: Any, billing: Billing) -> Call:
    """What is asked of the upstream. Raises: RouteNotFound, InvalidRequest."""
    check_path(scope["path"])
    if not scope["raw_path"].startswith(PREFIX.encode()):
        raise RouteNotFound(f"There is no WebSocket at {scope['path']}.")
    # It asks a model, so for limits it is not the GET that it is on the wire.
    return Call(
        path=target_of(scope),
        model=model_of(scope["query_string"].decode("latin-1")),
        request_id=billing.request_id,
        identity=billing.identity,
        headers=upward(scope["headers"]),
    )


def _closed(closed: SocketClosed) -> End:
    """The upstream has closed: its code goes on, if it is one that can be sent."""
    code, reason = closed.code, closed.reason
    if code == NO_STATUS:
        return End((1000, ""), (1000, ""))
    if not _may_be_sent(code):
        return End((BAD_GATEWAY, "the upstream's connection was lost"), (GOING_AWAY, ""))
    return End((code, reason), (1000, ""))


def _sendable(code: int, reason: str) -> tuple[int, str]:
    return (code, reason) if _may_be_sent(code) else (GOING_AWAY, "the client left")


def _may_be_sent(code: int) -> bool:
    return code in {1000, 1001, 1002, 1003, *range(1007, 1015)} or 3000 <= code < 5000
