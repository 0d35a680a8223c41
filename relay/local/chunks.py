"""What local answers look like on the wire: a stream of chunks, or one body.

    {"index":0,"delta":{"role":"assistant"},"finish_reason":null}       first
    {"index":0,"delta":{"content":"Py"},"finish_reason":null}           then
    {"index":0,"delta":{},"finish_reason":"stop"}                       last
    usage, without choices                                              when asked for

Source: ChatGLM's OpenAI-format server; `id`, `created` and `usage` as OpenAI sends them.
"""

import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from relay.errors import RouteNotFound
from relay.schema import (
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatCompletionResponseStreamChoice,
    ChatMessage,
    DeltaMessage,
    Usage,
    read_chat_request,
)
from relay.types import Call, Completion, RawHeaders

CHAT = "chat/completions"
DONE = b"data: [DONE]\n\n"
EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
JSON = (b"content-type", b"application/json")

StreamChoice = ChatCompletionResponseStreamChoice


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of an answer's text: what nearly every part is, and so no model of pydantic's."""

    index: int
    text: str


Part = Text | StreamChoice | Usage
"""What a backend generates: texts, choices with something else new, and at last one usage."""

_Wait = Awaitable[None] | None


def read_chat_call(call: Call) -> ChatCompletionRequest:
    """The request of a call, checked.

    Raises:
        RouteNotFound: the call is for something else than chat completions.
        InvalidRequest: the request is wrong; `param` names the field.
    """
    if call.path != CHAT:
        raise not_served(call)
    return read_chat_request(call.payload)


def not_served(call: Call) -> RouteNotFound:
    """What is told of a path that a local model has no answer for."""
    return RouteNotFound(f"The local model does not serve '{call.path}'.")


def opening(index: int) -> StreamChoice:
    """The first part of an answer: only the role."""
    return StreamChoice(index=index, delta=DeltaMessage(role="assistant"), finish_reason=None)


def ending(index: int, finish_reason: str) -> StreamChoice:
    """The last part of an answer: only the reason."""
    return StreamChoice(index=index, delta=DeltaMessage(), finish_reason=finish_reason)


def tool_calls(index: int, place: int, name: str, arguments: str) -> StreamChoice:
    """A part of an answer: one whole tool call, the `place`-th of it."""
    call = {
        "index": place,
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    delta = DeltaMessage.model_validate({"tool_calls": [call]})
    return StreamChoice(index=index, delta=delta, finish_reason=None)


def utf8(text: str) -> str:
    """The text as UTF-8 can carry it: a lone surrogate becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Form(Protocol):
    """How the parts of one answer are written."""

    usage_wanted: bool

    def event(self, part: Part) -> bytes:
        """One part, as a server-sent event."""
        ...

    async def collect(self, parts: AsyncIterator[Part]) -> Completion:
        """All of them, as one body."""
        ...


class ChatForm:
    """Chat completions."""

    def __init__(self, request: ChatCompletionRequest) -> None:
        options = request.stream_options
        self.usage_wanted = bool(options and options.include_usage)
        self._head = Head.new("chatcmpl", request.model)
        blank = self._response("chat.completion.chunk", choices=[]).wire().encode()
        self._before = b'data: %b[{"index":' % blank.removesuffix(b"[]}")

    def event(self, part: Part) -> bytes:
        """One part, as a server-sent event."""
        if isinstance(part, Text):
            told = (self._before, part.index, orjson.dumps(part.text))
            return b'%b%d,"delta":{"content":%b},"finish_reason":null}]}\n\n' % told
        if isinstance(part, Usage):
            chunk = self._response("chat.completion.chunk", choices=[], usage=part)
        else:
            chunk = self._response("chat.completion.chunk", choices=[part])
        return f"data: {chunk.wire()}\n\n".encode()

    async def collect(self, parts: AsyncIterator[Part]) -> Completion:
        """The whole answer, made of what would have been its stream."""
        answers: dict[int, _Whole] = {}
        rest: dict[str, Any] = {}
        async for part in parts:
            if isinstance(part, Usage):
                rest["usage"] = part
            else:
                answers.setdefault(part.index, _Whole()).add(part)
        choices = [answers[index].choice(index) for index in sorted(answers)]
        response = self._response("chat.completion", choices=choices, **rest)
        return Completion(200, (JSON,), response.wire().encode())

    def _response(self, kind: str, **fields: Any) -> ChatCompletionResponse:
        head = self._head
        return ChatCompletionResponse.model_validate(
            {
                "id": head.id,
                "created": head.created,
                "model": head.model,
                "object": kind,
                **fields,
            }
        )


