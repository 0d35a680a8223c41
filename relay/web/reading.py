"""Reading a request: its body, counted while it comes, whole or in pieces, and the JSON in it.

Whether a chat request is right is decided by a quick look at its types; pydantic is asked only when
the look found something, to say what.
"""

import json
import re
from collections.abc import Mapping
from types import NoneType
from typing import Any, NoReturn

import orjson

from relay.errors import InvalidRequest, RequestTooLarge, UnsupportedMediaType
from relay.schema import read_chat_request
from relay.types import TimeLimits
from relay.web.presence import ClientLeft, Watch
from relay.web.replies import Visit

Headers = Mapping[bytes, bytes]

TIMEOUTS_HEADER = b"x-relay-timeouts"
_LIMITS = tuple(TimeLimits.__dataclass_fields__)
_SECONDS = re.compile(r"\d{1,6}(\.\d{1,3})?")


async def read_body(visit: Visit, *, max_bytes: int) -> bytes:
    """The whole body of a request.

    Raises:
        RequestTooLarge: it is longer than `max_bytes`, announced or counted.
        ClientLeft: the client went away first.
    """
    whole = visit.client.take()
    if whole is not None:
        if len(whole) > max_bytes:
            raise too_large(max_bytes)
        return whole
    if (announced_length(visit.headers) or 0) > max_bytes:
        raise too_large(max_bytes)
    pieces: list[bytes] = []
    length = 0
    while True:
        message = await visit.client.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece: bytes = message.get("body", b"")
        pieces.append(piece)
        length += len(piece)
        if length > max_bytes:
            raise too_large(max_bytes)
        if not message.get("more_body"):
            return piece if len(pieces) == 1 else b"".join(pieces)


class StreamedBody:
    """A body that is sent on while it comes: iterated once, it gives the pieces.

    Raises:
        RequestTooLarge: more than `max_bytes` came.
        ClientLeft: the client went away before the end.
    """

    def __init__(self, watch: Watch, *, max_bytes: int) -> None:
        self._watch = watch
        self._max_bytes = max_bytes
        self._received = 0
        self.ended = False

    def __aiter__(self) -> "StreamedBody":
        return self

    async def __anext__(self) -> bytes:
        if self.ended:
            raise StopAsyncIteration
        message = await self._watch.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece: bytes = message.get("body", b"")
        self._received += len(piece)
        if self._received > self._max_bytes:
            raise too_large(self._max_bytes)
        if not message.get("more_body"):
            self.ended = True
            self._watch.listen()
        return piece


def announced_length(headers: Headers) -> int | None:
    """How long the client says its body is: 0 without a body, None when it does not know."""
    announced = headers.get(b"content-length", b"")
    if announced.isdigit():
        return int(announced)
    return None if b"transfer-encoding" in headers else 0


def too_large(max_bytes: int) -> RequestTooLarge:
    """What a client is told of a body that is too long."""
    # The rest of the body is not read, so the connection cannot be used again.
    return RequestTooLarge(
        f"The body of the request is larger than the {max_bytes} bytes allowed here.",
        headers=[(b"connection", b"close")],
    )


