"""Frames as JSON: reading a client's, and telling errors."""

import json
from typing import Any

import orjson

from relay.errors import InvalidRequest, RelayError

GOING_AWAY = 1001
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013
"""The close codes that the relay uses (RFC 6455, 7.4.1, and IANA's list)."""


def read_frame(message: str | bytes) -> dict[str, Any]:
    """The JSON object that a frame is.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        frame = orjson.loads(message)
    except orjson.JSONDecodeError:
        frame = _read_slowly(message)
    if not isinstance(frame, dict):
        raise InvalidRequest("A frame must be a JSON object.")
    return frame


def _read_slowly(message: str | bytes) -> Any:
    try:
        return json.loads(message)  # takes lone surrogates, which stand in some questions
    except (ValueError, RecursionError):
        raise InvalidRequest("A frame must be a JSON object.") from None


def dump(frame: dict[str, Any]) -> str:
    """The text of a frame of ours."""
    text = json.dumps(frame, ensure_ascii=False)
    # A lone surrogate can stand in a question (as an escape), but not in a frame.
    return text.encode("utf-8", "replace").decode()


def error_frame(error: RelayError, **more: Any) -> str:
    """`{"type": "error", "status": …, "error": {…}}`, in the envelope's words.

    `retry_after_s` comes with errors that say when to come back.
    """
    frame = {"type": "error", **more, "status": error.status, **_envelope(error)}
    after = next((value for name, value in error.headers if name == b"retry-after"), b"")
    if after.isdigit():
        frame["retry_after_s"] = int(after)
    return dump(frame)


def _envelope(error: RelayError) -> dict[str, Any]:
    """An upstream's own error when it is one, else its status in our words."""
    try:
        body = json.loads(error.envelope())
        if isinstance(body["error"], dict):
            return {"error": body["error"]}
    except (ValueError, KeyError, TypeError):
        pass  # an upstream's page of HTML, say
    return json.loads(RelayError.envelope(error))  # type: ignore[no-any-return]  # our own JSON
