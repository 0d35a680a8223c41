"""Errors of one dialect as errors of the other: status, type, message.

    Anthropic                           OpenAI
    400 invalid_request_error           400 invalid_request_error  (context_length_exceeded)
    401 authentication_error            401 authentication_error   invalid_api_key
    402 billing_error                   429 insufficient_quota     insufficient_quota
    403 permission_error                403 permission_error
    404 not_found_error                 404 invalid_request_error  not_found (model_not_found)
    409 conflict_error                  409 invalid_request_error
    413 request_too_large               413 invalid_request_error  request_too_large
    429 rate_limit_error                429 rate_limit_error       rate_limit_exceeded
    500 api_error                       500 server_error
    504 timeout_error                   504 upstream_error         upstream_timeout
    529 overloaded_error                503 upstream_error         overloaded

Any other status stays, with the type of its class. A body that is no error of its dialect (a
proxy's HTML, say) is not shown.

Source: Claude API reference, "Errors"; OpenAI API reference, "Error codes".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.dialects import json_text
from relay.dialects.fields import or_empty

OVERLOADED = 529
"""Anthropic's own status for "come back later"."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error to answer with: the status and the body."""

    status: int
    body: bytes


_CHAT: Mapping[str, tuple[str, str | None]] = {
    "invalid_request_error": ("invalid_request_error", None),
    "authentication_error": ("authentication_error", "invalid_api_key"),
    "billing_error": ("insufficient_quota", "insufficient_quota"),
    "permission_error": ("permission_error", None),
    "not_found_error": ("invalid_request_error", "not_found"),
    "conflict_error": ("invalid_request_error", None),
    "request_too_large": ("invalid_request_error", "request_too_large"),
    "rate_limit_error": ("rate_limit_error", "rate_limit_exceeded"),
    "api_error": ("server_error", None),
    "timeout_error": ("upstream_error", "upstream_timeout"),
    "overloaded_error": ("upstream_error", "overloaded"),
}
"""OpenAI's type and code by Anthropic's type."""
_CHAT_STATUS = {402: 429, OVERLOADED: 503}

_TYPE_BY_STATUS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    OVERLOADED: "overloaded_error",
}
_STATUS_BY_TYPE = {kind: status for status, kind in _TYPE_BY_STATUS.items()}
_TYPE_BY_CODE = {
    "insufficient_quota": "billing_error",
    "invalid_api_key": "authentication_error",
    "model_not_found": "not_found_error",
    "not_found": "not_found_error",
    "no_upstream_available": "overloaded_error",
    "overloaded": "overloaded_error",
    "rate_limit_exceeded": "rate_limit_error",
    "request_too_large": "request_too_large",
    "upstream_timeout": "timeout_error",
}
_MESSAGES_STATUS = {"billing_error": 402, "overloaded_error": OVERLOADED}
_SAME_IN_BOTH = frozenset(
    {
        "authentication_error",
        "invalid_request_error",
        "permission_error",
        "rate_limit_error",
    }
)

_TOO_LONG = ("prompt is too long", "exceed context limit")
"""What Anthropic says, with the figures, when a conversation does not fit the model. There is no
code for it, so clients look for these words."""


def status_of(error: Mapping[str, Any]) -> int:
    """The status that Anthropic has for an `error` that came as an event."""
    kind = str(error.get("type"))
    return _STATUS_BY_TYPE.get(kind, 400 if kind == "invalid_request_error" else 500)


def status_of_event(error: Mapping[str, Any]) -> int:
    """The status that OpenAI has for an `error` that came as an event, of either dialect."""
    code = error.get("code")
    if isinstance(code, int) and 400 <= code < 600:  # as vLLM and OpenRouter tell it
        return to_chat_status(code)
    kind = _TYPE_BY_CODE.get(str(code))
    return to_chat_status(_STATUS_BY_TYPE[kind] if kind else status_of(error))


def to_chat_status(status: int) -> int:
    """The status that OpenAI has for one of Anthropic's."""
    return _CHAT_STATUS.get(status, status)


def to_chat(status: int, body: bytes) -> Failure:
    """An error answer of Anthropic's as one of OpenAI's."""
    error = _error_in(body)
    kind = error.get("type")
    if not isinstance(kind, str) or kind not in _CHAT:
        error = {**error, "type": _type_of(status)}
    if not isinstance(error.get("message"), str):
        error = {**error, "message": f"The upstream answered with status {status}."}
    return Failure(to_chat_status(status), to_chat_envelope(error))


def to_chat_envelope(error: Mapping[str, Any]) -> bytes:
    """The `error` of Anthropic's answers and events (type, message) in OpenAI's envelope."""
    given = str(error.get("type") or "api_error")
    message = str(error.get("message") or "The upstream reported an error.")
    kind, code = _CHAT.get(given, ("upstream_error", None))
    if given == "invalid_request_error" and any(words in message for words in _TOO_LONG):
        code = "context_length_exceeded"
    if given == "not_found_error" and message.startswith("model"):
        code = "model_not_found"
    return json_text.dump(
        {"error": {"message": message, "type": kind, "param": None, "code": code}}
    )


def to_messages_status(status: int, body: bytes) -> int:
    """The status of an answer of Anthropic's whose own was `to_chat_status`, by what it says."""
    return _MESSAGES_STATUS.get(str(_error_in(body).get("type")), status)


def to_messages(status: int, body: bytes, *, request_id: str = "") -> Failure:
    """An error answer of OpenAI's, ours included, as one of Anthropic's."""
    error = _error_in(body)
    kind = _TYPE_BY_CODE.get(str(error.get("code"))) or _type_of(status)
    message = error.get("message")
    if not isinstance(message, str):
        message = f"The upstream answered with status {status}."
    if error.get("code") == "context_length_exceeded" and _TOO_LONG[0] not in message:
        message = f"{_TOO_LONG[0]}: {message}"
    return Failure(_MESSAGES_STATUS.get(kind, status), _messages_body(kind, message, request_id))


def to_messages_envelope(error: Mapping[str, Any], *, request_id: str = "") -> bytes:
    """The `error` of an OpenAI-format event in Anthropic's envelope."""
    given = str(error.get("type"))
    kind = _TYPE_BY_CODE.get(str(error.get("code")))
    kind = kind or (given if given in _SAME_IN_BOTH else "api_error")
    message = str(error.get("message") or "The upstream reported an error.")
    return _messages_body(kind, message, request_id)


def _messages_body(kind: str, message: str, request_id: str) -> bytes:
    body: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": message}}
    if request_id:
        body["request_id"] = request_id
    return json_text.dump(body)


def _type_of(status: int) -> str:
    if kind := _TYPE_BY_STATUS.get(status):
        return kind
    return "api_error" if status >= 500 else "invalid_request_error"


def _error_in(body: bytes) -> Mapping[str, Any]:
    """What a body holds as its error; servers also write it as a string."""
    try:
        error = json_text.load_object(body).get("error")
    except ValueError:
        return {}
    return {"message": error} if isinstance(error, str) else or_empty(error)
