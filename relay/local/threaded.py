"""A `LocalModel` as a backend: one thread an answer, everything but the text done here.

Call -> Prompt -> model.generate (thread) -> stop strings, limit -> parts -> chunks
"""

import time
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import Any

from relay import history
from relay.errors import BackendError, InvalidRequest
from relay.local.answering import Answering
from relay.local.chunks import (
    ChatForm,
    Form,
    Part,
    Text,
    ending,
    opening,
    read_chat_call,
    tool_calls,
    utf8,
)
from relay.local.feed import Feed
from relay.local.model import LocalModel, Prompt, ToolCall
from relay.local.stop import StopText
from relay.local.turns import WAITING_LIMIT, Turns
from relay.schema import ChatCompletionRequest, ModelCard, Usage
from relay.types import Call


class ThreadedBackend(Answering):
    """Answers from a `LocalModel`; `parallel` answers are generated at once, more wait."""

    def __init__(self, model: LocalModel, *, parallel: int, waiting: int = WAITING_LIMIT) -> None:
        self._model = model
        self.name = str(getattr(model, "name", type(model).__name__.lower()))
        self._count = getattr(model, "count_tokens", None)
        self._turns = Turns(getattr(model, "parallel", parallel), waiting_limit=waiting)
        self._created = int(time.time())

    def cards(self) -> Sequence[ModelCard]:
        """The model, under its name."""
        return [ModelCard(id=self.name, object="model", created=self._created, owned_by="relay")]

    def start(self) -> None:
        """A model in Python is there as soon as it was made."""

    def state(self) -> str:
        """Always `ready`."""
        return "ready"

    async def aclose(self) -> None:
        """Stop every answer and wait for the threads."""
        await self._turns.aclose()

    @asynccontextmanager
    async def generate(self, call: Call) -> AsyncIterator[tuple[Form, AsyncIterator[Part]]]:
        """The answer's form and its parts; leaving closes the model's generator.

        Raises: as `Answering`.
        """
        request = read_chat_call(call)
        prompt = _prompt(call)

        def produce(feed: Feed[Part]) -> None:
            heard = replace(prompt, left=feed.left)
            with closing(self._parts(request, heard)) as parts:
                for part in parts:
                    if not feed.put(part):
                        return

        async with self._turns.run(produce) as feed:
            yield ChatForm(request), feed

    def _parts(self, request: ChatCompletionRequest, prompt: Prompt) -> Generator[Part, None, None]:
        """The answers one after the other, and what they used. Runs in a thread."""
        asked = self._prompt_tokens(prompt)
        limit = _limit(request, asked)
        answered = 0
        for index in range(request.n or 1):
            answered += yield from self._answer(request, prompt, index, limit)
        yield Usage(prompt_tokens=asked, completion_tokens=answered, total_tokens=asked + answered)

    def _answer(
        self, request: ChatCompletionRequest, prompt: Prompt, index: int, limit: int | None
    ) -> Generator[Part, None, int]:
        """One answer; returns its tokens."""
        stop = StopText([request.stop] if isinstance(request.stop, str) else request.stop or [])
        said: list[str] = []
        calls = 0
        reason = "stop"
        pieces = self._model.generate(prompt)
        try:
            for piece in pieces:
                if not piece:
                    continue
                if not isinstance(piece, str | ToolCall):
                    raise BackendError(
                        f"The local model '{self.name}' yielded {type(piece).__name__}: what it "
                        "yields has to be str or ToolCall.",
                        code="local_model_failed",
                    )
                if not (said or calls):
                    yield opening(index)
                if isinstance(piece, ToolCall):
                    yield tool_calls(index, calls, piece.name, piece.arguments)
                    calls += 1
                    continue
                said.append(utf8(piece))
                if text := stop.push(said[-1]):
                    yield Text(index, text)
                if stop.found:
                    break
                if len(said) == limit:
                    reason = "length"
                    break
        finally:
            _close(pieces)
        if not (said or calls):
            yield opening(index)
        if text := stop.rest():
            yield Text(index, text)
        yield ending(index, "tool_calls" if calls and reason == "stop" else reason)
        answered = len(said) if self._count is None else self._count("".join(said))
        return answered + calls

    def _prompt_tokens(self, prompt: Prompt) -> int:
        texts = [history.text_of(message.get("content")) for message in prompt.messages]
        if self._count is None:
            return sum(len(text.split()) for text in texts)
        return sum(self._count(text) for text in texts)


def _prompt(call: Call) -> Prompt:
    messages = [dict(message) for message in call.payload["messages"]]
    query, pairs = history.to_pairs(messages)
    options = {name: value for name, value in call.payload.items() if name != "messages"}
    return Prompt(messages, query, pairs, options)


def _limit(request: ChatCompletionRequest, asked: int) -> int | None:
    """The most pieces one answer may have."""
    limits = [request.max_tokens, request.max_completion_tokens]
    if request.max_length is not None:
        if request.max_length <= asked:
            raise InvalidRequest(
                f"The prompt has {asked} tokens, which leaves nothing of 'max_length' "
                f"({request.max_length}) for an answer.",
                param="max_length",
                code="context_length_exceeded",
            )
        limits.append(request.max_length - asked)
    return min((limit for limit in limits if limit is not None), default=None)


def _close(pieces: Iterator[str | ToolCall]) -> None:
    """End a generator at once; other iterators have nothing to end."""
    close: Any = getattr(pieces, "close", None)
    if close is not None:
        close()
