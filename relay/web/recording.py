"""A client whose request and answer are kept, as a key's policy may ask for."""

from collections.abc import Callable
from typing import Any

from starlette.types import Message

from relay.types import RawHeaders
from relay.web.client import Client, Wait

MAX_BYTES = 1024 * 1024
"""Of a request's body and of an answer's, each; what is longer is cut."""


class Recording:
    """Stands before a `Client`, and notes what passes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._request = bytearray()
        self._answer = bytearray()

    def __getattr__(self, name: str) -> Any:
        """Whatever is not about bodies is the client's own."""
        return getattr(self.client, name)

    @property
    def on_leave(self) -> Callable[[], None] | None:
        """As the client's."""
        return self.client.on_leave

    @on_leave.setter
    def on_leave(self, on_leave: Callable[[], None] | None) -> None:
        self.client.on_leave = on_leave

    def bodies(self) -> tuple[bytes, bytes]:
        """The request's and the answer's, as far as they are kept."""
        return bytes(self._request), bytes(self._answer)

    def take(self) -> bytes | None:
        """The request's body, if all of it is here."""
        body = self.client.take()
        if body is not None:
            _note(self._request, body)
        return body

    async def receive(self) -> Message:
        """ASGI's `receive`."""
        message = await self.client.receive()
        _note(self._request, message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """ASGI's `send`."""
        _note(self._answer, message.get("body", b""))
        await self.client.send(message)

    def answer(self, status: int, headers: RawHeaders, body: bytes, lines: bytes = b"") -> Wait:
        """The whole answer."""
        _note(self._answer, body)
        return self.client.answer(status, headers, body, lines)

    def write(self, piece: bytes) -> Wait:
        """A piece of it."""
        _note(self._answer, piece)
        return self.client.write(piece)

    def end(self, piece: bytes = b"") -> Wait:
        """The last piece of it."""
        _note(self._answer, piece)
        return self.client.end(piece)


def _note(kept: bytearray, piece: bytes) -> None:
    room = MAX_BYTES - len(kept)
    if room > 0:
        kept += piece[:room]
