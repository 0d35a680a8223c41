"""What `/docs` shows of `/v1/messages`, in the words of Anthropic's API.

Source: Claude API reference, "Messages", "Count message tokens", "Errors".
"""

from typing import Any

from relay.web.messages_form import COUNT_TOKENS, MESSAGES

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_CONTENT = {"anyOf": [_TEXT, {"type": "array", "items": {"type": "object"}}]}
"""Text, or blocks: text, image, document, tool_use, tool_result, thinking and others."""


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


SCHEMAS: dict[str, Any] = {
    "MessagesRequest": _object(
        ("model", "messages", "max_tokens"),
        model=_TEXT,
        messages={
            "type": "array",
            "items": _object(
                ("role", "content"),
                role={"enum": ["user", "assistant", "system"]},
                content=_CONTENT,
            ),
        },
        max_tokens={"type": "integer", "minimum": 1},
        system=_CONTENT,
        stream={"type": "boolean"},
        temperature={"type": "number"},
        top_p={"type": "number"},
        top_k=_COUNT,
        stop_sequences={"type": "array", "items": _TEXT},
        tools={"type": "array", "items": {"type": "object"}},
        tool_choice={"type": "object"},
        thinking={"type": "object"},
        metadata={"type": "object"},
    ),
    "Message": _object(
        ("id", "type", "role", "model", "content", "stop_reason", "usage"),
        id=_TEXT,
        type={"const": "message"},
        role={"const": "assistant"},
        model=_TEXT,
        content={"type": "array", "items": {"type": "object"}},
        stop_reason={"type": ["string", "null"]},
        stop_sequence={"type": ["string", "null"]},
        usage=_object(("input_tokens", "output_tokens"), input_tokens=_COUNT, output_tokens=_COUNT),
    ),
    "MessageTokens": _object(("input_tokens",), input_tokens=_COUNT),
    "MessagesError": _object(
        ("type", "error"),
        type={"const": "error"},
        error=_object(("type", "message"), type=_TEXT, message=_TEXT),
        request_id=_TEXT,
    ),
}

_REQUEST = {
    "model": "smollm2",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Hello"}],
}
_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "smollm2",
    "content": [{"type": "text", "text": "Hello!"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 9, "output_tokens": 2},
}
_FAILURES = {
    400: "The request is wrong",
    401: "No key, or one that is not valid here",
    404: "No such model",
    413: "The body is too large",
    429: "A rate limit, with `retry-after`",
    504: "The upstream took longer than a time limit allows",
    529: "Nobody can answer now",
}


def _json(schema: str, **more: Any) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}, **more}}


def _path(summary: str, description: str, answer: dict[str, Any]) -> dict[str, Any]:
    failures = {
        str(status): {"description": text, "content": _json("MessagesError")}
        for status, text in _FAILURES.items()
    }
    return {
        "post": {
            "tags": ["messages"],
            "summary": summary,
            "description": description,
            "security": [{"x-api-key": []}, {"key": []}, {}],
            "requestBody": {
                "required": True,
                "content": _json("MessagesRequest", example=_REQUEST),
            },
            "responses": {"200": answer, **failures},
        }
    }


PATHS = {
    MESSAGES: _path(
        "Create a message",
        "Anthropic's API, served by whatever answers. One of that kind gets the very bytes.",
        {
            "description": "The message, whole or (`stream: true`) as server-sent events",
            "content": {
                **_json("Message", example=_MESSAGE),
                "text/event-stream": {
                    "schema": {
                        "type": "string",
                        "description": "`message_start`, for each block `content_block_start`,"
                        " `content_block_delta` and `content_block_stop`, then `message_delta` and"
                        " `message_stop`; after a failure `error`",
                    }
                },
            },
        },
    ),
    COUNT_TOKENS: _path(
        "Count the tokens of a message",
        "Only where an upstream of kind `anthropic` serves the model.",
        {"description": "How many there are", "content": _json("MessageTokens")},
    ),
}
