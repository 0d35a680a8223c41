"""Where WebSockets come in: the handshake, whose it is, and what is behind it.

    /ws                     chats                                   conversation.py
    websocket.passthrough   passed on to the upstream               tunnel.py
    any other               404 in place of an open socket

A key that is wrong in the handshake is refused there, as over HTTP. One that comes in the first
frame has a time limit; a wrong one is told in a frame, and the socket is closed. So is one that is
too many, since a page can see the code of a close, and not the status of a refused handshake.
"""

import asyncio

from starlette.types import Receive, Scope, Send

from relay.errors import (
    InvalidApiKey,
    InvalidRequest,
    NotPermitted,
    OriginNotAllowed,
    Overloaded,
    RateLimited,
    RelayError,
    RouteNotFound,
)
from relay.types import Identity
from relay.web.presence import ClientLeft
from relay.web.sockets.conversation import Conversation
from relay.web.sockets.credential import (
    SUBPROTOCOL,
    Credential,
    credential_of,
    identity_of,
    key_credential,
    no_credential,
)
from relay.web.sockets.crowd import Crowd
from relay.web.sockets.frames import (
    GOING_AWAY,
    POLICY_VIOLATION,
    TRY_AGAIN_LATER,
    error_frame,
    read_frame,
)
from relay.web.sockets.tunnel import Tunnel, passes
from relay.web.sockets.turn import Latest, Turns
from relay.web.sockets.wire import Wire

PATH = "/ws"


NOBODY = Identity("")
"""Whose sockets those are that have not sent their key yet."""


class _Stranger:
    """A socket whose key is still to come: nothing runs on it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def drain(self) -> None:
        await self._wire.close(GOING_AWAY, "the relay is stopping")

    end = drain


class Gate:
    """The ASGI application of all WebSockets, behind nothing that belongs to one configuration."""

    def __init__(self, latest: Latest, crowd: Crowd) -> None:
        self._latest = latest
        self._crowd = crowd

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # No local may hold what `_latest` gives: this frame lives as long as the socket.
        wire = Wire(scope, receive, send, self._latest().limits.max_frame_bytes)
        try:
            credential = await _check_handshake(scope, self._latest())
            if scope["path"] == PATH:
                await self._chat(wire, credential)
            else:
                await Tunnel(wire, self._latest, self._crowd, credential).run()
        except RelayError as error:
            await wire.refuse(error)
        except ClientLeft:
            return

    async def _chat(self, wire: Wire, credential: Credential | None) -> None:
        offered = SUBPROTOCOL in wire.scope["subprotocols"]
        await wire.accept(SUBPROTOCOL if offered else None)
        try:
            credential = credential or await self._first_frame_key(wire)
            identity = await identity_of(credential, self._latest().keyring)
            conversation = Conversation(wire, self._latest, credential)
            with self._crowd.entered(conversation, identity, self._latest().limits.max_open):
                await conversation.run()
        except (InvalidApiKey, NotPermitted, Overloaded, RateLimited) as error:
            await wire.send(error_frame(error))
            late = isinstance(error, Overloaded | RateLimited)
            await wire.close(TRY_AGAIN_LATER if late else POLICY_VIOLATION, error.message)

    async def _first_frame_key(self, wire: Wire) -> Credential:
        limits = self._latest().limits
        try:
            with self._crowd.entered(_Stranger(wire), NOBODY, limits.max_open):
                async with asyncio.timeout(limits.key_wait_s):
                    message = await wire.receive()
        except TimeoutError:
            raise InvalidApiKey("No API key came in time.") from None
        try:
            key = read_frame(message).get("key")
        except InvalidRequest:
            key = None
        if not isinstance(key, str):
            raise InvalidApiKey('An API key is needed: send {"key": "…"} as the first frame.')
        return key_credential(key, wire.scope)


async def _check_handshake(scope: Scope, turns: Turns) -> Credential | None:
    """What tells who is calling; None when the key is still to come as a frame."""
    await turns.keyring.settle()
    chats = scope["path"] == PATH
    if not chats and not passes(scope["path"], turns):
        raise RouteNotFound(f"There is no WebSocket at {scope['path']}.")
    check_origin(scope, turns)
    credential = credential_of(scope)
    if credential is not None:
        await identity_of(credential, turns.keyring)
    elif not turns.keyring.guarded():
        return no_credential
    elif not chats:  # its first frame is for the upstream
        raise InvalidApiKey("No API key was given: send it as 'Authorization: Bearer KEY'.")
    return credential


def check_origin(scope: Scope, turns: Turns) -> None:
    """Hold a page's origin against the list of CORS. Raises: OriginNotAllowed."""
    origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
    if origin is not None and not turns.origins.allows(origin, scope):
        raise OriginNotAllowed("Pages of this origin may not call the relay.")
