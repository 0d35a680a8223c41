"""One open WebSocket: messages in and out, whoever serves it."""

from starlette.types import Message, Receive, Scope, Send

from relay.errors import RelayError
from relay.web.presence import ClientLeft
from relay.web.replies import JSON
from relay.web.sockets.frames import POLICY_VIOLATION

MAX_REASON_BYTES = 123
"""What a close frame has room for."""

TOO_BIG = 1009
BYTES_PER_CHARACTER = 4
"""At most, in UTF-8."""

_REFUSAL = "websocket.http.response"
"""The extension of ASGI by which a handshake is answered with more than a bare 403."""


class Wire:
    """A socket under ASGI. `code` and `reason` are those of the client's close, once it left.

    A message of more than `max_bytes` closes it: our own server has that limit before it holds the
    message, another one has its own.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_bytes: int) -> None:
        self.scope = scope
        self._max_bytes = max_bytes
        self.code = 1005
        self.reason = ""
        self._receive = receive
        self._send = send
        self._closed = False
        self._connected = False

    async def connected(self) -> None:
        """Take the handshake; the client waits for an answer to it."""
        if not self._connected:
            self._connected = True
            await self._receive()

    async def left(self) -> None:
        """Until the client gives up waiting for its handshake's answer."""
        try:
            await self.receive()
        except ClientLeft:
            return

    async def accept(self, subprotocol: str | None) -> None:
        """Open the socket. Raises: ClientLeft."""
        await self.connected()
        await self._put({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})

    async def refuse(self, error: RelayError) -> None:
        """Answer the handshake with an HTTP error instead of opening the socket."""
        if _REFUSAL not in (self.scope.get("extensions") or {}):
            await self._send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        headers = [JSON, *((name, value) for name, value in error.headers if name != JSON[0])]
        start = {"type": "websocket.http.response.start", "status": error.status}
        await self._send({**start, "headers": headers})
        await self._send({"type": "websocket.http.response.body", "body": error.envelope()})

    async def receive(self) -> str | bytes:
        """The next message. Raises: ClientLeft: there is none any more, whoever closed."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._closed = True
            self.code = message.get("code") or 1005
            self.reason = message.get("reason") or ""
            raise ClientLeft
        text: str | None = message.get("text")
        said: str | bytes = message["bytes"] if text is None else text
        if len(said) * BYTES_PER_CHARACTER > self._max_bytes and _size(said) > self._max_bytes:
            await self.close(TOO_BIG, f"more than {self._max_bytes} bytes")
            raise ClientLeft
        return said

    async def send(self, message: str | bytes) -> None:
        """Send a message, as soon as there is room for it. Raises: ClientLeft."""
        kind = "text" if isinstance(message, str) else "bytes"
        await self._put({"type": "websocket.send", kind: message})

    async def close(self, code: int, reason: str = "") -> None:
        """Close the socket, if it is open still; whoever receives then hears that it is."""
        if not self._closed:
            closing = {"type": "websocket.close", "code": code}
            short = reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")
            try:
                await self._put({**closing, "reason": short}, last=True)
            except ClientLeft:
                return

    async def _put(self, message: Message, *, last: bool = False) -> None:
        if self._closed:
            raise ClientLeft
        self._closed = last  # those who wait for room already come before it
        try:
            await self._send(message)
        except OSError:  # as ASGI has it for a client that is gone
            self._closed = True
            raise ClientLeft from None


def _size(message: str | bytes) -> int:
    return len(message.encode("utf-8", "replace") if isinstance(message, str) else message)
