"""Anthropic's wire as strict shapes, written from its public API reference, and two readers.

The official package takes much and complains of little; what is checked here is what it relies on:
the fields it requires, the order of events, indexes that count up, JSON that adds up.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from relay.sse import EventParser


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Text(Shape):
    type: Literal["text"]
    text: Annotated[str, Field(pattern=r"\S")]
    cache_control: dict[str, Any] | None = None


class Base64(Shape):
    type: Literal["base64"]
    media_type: str
    data: str


class Url(Shape):
    type: Literal["url"]
    url: str


class Image(Shape):
    type: Literal["image"]
    source: Annotated[Base64 | Url, Field(discriminator="type")]
    cache_control: dict[str, Any] | None = None


class Document(Shape):
    type: Literal["document"]
    source: Base64
    title: str | None = None
    cache_control: dict[str, Any] | None = None


class Thinking(Shape):
    type: Literal["thinking"]
    thinking: str
    signature: str


class Redacted(Shape):
    type: Literal["redacted_thinking"]
    data: str


class ToolUse(Shape):
    type: Literal["tool_use"]
    id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$")]
    name: Annotated[str, Field(min_length=1)]
    input: dict[str, Any]


class ToolResult(Shape):
    type: Literal["tool_result"]
    tool_use_id: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$")]
    content: list[Annotated[Text | Image | Document, Field(discriminator="type")]] | None = None
    is_error: bool = False


Given = Annotated[
    Text | Image | Document | Thinking | Redacted | ToolUse | ToolResult,
    Field(discriminator="type"),
]


class Turn(Shape):
    role: Literal["user", "assistant"]
    content: Annotated[list[Given], Field(min_length=1)]


class InputSchema(BaseModel):
    type: Literal["object"]


class Tool(Shape):
    name: str
    description: str | None = None
    input_schema: InputSchema
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None


class Choice(Shape):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class MessagesRequest(Shape):
    """The body of `POST /v1/messages`; a field it does not know is an error, as at Anthropic's."""

    model: str
    messages: Annotated[list[Turn], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    system: Annotated[list[Text], Field(min_length=1)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: Choice | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "standard_only"] | None = None


class OutputDetails(Shape):
    thinking_tokens: int


class MessageUsage(Shape):
    input_tokens: Annotated[int, Field(ge=0)]
    output_tokens: Annotated[int, Field(ge=0)]
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None


class AnswerText(Shape):
    type: Literal["text"]
    text: str


class AnswerToolUse(Shape):
    type: Literal["tool_use"]
    id: Annotated[str, Field(min_length=1)]
    name: str
    input: dict[str, Any]


Said = Annotated[
    AnswerText | Thinking | Redacted | AnswerToolUse,
    Field(discriminator="type"),
]
Reason = Literal[
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
]


class Message(Shape):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[Said]
    stop_reason: Reason | None
    stop_sequence: str | None
    usage: MessageUsage


class MessageStart(Shape):
    type: Literal["message_start"]
    message: Message


class BlockStart(Shape):
    type: Literal["content_block_start"]
    index: int
    content_block: Said


class TextDelta(Shape):
    type: Literal["text_delta"]
    text: str


class ThinkingDelta(Shape):
    type: Literal["thinking_delta"]
    thinking: str


class SignatureDelta(Shape):
    type: Literal["signature_delta"]
    signature: str


class InputDelta(Shape):
    type: Literal["input_json_delta"]
    partial_json: str


class BlockDelta(Shape):
    type: Literal["content_block_delta"]
    index: int
    delta: Annotated[
        TextDelta | ThinkingDelta | SignatureDelta | InputDelta, Field(discriminator="type")
    ]


class BlockStop(Shape):
    type: Literal["content_block_stop"]
    index: int


class Ending(Shape):
    stop_reason: Reason
    stop_sequence: str | None


class MessageDelta(Shape):
    type: Literal["message_delta"]
    delta: Ending
    usage: MessageUsage


class MessageStop(Shape):
    type: Literal["message_stop"]


class Complaint(Shape):
    type: Literal[
        "invalid_request_error",
        "authentication_error",
        "billing_error",
        "permission_error",
        "not_found_error",
        "conflict_error",
        "request_too_large",
        "rate_limit_error",
        "api_error",
        "timeout_error",
        "overloaded_error",
    ]
    message: str


class ErrorBody(Shape):
    type: Literal["error"]
    error: Complaint
    request_id: str | None = None


EVENT: TypeAdapter[Any] = TypeAdapter(
    Annotated[
        MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | ErrorBody,
        Field(discriminator="type"),
    ]
)


def read_events(stream: bytes) -> list[dict[str, Any]]:
    """The events of an Anthropic stream, each checked: its shape, and its name is its type."""
    events = []
    for lines in stream.decode().split("\n\n")[:-1]:
        name, data = lines.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event)
        events.append(event)
    assert stream.endswith(b"\n\n") or not stream
    return events


def whole_message(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that events add up to, read as strictly as Anthropic's guide describes them."""
    assert events[0]["type"] == "message_start"
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    message = events[0]["message"]
    opened: str | None = None
    written = ""
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert opened is None
            assert event["index"] == len(message["content"])
            message["content"].append(event["content_block"])
            opened, written = event["content_block"]["type"], ""
            continue
        block = message["content"][-1]
        assert opened is not None
        assert event["index"] == len(message["content"]) - 1
        if event["type"] == "content_block_stop":
            if opened == "tool_use" and written:
                block["input"] = json.loads(written)
            opened = None
            continue
        delta = event["delta"]
        match delta["type"], opened:
            case ("text_delta", "text"):
                block["text"] += delta["text"]
            case ("thinking_delta", "thinking"):
                block["thinking"] += delta["thinking"]
            case ("signature_delta", "thinking"):
                block["signature"] = delta["signature"]
            case ("input_json_delta", "tool_use"):
                written += delta["partial_json"]
            case _:
                raise AssertionError(f"{delta['type']} in {opened}")
    assert opened is None
    message |= events[-2]["delta"]
    message["usage"] = events[-2]["usage"]
    Message.model_validate(message)
    return message


def read_chunks(stream: bytes) -> list[Any]:
    """The data of the events of an OpenAI stream; `[DONE]` as it is."""
    return [
        data.decode() if data == b"[DONE]" else json.loads(data)
        for data in EventParser().feed(stream)
    ]


def cut(stream: bytes, offsets: Iterable[int]) -> list[bytes]:
    return [stream[a:b] for a, b in pairwise(sorted({0, *offsets, len(stream)}))]


def cuts(stream: bytes) -> Iterator[list[bytes]]:
    """Whole, in two at every offset, and byte by byte."""
    yield [stream]
    for offset in range(1, len(stream)):
        yield [stream[:offset], stream[offset:]]
    yield cut(stream, range(len(stream)))
