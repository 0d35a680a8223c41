"""The chat frames: a whole chat request in, each chunk of its answer out as it came.

    client  {"type": "chat", "id": "a", "request": {"model": "…", "messages": […], …}}
    relay   {"type": "chunk", "id": "a", "data": {…}}        a chunk of OpenAI's
            {"type": "done", "id": "a"}

The request goes up with the very bytes that it had in its frame; `stream` is true whatever it says.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from relay import splice
from relay.errors import BackendError, InvalidRequest, RelayError, UpstreamProtocol
from relay.sse import EventParser
from relay.types import Call, Identity
from relay.web.models import Models
from relay.web.reading import check_chat
from relay.web.recording import MAX_BYTES
from relay.web.replies import JSON
from relay.web.sockets.frames import error_frame

_STREAM = b'"stream": true'


class ChatAnswer:
    """How the request of one chat frame is made, and its answer told."""

    def __init__(self, id_: str, frame: Mapping[str, Any], message: str | bytes) -> None:
        """`message` is the frame as it came.

        Raises:
            InvalidRequest: the request is missing or wrong; `param` names the field.
        """
        payload = frame.get("request")
        if not isinstance(payload, dict):
            raise InvalidRequest("'request' must be a chat completion request.", param="request")
        check_chat(payload)
        self._id = id_
        self._payload = payload
        self._body = _body(payload, message)
        self._chunk = f'{{"type":"chunk","id":{json.dumps(id_)},"data":'.encode()
        self._parser = EventParser()
        self._whole = False
        self._said = bytearray()

    async def call(self, _: Models, identity: Identity, request_id: str) -> Call:
        """What is asked."""
        return Call(
            path="chat/completions",
            body=self._body,
            payload={**self._payload, "stream": True},
            model=self._payload["model"],
            stream=True,
            request_id=request_id,
            identity=identity,
            headers=(JSON,),
        )

    def read(self, piece: bytes) -> Iterator[str]:
        """The frames that the next bytes of the answer make.

        Raises:
            UpstreamProtocol: what came is no stream of chunks.
            BackendError: the stream carried an error.
        """
        if len(self._said) < MAX_BYTES:
            self._said += piece
        try:
            events = self._parser.feed(piece)
        except ValueError:
            raise _unreadable() from None
        for data in events:
            if data == b"[DONE]":
                self._whole = True
            else:
                self._check(data)
                yield (self._chunk + data + b"}").decode()

    def _check(self, data: bytes) -> None:
        """Whether it is a chunk: a frame around anything else would be no JSON."""
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise _unreadable() from None
        if not isinstance(chunk, dict):
            raise _unreadable()
        if error := chunk.get("error"):
            raise _StreamError(error)
        for choice in chunk.get("choices") or ():
            if isinstance(choice, dict) and choice.get("finish_reason"):
                self._whole = True

    def close(self) -> None:
        """The answer is over. Raises: UpstreamProtocol: it broke off."""
        if not self._whole:
            raise UpstreamProtocol("The upstream broke off before its answer was whole.")

    def said(self) -> bytes:
        """What was answered, to be kept."""
        return bytes(self._said)

    def done(self) -> str:
        """The last frame of an answer."""
        return json.dumps({"type": "done", "id": self._id})

    def failed(self, error: RelayError) -> str:
        """The last frame of one that failed."""
        return error_frame(error, id=self._id)


class _StreamError(BackendError):
    """An error that the upstream told inside its stream; the client gets it as it is."""

    def __init__(self, error: object) -> None:
        told = error if isinstance(error, dict) else {"message": "The upstream failed."}
        super().__init__(str(told.get("message") or "The upstream failed."))
        self._error = {"message": self.message, "type": self.type, "param": None, "code": None}
        self._error |= told

    def envelope(self) -> bytes:
        """The upstream's own error, with what it left out."""
        return orjson.dumps({"error": self._error})


def _body(payload: Mapping[str, Any], message: str | bytes) -> bytes:
    """The request's own bytes, but for its `stream`."""
    try:
        text = message if isinstance(message, str) else message.decode()
        start, end = splice.members(text)["request"]
        if payload.get("stream") is True:
            return text[start:end].encode()
        if "stream" not in payload:
            return splice.append(text[start:end].encode(), _STREAM)
        text = text[start:end]
        return splice.replace(text, [(splice.members(text)["stream"], "true")])
    except RecursionError:  # read a few frames higher up, where it just fitted
        raise InvalidRequest("The request is nested too deeply.", param="request") from None


def _unreadable() -> UpstreamProtocol:
    return UpstreamProtocol("The upstream's stream cannot be read.")
