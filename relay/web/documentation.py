"""What `/docs` shows beyond FastAPI's own: the routes that plain ASGI serves, keys, errors."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from relay.schema import (
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatCompletionResponseStreamChoice,
    ChatMessage,
    DeltaMessage,
    ErrorResponse,
    Usage,
)
from relay.web import documentation_messages

DESCRIPTION = """\
OpenAI's API, relayed: to an upstream whose key stays here, or to a model in this process.

Point any OpenAI client at `/v1`. Every other path of OpenAI's API that the setting `passthrough`
allows (embeddings, responses, images, audio, …) goes to the upstream as it is. Every error is
`{"error": {"message", "type", "param", "code"}}`, but for `/v1/messages`: that is Anthropic's API.
"""

_COMMON: dict[str, Any] = {"id": "chatcmpl-1", "created": 1767225600, "model": "smollm2"}
_ANSWER = ChatCompletionResponse(
    **_COMMON,
    object="chat.completion",
    choices=[
        ChatCompletionResponseChoice(
            index=0, message=ChatMessage(role="assistant", content="Hello!"), finish_reason="stop"
        )
    ],
    usage=Usage(prompt_tokens=9, completion_tokens=2, total_tokens=11),
)
_DELTAS = (
    (DeltaMessage(role="assistant"), None),
    (DeltaMessage(content="Hello!"), None),
    (DeltaMessage(), "stop"),
)

CHAT: dict[str, Any] = {
    "summary": "Create a chat completion",
    "tags": ["chat"],
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/ChatCompletionRequest"}
                }
            },
        }
    },
    "responses": {
        200: {
            "description": "The answer, whole or (`stream: true`) as server-sent events",
            "model": ChatCompletionResponse,
            "content": {
                "application/json": {"example": _ANSWER.model_dump(exclude_unset=True)},
                "text/event-stream": {
                    "schema": {
                        "type": "string",
                        "description": "`data: {chat.completion.chunk}` again and again, then"
                        " `data: [DONE]`; after a failure `data: {error}` and no `[DONE]`",
                    }
                },
            },
        },
        **{
            status: {"description": text, "model": ErrorResponse}
            for status, text in {
                400: "The request is wrong; `param` names the field",
                401: "No key, or one that is not valid here",
                404: "No such model",
                413: "The body is too large",
                415: "The body is not JSON",
                429: "The upstream's rate limit, with `retry-after`",
                502: "The upstream cannot be reached, refuses the relay's key or broke off",
                503: "Nobody can answer now",
                504: "The upstream took longer than a time limit allows",
            }.items()
        },
    },
}
"""Arguments of FastAPI's route decorator."""


async def chat() -> None:
    """An answer of the model to a conversation, whole or streamed.

    Plain ASGI (`chat.py`) serves this route before FastAPI sees it; this is its documentation.
    """


SECURITY = {
    "key": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "admin": {"type": "http", "scheme": "bearer", "description": "`RELAY_ADMIN_KEY`"},
}


def stream_example() -> str:
    """A whole stream as it stands on the wire."""
    chunks = [
        ChatCompletionResponse(
            **_COMMON,
            object="chat.completion.chunk",
            choices=[
                ChatCompletionResponseStreamChoice(index=0, delta=delta, finish_reason=reason)
            ],
        )
        for delta, reason in _DELTAS
    ]
    return "".join(f"data: {chunk.wire()}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def _guard(item: dict[str, Any]) -> None:
    """Say of a path of the admin API which key it takes."""
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
    refused = {"description": "No key, or not the admin's", "content": error}
    for operation in item.values():
        operation["security"] = [{"admin": []}]
        operation["responses"]["401"] = refused


def document(app: FastAPI) -> None:
    """Give the app an OpenAPI document that holds the real request schema."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=DESCRIPTION,
                routes=app.routes,
            )
            _, definitions = models_json_schema(
                [(ChatCompletionRequest, "validation")],
                ref_template="#/components/schemas/{model}",
            )
            components = schema.setdefault("components", {})
            components.setdefault("schemas", {}).update(definitions["$defs"])
            components["schemas"].update(documentation_messages.SCHEMAS)
            schema["paths"].update(documentation_messages.PATHS)
            components["securitySchemes"] = SECURITY
            schema["security"] = [{"key": []}, {}]
            for name in ("HTTPValidationError", "ValidationError"):
                components["schemas"].pop(name, None)
            for path, item in schema["paths"].items():
                for operation in item.values():
                    operation["responses"].pop("422", None)  # FastAPI's; failures.py makes it 400
                if path.startswith("/admin/"):
                    _guard(item)
            answer = schema["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]
            answer["content"]["text/event-stream"]["example"] = stream_example()
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it
