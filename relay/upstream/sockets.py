"""WebSockets to one upstream, with the hidden key.

    what happens                                      failure
    no connection, or none in connect_s               UpstreamUnreachable
    no answer to the handshake in first_byte_s more   UpstreamTimeout
    an answer that is no WebSocket's                  UpstreamProtocol
    a refused handshake                               as refused calls: see refusal.py

Redirects are not followed: that could carry the key elsewhere. Nothing is compressed, and messages
pass as they are. Proxies of the settings are used, those of the environment are not.

Source: RFC 6455.
"""

import logging
import ssl
from collections.abc import Sequence
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.typing import Subprotocol

from relay.errors import (
    RelayError,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from relay.settings import UpstreamSettings
from relay.types import Call, RawHeaders
from relay.upstream.headers import downward
from relay.upstream.key import Key, Keys
from relay.upstream.paths import path_of
from relay.upstream.reasons import cannot_be_reached
from relay.upstream.refusal import refuse
from relay.upstream.request import own_headers
from relay.upstream.tls import tls_context

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""The largest message that is taken from an upstream: four of them may wait to be read."""

MAX_WAITING = 4
CLOSE_WAIT_S = 2.0

NO_STATUS = 1005
LOST = 1006
"""What stands for the code of a close that had none, and of a connection that was lost."""

_SILENT = logging.Logger("websockets", logging.CRITICAL + 1)
"""That library logs headers at its most talkative, and they hold the key."""


class SocketClosed(Exception):
    """The upstream has closed the socket, or it was lost (code 1006)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code}")
        self.code = code
        self.reason = reason


class UpstreamSocket:
    """One open socket. Whoever has it closes it."""

    def __init__(self, connection: ClientConnection) -> None:
        self.subprotocol: str | None = connection.subprotocol
        self._connection = connection

    async def receive(self) -> str | bytes:
        """The next message. Raises: SocketClosed."""
        try:
            return await self._connection.recv()
        except ConnectionClosed as exc:
            raise _closed(exc) from None

    async def send(self, message: str | bytes) -> None:
        """Send a message, as soon as there is room for it. Raises: SocketClosed."""
        try:
            await self._connection.send(message)
        except ConnectionClosed as exc:
            raise _closed(exc) from None

    async def close(self, code: int, reason: str) -> None:
        """Close it; the upstream has two seconds to agree."""
        await self._connection.close(code, reason)


class UpstreamSockets:
    """Opens them; `keys` are those of the upstream's calls."""

    def __init__(self, settings: UpstreamSettings, keys: Keys) -> None:
        self._settings = settings
        self._keys = keys
        self._path_of = path_of(settings)
        self._own = own_headers(settings)
        self._base = "ws" + settings.base_url.removeprefix("http").rstrip("/") + "/"
        self._tls: ssl.SSLContext | None = None

    async def open(self, call: Call, subprotocols: Sequence[str]) -> UpstreamSocket:
        """A socket at the call's path, which offers those subprotocols.

        Raises:
            BackendError: as the table above says.
        """
        key = self._keys.take() or await self._keys.fetch()
        try:
            connection = await self._connect(call, subprotocols, key)
        except InvalidStatus as exc:
            raise await self._refusal(exc, key) from None
        except TimeoutError as exc:
            raise self._failure(UpstreamTimeout, "took too long to open a WebSocket") from exc
        except (ProxyError, OSError, ImportError, InvalidURI) as exc:
            raise self._failure(UpstreamUnreachable, cannot_be_reached(exc)) from exc
        except InvalidHandshake as exc:
            raise self._failure(UpstreamProtocol, "does not speak WebSocket as it should") from exc
        if key.on_trial:
            self._keys.accepted(key)
        return UpstreamSocket(connection)

    async def _connect(self, call: Call, subprotocols: Sequence[str], key: Key) -> ClientConnection:
        settings, timeouts = self._settings, self._settings.timeouts
        if self._tls is None and self._base.startswith("wss:"):
            self._tls = tls_context(settings)
        more: dict[str, Any] = {} if self._tls is None else {"ssl": self._tls}
        return await _Straight(
            self._base + self._path_of(call),
            subprotocols=[cast(Subprotocol, one) for one in subprotocols] or None,
            additional_headers=self._headers(call.headers, key),
            user_agent_header=None,
            compression=None,
            proxy=settings.proxy,
            open_timeout=timeouts.connect_s + timeouts.first_byte_s,
            close_timeout=CLOSE_WAIT_S,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=MAX_WAITING,
            logger=_SILENT,
            **more,
        )

    def _headers(self, given: RawHeaders, key: Key) -> list[tuple[str, str]]:
        ours = dict([key.header]) if key.header is not None else {}
        ours |= self._own
        theirs = [pair for pair in given if pair[0] not in ours]
        every = [*theirs, *ours.items()]
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in every]

    async def _refusal(self, exc: InvalidStatus, key: Key) -> RelayError:
        """The error for an answer that opens no socket."""
        head = _Head(exc)
        if head.status < 300:
            return self._failure(UpstreamProtocol, "does not open a WebSocket there")
        try:
            await refuse(self._settings.name, head, head.rest, keys=self._keys, key=key)
        except RelayError as refused:
            return refused

    def _failure(self, kind: type[RelayError], what: str) -> RelayError:
        return kind(f"The upstream '{self._settings.name}' {what}.")


class _Straight(connect):
    """Follows no redirect."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Head:
    """The beginning of an answer that was no 101."""

    def __init__(self, exc: InvalidStatus) -> None:
        response = exc.response
        self.status = response.status_code
        self.headers = downward(
            [
                (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
                for name, value in response.headers.raw_items()
            ]
        )
        self._body = bytes(response.body or b"")

    async def rest(self) -> bytes:
        return self._body


def _closed(exc: ConnectionClosed) -> SocketClosed:
    if exc.rcvd is None:
        return SocketClosed(LOST, "")
    return SocketClosed(exc.rcvd.code, exc.rcvd.reason)
