"""A causal language model of transformers and its tokenizer, as a backend.

Call -> chat template -> tokens -> Batcher (a thread) -> tokens -> text -> stop strings -> parts

`max_tokens`, the context and `usage` count tokens. What it cannot keep to is refused, not ignored:
forced tool calls, enforced JSON, log probabilities.
"""

import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Annotated, Any

from pydantic import Field

from relay import history
from relay.errors import InvalidRequest, PromptTooLong
from relay.local.answering import Answering
from relay.local.chunks import (
    ChatForm,
    Form,
    Part,
    Text,
    ending,
    opening,
    read_chat_call,
    utf8,
)
from relay.local.detokenizer import Detokenizer
from relay.local.feed import Feed
from relay.local.hf_batch import Batcher, Row, Sampling
from relay.local.model import Options
from relay.local.stop import StopText
from relay.local.turns import WAITING_LIMIT, Turns
from relay.schema import ChatCompletionRequest, ModelCard, Usage
from relay.types import Call

UNKNOWN_CONTEXT = 10**9
"""For models that do not say how much they take."""


@dataclass(frozen=True, slots=True)
class HfOptions:
    """`context_tokens`: prompt and answer of one request; `parallel`: rows of a batch."""

    context_tokens: int
    parallel: int
    threads: int = 0
    waiting: int = WAITING_LIMIT


class FolderOptions(Options):
    """The same as they stand in the configuration; the settings `local_*` are their defaults."""

    context_tokens: Annotated[int, Field(ge=128)]
    parallel: Annotated[int, Field(ge=1, le=64)]
    threads: Annotated[int, Field(ge=0)]
    waiting: Annotated[int, Field(ge=0)]


