"""What the workers and the process that has the local model tell each other, over a unix socket.

    worker     CALL, BODY      one call; closing the connection cancels it
    process    HEAD, PIECE …, END     its answer; or FAILURE, at any time
    worker     WATCH           from now on
    process    STATE           how the model does, and again whenever that changes

A frame is its kind (a byte), the length of what follows (four), and that: JSON, but for bodies.
"""

import asyncio
import struct
from typing import Any

import orjson

from relay import errors
from relay.errors import BackendError, RelayError, UpstreamStatus
from relay.types import Call, RawHeaders

CALL, BODY, WATCH = b"c", b"b", b"w"
HEAD, PIECE, END, FAILURE, STATE = b"h", b"p", b"e", b"x", b"s"

BUFFER_BYTES = 256 * 1024
"""What one side holds of a frame that the other has not read; then the sender waits."""

_PREFIX = struct.Struct(">cI")
PREFIX_BYTES = _PREFIX.size
"""What stands in front of a frame's content."""

_ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, RelayError)
}


class Lost(Exception):
    """The other side has closed the connection, or is gone."""


def frame(kind: bytes, content: bytes = b"") -> bytes:
    """A frame, as it is sent."""
    return _PREFIX.pack(kind, len(content)) + content


def of_json(kind: bytes, value: object) -> bytes:
    """A frame that holds JSON."""
    return frame(kind, orjson.dumps(value))


async def read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next frame: its kind and what is in it. Raises: Lost."""
    try:
        kind, length = _PREFIX.unpack(await reader.readexactly(_PREFIX.size))
        return kind, await reader.readexactly(length)
    except (OSError, asyncio.IncompleteReadError) as exc:
        raise Lost from exc


def of_call(call: Call, *, whole: bool) -> bytes:
    """A call, to be answered in one piece or as a stream.

    What is only passed on has no payload; it is not looked at here, either.
    """
    head = {
        "path": call.path,
        "method": call.method,
        "model": call.model,
        "stream": call.stream,
        "request_id": call.request_id,
        "whole": whole,
        "parsed": bool(call.payload),
    }
    body = call.body or (orjson.dumps(call.payload) if call.payload else b"")
    return of_json(CALL, head) + frame(BODY, body)


def call_of(head: bytes, body: bytes) -> tuple[Call, bool]:
    """That call again, and whether it is to be answered in one piece."""
    fields = orjson.loads(head)
    whole, parsed = fields.pop("whole"), fields.pop("parsed")
    return Call(body=body, payload=orjson.loads(body) if parsed else {}, **fields), whole


def of_answer(status: int, headers: RawHeaders) -> bytes:
    """The head of an answer."""
    pairs = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]
    return of_json(HEAD, [status, pairs])


def answer_of(head: bytes) -> tuple[int, RawHeaders]:
    """Its status and headers."""
    status, pairs = orjson.loads(head)
    return status, tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs)


def of_failure(error: RelayError) -> bytes:
    """What went wrong; the other side raises the same."""
    told: dict[str, Any] = {
        "kind": type(error).__name__,
        "message": error.message.encode("utf-8", "replace").decode(),
        "param": error.param,
        "code": error.code,
        "headers": [[n.decode("latin-1"), v.decode("latin-1")] for n, v in error.headers],
    }
    if isinstance(error, UpstreamStatus):  # the echo fails as providers do
        told |= {"status": error.status, "body": error.body.decode()}
    return of_json(FAILURE, told)


def failure_of(content: bytes) -> RelayError:
    """The error that was told."""
    told = orjson.loads(content)
    kind = _ERRORS.get(told["kind"], BackendError)
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told["headers"]]
    if kind is UpstreamStatus:
        return UpstreamStatus(told["status"], headers=headers, body=told["body"].encode())
    return kind(told["message"], param=told["param"], code=told["code"], headers=headers)
