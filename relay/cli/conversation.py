"""A conversation with a model: what was said, and the next answer, streamed.

An answer that was stopped stays in the conversation as far as it came; one that failed leaves no
trace, so that the question can be asked again.
"""

import json
from collections.abc import Callable
from typing import Any

from relay.cli.endpoint import error_message
from relay.errors import BackendError, UpstreamProtocol
from relay.sse import EventParser
from relay.types import Backend, Call

_HEADERS = ((b"content-type", b"application/json"), (b"accept", b"text/event-stream"))
_DONE = b"[DONE]"


class Conversation:
    """The turns so far, with one model and one system prompt, both of which may change."""

    def __init__(self, backend: Backend, *, model: str, system: str | None = None) -> None:
        self._backend = backend
        self.model = model
        self.system = system
        self.turns: list[dict[str, str]] = []

    async def ask(self, question: str, show: Callable[[str], None]) -> str:
        """Get the answer, each piece of it given to `show`; returns why it ended.

        Cancelling it closes the connection and keeps what was said so far.

        Raises:
            BackendError: there is no answer, or it broke off.
        """
        before = list(self.turns)
        self.turns.append({"role": "user", "content": question})
        pieces: list[str] = []

        def keep(piece: str) -> None:
            pieces.append(piece)
            show(piece)

        try:
            return await self._stream(keep)
        except BackendError:
            pieces.clear()
            raise
        finally:
            answer = "".join(pieces)
            if answer:
                self.turns.append({"role": "assistant", "content": answer})
            else:
                self.turns = before

    async def _stream(self, show: Callable[[str], None]) -> str:
        reason = ""
        parser = EventParser()
        async with self._backend.stream(self._call()) as answer:
            async for piece in answer:
                for data in _feed(parser, piece):
                    if data == _DONE:
                        return reason or "stop"
                    text, ended = _read_chunk(data)
                    reason = ended or reason
                    if text:
                        show(text)
        if not reason:
            raise UpstreamProtocol("the answer was cut off")
        return reason

    def _call(self) -> Call:
        system = [{"role": "system", "content": self.system}] if self.system else []
        payload = {"model": self.model, "messages": [*system, *self.turns], "stream": True}
        return Call(
            path="chat/completions",
            body=json.dumps(payload).encode(),
            payload=payload,
            model=self.model,
            stream=True,
            headers=_HEADERS,
        )


def _feed(parser: EventParser, piece: bytes) -> list[bytes]:
    try:
        return parser.feed(piece)
    except ValueError as exc:
        raise UpstreamProtocol("the answer holds an event that is too long to be read") from exc


def _read_chunk(data: bytes) -> tuple[str, str]:
    """The text of a chunk and its finish reason, either of which may be empty.

    Raises:
        UpstreamProtocol: it is an error event, or no chunk at all.
    """
    try:
        chunk: Any = json.loads(data)
        if chunk.get("error"):
            raise UpstreamProtocol(f"the answer broke off: {error_message(data)}")
        choice = (chunk.get("choices") or [{}])[0]
        text = (choice.get("delta") or {}).get("content") or ""
        return str(text), str(choice.get("finish_reason") or "")
    except (ValueError, AttributeError, LookupError, TypeError) as exc:
        raise UpstreamProtocol("the answer holds something that is no chunk") from exc