class StreamedAnswer:
    """An answer whose first part is in hand: server-sent events, one to a bytes object.

    Whoever has begun to iterate may have the rest poured.
    """

    status = 200
    headers: RawHeaders = (EVENT_STREAM,)

    def __init__(self, form: Form, first: Part, rest: AsyncIterator[Part]) -> None:
        self._form = form
        self._first: Part | None = first
        self._rest = rest
        self._last = DONE

    @classmethod
    async def begin(cls, form: Form, parts: AsyncIterator[Part]) -> "StreamedAnswer":
        """Wait for the first part; what goes wrong before it is raised here."""
        return cls(form, await anext(parts), parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if event := self._event(self._take_first()):
            yield event
        async for part in self._rest:
            if event := self._event(part):
                yield event
        if last := self._take_last():
            yield last

    async def pour(self, sink: Callable[[bytes], _Wait]) -> bytes:
        """Give each event to `sink`; returns the last one (see `Answer`)."""

        def give(part: Part | None) -> _Wait:
            event = self._event(part)
            return sink(event) if event else None

        if (wait := give(self._take_first())) is not None:
            await wait
        await pour(self._rest, give)
        return self._take_last()

    def _event(self, part: Part | None) -> bytes:
        if part is None or (isinstance(part, Usage) and not self._form.usage_wanted):
            return b""
        return self._form.event(part)

    def _take_first(self) -> Part | None:
        first, self._first = self._first, None
        return first

    def _take_last(self) -> bytes:
        last, self._last = self._last, b""
        return last


async def pour(parts: AsyncIterator[Part], sink: Callable[[Part], _Wait]) -> None:
    """Give each of them to `sink`, and await what it gives back; by their own `pour`, if any."""
    own: Callable[[Callable[[Part], _Wait]], Awaitable[None]] | None = getattr(parts, "pour", None)
    if own is not None:
        await own(sink)
        return
    async for part in parts:
        if (wait := sink(part)) is not None:
            await wait


@dataclass(frozen=True, slots=True)
class Head:
    """What all chunks of one answer have in common."""

    id: str
    created: int
    model: str

    @classmethod
    def new(cls, prefix: str, model: str) -> "Head":
        return cls(f"{prefix}-{uuid.uuid4().hex}", int(time.time()), utf8(model))


@dataclass(slots=True)
class _Whole:
    """One answer, put together from its deltas."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    logprobs: list[Any] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, choice: Text | StreamChoice) -> None:
        if isinstance(choice, Text):
            self.texts.setdefault("content", []).append(choice.text)
            return
        delta = choice.delta.model_dump(exclude_unset=True, exclude={"role"})
        for call in delta.pop("tool_calls", ()):
            self._add_call(call)
        for name, value in delta.items():
            if isinstance(value, str):
                self.texts.setdefault(name, []).append(value)
        extra = choice.model_extra or {}
        if extra.get("logprobs"):
            self.logprobs += extra["logprobs"].get("content") or ()
        self.finish_reason = choice.finish_reason or self.finish_reason

    def choice(self, index: int) -> ChatCompletionResponseChoice:
        texts = {name: "".join(pieces) for name, pieces in self.texts.items()}
        fields: dict[str, Any] = {
            "role": "assistant",
            "content": None if self.tool_calls else "",
            **texts,
        }
        if self.tool_calls:
            fields["tool_calls"] = list(self.tool_calls.values())
        extra = {"logprobs": {"content": self.logprobs}} if self.logprobs else {}
        return ChatCompletionResponseChoice.model_validate(
            {
                "index": index,
                "message": ChatMessage.model_validate(fields),
                "finish_reason": self.finish_reason,
                **extra,
            }
        )

    def _add_call(self, call: dict[str, Any]) -> None:
        """The first delta of a call has its id and name, later ones more of its arguments."""
        known = self.tool_calls.get(call["index"])
        if known is None:
            self.tool_calls[call["index"]] = {
                name: value for name, value in call.items() if name != "index"
            }
            return
        known["function"]["arguments"] += call["function"].get("arguments", "")
