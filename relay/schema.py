"""The wire: OpenAI's chat format as pydantic models, under their classic names.

They are the schema of `/docs`, of what the relay makes itself, and of the error report. A relayed
body is never remodelled by them. Every model carries unknown fields through (`extra="allow"`); what
was not set is not sent (`exclude_unset`).

Source: OpenAI's API reference (chat completions, models); the class names and the field order are
those of ChatGLM's OpenAI-format server.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relay.errors import InvalidRequest


class Wire(BaseModel):
    """A JSON object of the API; fields it does not know are kept."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    def wire(self) -> str:
        """Compact JSON holding just the fields that were set; text is not escaped to ASCII."""
        return self.model_dump_json(exclude_unset=True)


class ModelCard(Wire):
    """One model of `GET /v1/models`."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix seconds")
    owned_by: str
    root: str | None = None
    parent: str | None = None
    permission: list[Any] | None = None


class ModelList(Wire):
    """The answer of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


MAX_TOKENS = 2**31 - 1
"""What engines can count to."""

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class ContentPart(Wire):
    """A piece of a message: text, an image, audio, a file."""

    type: str


class ChatMessage(Wire):
    """One turn of a conversation."""

    role: Role
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = Field(
        default=None, description="Calls that an assistant message makes"
    )
    tool_call_id: str | None = Field(
        default=None, description="The call that a tool message answers"
    )


class DeltaMessage(Wire):
    """What a chunk adds: the first has only the role, later ones only content."""

    role: Role | None = None
    content: str | None = None


class StreamOptions(Wire):
    """Options of a streamed answer."""

    include_usage: bool | None = Field(
        default=None, description="Ask for one more chunk, with `usage` and no choices"
    )


class ChatCompletionRequest(Wire):
    """The body of `POST /v1/chat/completions`. Unknown fields travel on as they are."""

    model_config = ConfigDict(
        extra="allow",
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {"model": "smollm2", "messages": [{"role": "user", "content": "Say hello."}]},
                {
                    "model": "smollm2",
                    "stream": True,
                    "messages": [
                        {"role": "system", "content": "Answer in one sentence."},
                        {"role": "user", "content": "What is a relay?"},
                    ],
                },
            ]
        },
    )

    model: Annotated[str, Field(min_length=1, strict=True)]
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    stream: Annotated[bool, Field(strict=True)] | None = Field(
        default=None, description="Answer with server-sent events"
    )
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2, strict=True)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1, strict=True)] | None = None
    n: Annotated[int, Field(ge=1, le=128, strict=True)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS, strict=True)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS, strict=True)] | None = None
    max_length: Annotated[int, Field(ge=1, le=MAX_TOKENS, strict=True)] | None = Field(
        default=None, description="ChatGLM's limit: tokens of the prompt and the answer together"
    )
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(strict=True)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2, strict=True)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2, strict=True)] | None = None
    logprobs: Annotated[bool, Field(strict=True)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20, strict=True)] | None = None
    logit_bias: dict[str, float] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: Annotated[bool, Field(strict=True)] | None = None
    user: str | None = None


class Usage(Wire):
    """Tokens used."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletionResponseChoice(Wire):
    """One whole answer."""

    index: int
    message: ChatMessage
    finish_reason: str | None = Field(
        description="stop, length, tool_calls, content_filter; null is not sent here"
    )


class ChatCompletionResponseStreamChoice(Wire):
    """What one chunk adds to one answer."""

    index: int
    delta: DeltaMessage
    finish_reason: str | None = Field(description="null until the last chunk")


class ChatCompletionResponse(Wire):
    """A whole answer (`chat.completion`) or one chunk of a stream (`chat.completion.chunk`)."""

    id: str
    created: int = Field(description="Unix seconds")
    model: str
    object: Literal["chat.completion", "chat.completion.chunk"]
    choices: list[ChatCompletionResponseChoice | ChatCompletionResponseStreamChoice]
    usage: Usage | None = None


class ErrorBody(Wire):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(Wire):
    """The body of every error."""

    error: ErrorBody


def read_chat_request(payload: object) -> ChatCompletionRequest:
    """Check a parsed body against the schema.

    Raises:
        InvalidRequest: a field is missing or wrong; `param` is its path (`messages[0].role`).
    """
    try:
        return ChatCompletionRequest.model_validate(payload)
    except ValidationError as exc:
        raise invalid(exc) from exc


def invalid(exc: ValidationError) -> InvalidRequest:
    """The first fault pydantic found, as the error that names the field."""
    errors = exc.errors(include_url=False, include_context=False, include_input=False)
    # Of a union every branch reports; the deepest path is the branch the client meant, and of two
    # as deep the one whose type is right.
    fault = max(errors, key=lambda error: (len(error["loc"]), not error["type"].endswith("_type")))
    param = field_path(fault["loc"])
    where = f"'{param}'" if param else "the body"
    return InvalidRequest(f"Invalid value for {where}: {fault['msg']}.", param=param or None)


def field_path(loc: tuple[int | str, ...]) -> str:
    """A pydantic location as OpenAI writes it: `("messages", 0, "role")` is `messages[0].role`."""
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step.isidentifier() and step not in _UNION_BRANCHES:
            path += f".{step}" if path else step
    return path


_UNION_BRANCHES = frozenset({"str", "bool", "ContentPart", "StreamOptions"})
"""Names that pydantic puts into a location for the branch of a union, which no field has."""