def read_json(body: bytes, headers: Headers) -> dict[str, Any]:
    """The JSON object that a body holds.

    Raises:
        UnsupportedMediaType: the body is declared to be something else.
        InvalidRequest: it is not JSON, or not an object.
    """
    media_type = headers.get(b"content-type", b"")
    if media_type != b"application/json":
        _check_media_type(media_type)
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        payload = _read_slowly(body)  # to say what is wrong, or to take what only json takes
    if not isinstance(payload, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return payload


def _check_media_type(given: bytes) -> None:
    media_type = given.partition(b";")[0].strip().lower()
    if media_type != b"application/json" and not media_type.endswith(b"+json"):
        name = media_type.decode("latin-1") or "none"
        raise UnsupportedMediaType(f"The content type must be application/json, not {name[:100]}.")


def _read_slowly(body: bytes) -> Any:
    try:
        return _DECODER.decode(body.decode())
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not UTF-8 text.") from None
    except json.JSONDecodeError as exc:
        raise InvalidRequest(
            f"The body is not valid JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}."
        ) from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except ValueError as exc:  # a number of thousands of digits, or NaN
        raise InvalidRequest(f"The body is not valid JSON: {exc}.") from None


def read_timeouts(headers: Headers) -> Mapping[str, float] | None:
    """The time limits that a request asks for: `x-relay-timeouts: first_byte_s=5, total_s=30`.

    Raises:
        InvalidRequest: that is no list of limits and seconds.
    """
    given = headers.get(TIMEOUTS_HEADER)
    if given is None:
        return None
    asked = {}
    for part in given.decode("latin-1").split(","):
        name, _, seconds = (word.strip() for word in part.partition("="))
        if name not in _LIMITS or not _SECONDS.fullmatch(seconds) or float(seconds) <= 0:
            raise InvalidRequest(
                f"The header x-relay-timeouts has '{part.strip()[:100]}' in it; it names limits and"
                f" seconds, such as first_byte_s=5, total_s=30. Limits are {', '.join(_LIMITS)}.",
                param="x-relay-timeouts",
            )
        asked[name] = float(seconds)
    return asked


def check_chat(payload: dict[str, Any]) -> None:
    """Whether a chat request has the types it must have; ranges are its target's business.

    Raises:
        InvalidRequest: a field is missing or wrong; `param` names it.
    """
    if not _looks_right(payload):
        read_chat_request(payload)


def _looks_right(payload: Mapping[str, Any]) -> bool:
    messages = payload.get("messages")
    if not payload.get("model") or not messages or type(messages) is not list:
        return False
    for name, value in payload.items():
        types = _TYPES.get(name)
        if types is not None and type(value) not in types:
            return False
    return all(map(_message_looks_right, messages))


def _message_looks_right(message: object) -> bool:
    if type(message) is not dict or message.get("role") not in _ROLES:
        return False
    if len(message) == 2 and type(message.get("content")) is str:
        return True  # as most are
    for name, value in message.items():
        types = _PARTS.get(name)
        if types is not None and type(value) not in types:
            return False
    content = message.get("content")
    return type(content) is not list or all(map(_is_part, content))


def _is_part(part: object) -> bool:
    return isinstance(part, dict) and isinstance(part.get("type"), str)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)

Types = frozenset[type]
_NUMBER: Types = frozenset({int, float, NoneType})
_WHOLE: Types = frozenset({int, NoneType})
_FLAG: Types = frozenset({bool, NoneType})
_TEXT: Types = frozenset({str, NoneType})
_OBJECT: Types = frozenset({dict, NoneType})
_LIST: Types = frozenset({list, NoneType})
_TYPES: dict[str, Types] = {
    "model": frozenset({str}),
    "stream": _FLAG,
    "stream_options": _OBJECT,
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "n": _WHOLE,
    "max_tokens": _WHOLE,
    "max_completion_tokens": _WHOLE,
    "max_length": _WHOLE,
    "stop": _TEXT | _LIST,
    "seed": _WHOLE,
    "frequency_penalty": _NUMBER,
    "presence_penalty": _NUMBER,
    "logprobs": _FLAG,
    "top_logprobs": _WHOLE,
    "logit_bias": _OBJECT,
    "response_format": _OBJECT,
    "tools": _LIST,
    "tool_choice": _TEXT | _OBJECT,
    "parallel_tool_calls": _FLAG,
    "user": _TEXT,
}
_ROLES = ("user", "assistant", "system", "tool", "developer", "function")
_PARTS: dict[str, Types] = {
    "content": _TEXT | _LIST,
    "name": _TEXT,
    "tool_calls": _LIST,
    "tool_call_id": _TEXT,
}
"""The types that a quick look accepts; tests hold them against the pydantic models."""
