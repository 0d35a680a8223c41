"""Legacy completions (`POST /v1/completions`): the request, and what its answers look like.

    {"choices":[{"text":" one","index":0,"logprobs":null,"finish_reason":null}], ...}

Source: OpenAI's API reference (completions).
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
from pydantic import Field, ValidationError

from relay.errors import InvalidRequest
from relay.local.chunks import JSON, Head, Part, StreamChoice, Text
from relay.schema import MAX_TOKENS, StreamOptions, Usage, Wire, invalid
from relay.types import Call, Completion

Tokens = list[Annotated[int, Field(ge=0, strict=True)]]

DEFAULT_TOKENS = 16
"""OpenAI's own limit where a request names none."""


Texts = str | Tokens | list[str] | list[Tokens]


def one_by_one(texts: Texts) -> list[str | Tokens]:
    """One text or several, each as text or as tokens."""
    if isinstance(texts, str):
        return [texts]
    tokens = [one for one in texts if isinstance(one, int)]
    return [tokens] if tokens else [one for one in texts if not isinstance(one, int)]


class CompletionRequest(Wire):
    """The body of `POST /v1/completions`. Unknown fields travel on as they are."""

    model: Annotated[str, Field(min_length=1, strict=True)]
    prompt: Texts
    stream: Annotated[bool, Field(strict=True)] | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS, strict=True)] | None = None
    n: Annotated[int, Field(ge=1, le=128, strict=True)] | None = None
    best_of: Annotated[int, Field(ge=1, le=20, strict=True)] | None = None
    echo: Annotated[bool, Field(strict=True)] | None = None
    suffix: str | None = None
    logprobs: Annotated[int, Field(ge=0, le=5, strict=True)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    seed: Annotated[int, Field(strict=True)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, strict=True)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1, strict=True)] | None = None

    def prompts(self) -> list[str | Tokens]:
        """What is to be continued, one by one."""
        return one_by_one(self.prompt)


def payload_of(call: Call) -> Any:
    """The body of a call, parsed, also of one that was only passed on."""
    if call.payload.keys() - {"model"}:
        return call.payload
    try:
        return orjson.loads(call.body)
    except orjson.JSONDecodeError:
        raise InvalidRequest("The body is not valid JSON.") from None


def read_completion_request(payload: Any) -> CompletionRequest:
    """Check a parsed body against the schema.

    Raises:
        InvalidRequest: a field is missing or wrong, or asks for what no local model does.
    """
    try:
        request = CompletionRequest.model_validate(payload)
    except ValidationError as exc:
        raise invalid(exc) from exc
    if not request.prompt:
        raise InvalidRequest("There is no prompt to continue.", param="prompt")
    if request.suffix:
        raise InvalidRequest(
            "The local model continues a prompt; it cannot fill in before a 'suffix'.",
            param="suffix",
        )
    if (request.best_of or 1) > (request.n or 1):
        raise InvalidRequest(
            "The local model gives all answers it makes: use 'n'.", param="best_of"
        )
    if request.echo and request.logprobs is not None:
        raise InvalidRequest(
            "The local model has no logprobs of a prompt: leave out 'echo' or 'logprobs'.",
            param="echo",
        )
    if request.echo and not all(isinstance(prompt, str) for prompt in request.prompts()):
        raise InvalidRequest("Only a prompt of text can be echoed.", param="echo")
    return request


class CompletionForm:
    """Text completions."""

    def __init__(self, request: CompletionRequest) -> None:
        options = request.stream_options
        self.usage_wanted = bool(options and options.include_usage)
        self._head = Head.new("cmpl", request.model)
        self._before = request.prompts() if request.echo else []
        self._each = request.n or 1
        self._begun: set[int] = set()
        self._places: dict[int, int] = {}

    def event(self, part: Part) -> bytes:
        """One part, as a server-sent event."""
        if isinstance(part, Usage):
            fields: dict[str, Any] = {"choices": [], "usage": part.model_dump(exclude_unset=True)}
        else:
            text = self._text(part)
            choice = {"text": text, "index": part.index, "logprobs": self._logprobs(part, text)}
            fields = {"choices": [choice | {"finish_reason": _reason(part)}]}
        return b"data: " + self._body(fields) + b"\n\n"

    async def collect(self, parts: AsyncIterator[Part]) -> Completion:
        """The whole answer, made of what would have been its stream."""
        answers: dict[int, _Text] = {}
        fields: dict[str, Any] = {}
        async for part in parts:
            if isinstance(part, Usage):
                fields["usage"] = part.model_dump(exclude_unset=True)
                continue
            answer = answers.setdefault(part.index, _Text())
            text = self._text(part)
            answer.add(text, self._logprobs(part, text), _reason(part))
        choices = [answers[index].choice(index) for index in sorted(answers)]
        return Completion(200, (JSON,), self._body({"choices": choices} | fields))

    def _text(self, part: Text | StreamChoice) -> str:
        text = part.text if isinstance(part, Text) else part.delta.content or ""
        if self._before and part.index not in self._begun:
            self._begun.add(part.index)
            text = f"{self._before[part.index // self._each]}{text}"
        return text

    def _logprobs(self, part: Text | StreamChoice, text: str) -> dict[str, Any] | None:
        """The engine's logprobs in the old form: parallel lists, and where each token begins."""
        extra = None if isinstance(part, Text) else part.model_extra
        said = (extra or {}).get("logprobs")
        place = self._places.get(part.index, 0)
        self._places[part.index] = place + len(text)
        if not said:
            return None
        columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        for token in said["content"]:
            top = {one["token"]: one["logprob"] for one in token["top_logprobs"]}
            row = (token["token"], token["logprob"], top, place)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
            place += len(token["token"])
        return columns

    def _body(self, fields: dict[str, Any]) -> bytes:
        head = self._head
        begin = {"id": head.id, "object": "text_completion", "created": head.created}
        body = begin | {"model": head.model} | fields
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "replace"
        )


def _reason(part: Text | StreamChoice) -> str | None:
    return None if isinstance(part, Text) else part.finish_reason


_COLUMNS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


@dataclass(slots=True)
class _Text:
    """One answer, put together from its parts."""

    pieces: list[str] = field(default_factory=list)
    logprobs: dict[str, list[Any]] | None = None
    finish_reason: str | None = None

    def add(self, text: str, logprobs: dict[str, Any] | None, reason: str | None) -> None:
        self.pieces.append(text)
        self.finish_reason = reason or self.finish_reason
        if logprobs is None:
            return
        if self.logprobs is None:
            self.logprobs = {name: [] for name in _COLUMNS}
        for name in _COLUMNS:
            self.logprobs[name] += logprobs[name]

    def choice(self, index: int) -> dict[str, Any]:
        return {
            "text": "".join(self.pieces),
            "index": index,
            "logprobs": self.logprobs,
            "finish_reason": self.finish_reason,
        }