class HfBackend(Answering):
    """Answers from a model that is loaded."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str, options: HfOptions) -> None:
        self.name = name
        self._tokenizer = tokenizer
        self._parallel = options.parallel
        own = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._context = min(options.context_tokens, own or UNKNOWN_CONTEXT)
        self._words = model.get_input_embeddings().num_embeddings
        self._usual = _usual(model.generation_config)
        ends = _end_tokens(model, tokenizer)
        pad = tokenizer.pad_token_id
        self._batcher = Batcher(
            model,
            pad_token=min(ends, default=0) if pad is None else pad,
            end_tokens=ends,
            places=options.parallel,
        )
        self._turns = Turns(options.parallel, waiting_limit=options.waiting)
        self._created = int(time.time())

    def cards(self) -> Sequence[ModelCard]:
        """The model, under its name."""
        return [ModelCard(id=self.name, object="model", created=self._created, owned_by="relay")]

    def start(self) -> None:
        """It is loaded already."""

    def state(self) -> str:
        """Always `ready`."""
        return "ready"

    async def aclose(self) -> None:
        """Stop every answer."""
        await self._turns.aclose()

    @asynccontextmanager
    async def generate(self, call: Call) -> AsyncIterator[tuple[Form, AsyncIterator[Part]]]:
        """The answer's form and its parts; leaving stops the model. Raises: as `Answering`."""
        request, payload = read_chat_call(call), call.payload
        _check(request, self._parallel, self._words)
        rows: list[Row] = []

        def produce(feed: Feed[Part]) -> None:
            prompt = self._tokens(payload)
            rows.extend(self._rows(request, payload, prompt))
            self._batcher.submit(rows)
            for part in self._parts(request, rows, len(prompt)):
                if not feed.put(part):
                    break
            for row in rows:
                row.leave()

        async with self._turns.run(produce, places=request.n or 1) as feed:
            try:
                yield ChatForm(request), feed
            finally:
                for row in rows:
                    row.leave()  # also wakes the thread, which may wait for its next token

    def _tokens(self, payload: Mapping[str, Any]) -> list[int]:
        messages = [
            {**message, "content": history.text_of(message.get("content"))}
            for message in payload["messages"]
        ]
        tools = payload.get("tools") or None
        from jinja2 import TemplateError  # noqa: PLC0415  # comes with torch

        refusals = (TemplateError, TypeError, ValueError, KeyError)
        try:
            return self._applied(messages, tools)
        except refusals:  # many templates know no system role
            try:
                return self._applied(history.system_in_queries(messages), tools)
            except refusals as exc:
                raise InvalidRequest(
                    "The chat template of the local model cannot take these messages: "
                    f"{_first_line(exc)}",
                    param="messages",
                ) from exc

    def _applied(self, messages: list[dict[str, Any]], tools: Any) -> list[int]:
        encoded = self._tokenizer.apply_chat_template(
            messages, tools=tools, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        return list(encoded["input_ids"])

    def _rows(
        self, request: ChatCompletionRequest, payload: Mapping[str, Any], prompt: list[int]
    ) -> Iterator[Row]:
        limit = self._limit(request, len(prompt))
        for number in range(request.n or 1):
            yield Row(prompt, limit, _sampling(request, payload, self._usual, number))

    def _limit(self, request: ChatCompletionRequest, asked: int) -> int:
        """The most tokens of one answer."""
        left = self._context - asked
        if left < 1:
            raise PromptTooLong(
                f"The prompt has {asked} tokens, and the context of the model is "
                f"{self._context} tokens: nothing is left for an answer.",
                param="messages",
            )
        limits = [left, request.max_tokens, request.max_completion_tokens]
        if request.max_length is not None:
            if request.max_length <= asked:
                raise InvalidRequest(
                    f"The prompt has {asked} tokens, which leaves nothing of 'max_length' "
                    f"({request.max_length}) for an answer.",
                    param="max_length",
                    code="context_length_exceeded",
                )
            limits.append(request.max_length - asked)
        return min(limit for limit in limits if limit is not None)

    def _parts(
        self, request: ChatCompletionRequest, rows: list[Row], asked: int
    ) -> Generator[Part, None, None]:
        """The answers as they come, and what they used. Runs in a thread."""
        answers = [self._answer(request, row, number) for number, row in enumerate(rows)]
        if len(answers) == 1:
            yield from answers[0]
        else:  # a step of the batch gives each of them one token
            for parts in zip_longest(*answers):
                yield from filter(None, parts)
        answered = sum(row.count for row in rows)
        yield Usage(prompt_tokens=asked, completion_tokens=answered, total_tokens=asked + answered)

    def _answer(
        self, request: ChatCompletionRequest, row: Row, index: int
    ) -> Generator[Part, None, None]:
        stop = StopText([request.stop] if isinstance(request.stop, str) else request.stop or [])
        text = Detokenizer(self._decode)
        reason = "length"
        first = True
        while (token := row.tokens.get()) is not None:
            if isinstance(token, Exception):
                raise token
            if first:
                first = False
                yield opening(index)
            if token in self._batcher.end_tokens:
                reason = "stop"
                break
            if piece := stop.push(utf8(text.push(token))):
                yield Text(index, piece)
            if stop.found:
                reason = "stop"
                row.leave()
                break
        if rest := stop.push(utf8(text.rest())) + stop.rest():
            yield Text(index, rest)
        yield ending(index, "stop" if stop.found else reason)

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def _sampling(
    request: ChatCompletionRequest, payload: Mapping[str, Any], usual: Sampling, number: int
) -> Sampling:
    """What the request asks for; what it leaves open is as the model's folder says."""
    top_k = payload.get("top_k")
    biases = request.logit_bias or {}
    return Sampling(
        temperature=usual.temperature if request.temperature is None else request.temperature,
        top_p=usual.top_p if request.top_p is None else request.top_p,
        top_k=usual.top_k if not isinstance(top_k, int) or top_k < 0 else top_k,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        bias=tuple((int(token), bias) for token, bias in biases.items()),
        seed=None if request.seed is None else request.seed + number,
    )


def _usual(config: Any) -> Sampling:
    """How the model samples by itself: OpenAI's 1.0 unless its folder says otherwise."""
    return Sampling(
        temperature=1.0 if config.temperature is None else config.temperature,
        top_p=1.0 if config.top_p is None else config.top_p,
        top_k=config.top_k or 0,
    )


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    found = model.generation_config.eos_token_id
    tokens = found if isinstance(found, list) else [found]
    return frozenset(token for token in (*tokens, tokenizer.eos_token_id) if isinstance(token, int))


def _check(request: ChatCompletionRequest, parallel: int, words: int) -> None:
    """Refuse what cannot be done."""
    if (request.n or 1) > parallel:
        raise InvalidRequest(
            f"The local model gives at most {parallel} answers at once, not {request.n}.",
            param="n",
        )
    for index, message in enumerate(request.messages):
        parts = message.content if isinstance(message.content, list) else []
        for place, part in enumerate(parts):
            if part.type not in ("text", "refusal"):
                raise InvalidRequest(
                    f"The local model reads text only, and no '{part.type}'.",
                    param=f"messages[{index}].content[{place}].type",
                )
    if request.logprobs:
        raise InvalidRequest("The local model tells no log probabilities.", param="logprobs")
    if (request.response_format or {}).get("type", "text") != "text":
        raise InvalidRequest(
            "The local model cannot be held to a response format.", param="response_format"
        )
    if request.tool_choice not in (None, "auto", "none"):
        raise InvalidRequest("The local model cannot be made to call a tool.", param="tool_choice")
    for token in request.logit_bias or {}:
        if not (token.isdecimal() and int(token) < words):
            raise InvalidRequest(f"The local model has no token '{token}'.", param="logit_bias")


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]
