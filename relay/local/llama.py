"""GGUF models in this process, through xllamacpp (llama.cpp): `smollm2` and `llama:PATH.gguf`.

Call -> EngineRequest -> a turn -> the loaded engine (thread) -> chunks -> parts -> our form

llama_request.py   what the engine is asked        llama_engine.py    the engine itself
llama_tools.py     tools: prompt and grammar       llama_chunks.py    what it says
llama_fitting.py   what is too long                resident.py        when it is in memory
"""

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from relay.local.answering import Answering
from relay.local.chunks import CHAT, ChatForm, Form, Part, not_served, read_chat_call
from relay.local.completions import (
    DEFAULT_TOKENS,
    CompletionForm,
    payload_of,
    read_completion_request,
)
from relay.local.embeddings import embedding_answer, read_embedding_request
from relay.local.feed import Feed
from relay.local.llama_chunks import ChunkReader, TextReader
from relay.local.llama_engine import LlamaEngine, Opening
from relay.local.llama_fitting import trimmed, within_length
from relay.local.llama_request import (
    SAMPLING,
    Ask,
    EngineRequest,
    build,
    hold,
    in_rounds,
    limits_and_seed,
)
from relay.local.memory import Memory
from relay.local.model import Options
from relay.local.resident import Resident
from relay.local.turns import Turns
from relay.schema import ModelCard
from relay.types import Call, Completion

COMPLETIONS = "completions"
EMBEDDINGS = "embeddings"

_PATHS = (CHAT, COMPLETIONS, EMBEDDINGS)

Chunk = dict[str, Any]
Vectors = tuple[list[list[float]], int]


class LlamaOptions(Options):
    """What a GGUF model can be told; the settings `local_*` are its defaults."""

    context_tokens: Annotated[int, Field(ge=128)] = 4096
    parallel: Annotated[int, Field(ge=1, le=64)] = 2
    threads: Annotated[int, Field(ge=0)] = 0
    waiting: Annotated[int, Field(ge=0)] = 100
    overflow: Literal["error", "trim"] = "error"
    idle_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    chat_template: Path | None = None
    """A Jinja file in place of the template in the GGUF file."""
    tools: Literal["grammar", "template"] = "grammar"
    """Who sees to tools: relay, which holds answers to a grammar, or the chat template."""
    embeddings_only: bool = False
    """The file is a model for embeddings: nothing else is answered."""
    batch_tokens: Annotated[int, Field(ge=8, le=4096)] = 24
    """Of prompts, computed in one go; between two of these a request can be cancelled."""


class LlamaBackend(Answering):
    """Answers from a GGUF file. `context_tokens` is what each of `parallel` requests may use."""

    def __init__(
        self, path: Path, *, name: str, options: LlamaOptions, memory: Memory | None = None
    ) -> None:
        self.name = name
        self.paths = frozenset([EMBEDDINGS] if options.embeddings_only else _PATHS)
        self._options = options
        self._turns = Turns(options.parallel, waiting_limit=options.waiting)
        self._created = int(time.time())
        opening = Opening(
            path,
            context_tokens=options.context_tokens,
            parallel=options.parallel,
            threads=options.threads,
            chat_template=options.chat_template,
            batch_tokens=options.batch_tokens,
        )
        memory = memory or Memory()

        def resident(opening: Opening) -> Resident:
            return Resident(
                name,
                path,
                weigh=opening.weigh,
                open_engine=lambda: LlamaEngine(opening),
                memory=memory,
                idle_s=options.idle_s,
            )

        # An engine does one or the other well: for embeddings it reads a whole text in one batch.
        self._embedder = resident(replace(opening, embeddings=True))
        self._writer = self._embedder if options.embeddings_only else resident(opening)

    def cards(self) -> Sequence[ModelCard]:
        """The model, under its name, and whether it is loaded."""
        card = {
            "id": self.name,
            "object": "model",
            "created": self._created,
            "owned_by": "relay",
            "status": self._writer.status(),
        }
        return [ModelCard.model_validate(card)]

    def start(self) -> None:
        """Begin to load the file in a thread."""
        self._writer.start()

    def state(self) -> str:
        """`loading` until the file was loaded once, then `ready`; or what is wrong with it."""
        return self._writer.state()

    async def complete(self, call: Call) -> Completion:
        """The whole answer; waits for the file to be loaded. Raises: as `generate`."""
        if _path(call) == EMBEDDINGS:
            return await self._embed(call)
        return await super().complete(call)

    async def aclose(self) -> None:
        """Stop every answer, and give back the model."""
        ended = await self._turns.aclose()
        for resident in {self._writer, self._embedder}:
            await resident.aclose(free=ended)

    @asynccontextmanager
    async def generate(self, call: Call) -> AsyncIterator[tuple[Form, AsyncIterator[Part]]]:
        """The answer's form and its parts; leaving stops the engine. Raises: as `Answering`."""
        form, reader, asked = self._read(call)

        def produce(feed: Feed[tuple[Chunk, Ask]]) -> None:
            _run(self._writer.engine, self._fit(asked), feed)

        turn = self._turns.run(
            produce,
            places=asked.places,
            ready=self._writer.acquire,
            done=self._writer.release,
        )
        async with turn as feed:
            yield form, Parts(feed, reader)

    def _read(self, call: Call) -> tuple[Form, ChunkReader, EngineRequest]:
        path = _path(call)
        if path not in self.paths - {EMBEDDINGS}:
            raise not_served(call)
        if path == COMPLETIONS:
            return self._read_completion(call)
        request = read_chat_call(call)
        asked = build(
            request,
            call.payload,
            parallel=self._options.parallel,
            own_tools=self._options.tools == "grammar",
        )
        return ChatForm(request), _chat_reader(asked), asked

    def _read_completion(self, call: Call) -> tuple[Form, ChunkReader, EngineRequest]:
        payload = payload_of(call)
        request = read_completion_request(payload)
        body = {
            name: payload[name] for name in SAMPLING & payload.keys() if payload[name] is not None
        }
        body |= limits_and_seed(payload, [request.max_tokens or DEFAULT_TOKENS])
        rules = []
        if "json_schema" in body:
            rules = [hold(body, "json_schema", body.pop("json_schema"))]
        if request.logprobs is not None:
            body["logprobs"] = max(1, request.logprobs)
        count, parallel = request.n or 1, self._options.parallel
        asks = [
            ask
            for place, prompt in enumerate(request.prompts())
            for ask in in_rounds(body | {"prompt": prompt}, count, parallel, prompt=place)
        ]
        asked = EngineRequest(asks, chat=False, places=min(count, parallel), rules=rules)
        return CompletionForm(request), TextReader(), asked

    def _fit(self, asked: EngineRequest) -> EngineRequest:
        """The request as this model can take it. Runs in a thread."""
        engine = self._writer.engine
        for rule in asked.rules:
            engine.check_rule(rule)
        if asked.chat and self._options.overflow == "trim":
            asked = trimmed(engine, asked, self._options.context_tokens)
        return within_length(engine, asked)

    async def _embed(self, call: Call) -> Completion:
        request = read_embedding_request(payload_of(call))
        inputs, at_once = request.inputs(), self._options.parallel

        def produce(feed: Feed[Vectors]) -> None:
            # A few at a time: between two of these who has left is noticed.
            for first in range(0, len(inputs), at_once):
                answer = self._embedder.engine.embed(inputs[first : first + at_once])
                vectors = [one["embedding"] for one in answer["data"]]
                if not feed.put((vectors, answer["usage"]["prompt_tokens"])):
                    return

        turn = self._turns.run(produce, ready=self._embedder.acquire, done=self._embedder.release)
        vectors: list[list[float]] = []
        tokens = 0
        async with turn as feed:
            async for some, used in feed:
                vectors += some
                tokens += used
        return embedding_answer(request, vectors, tokens)


class Parts:
    """What the chunks of one request say, and at last what it used."""

    def __init__(self, feed: Feed[tuple[Chunk, Ask]], reader: ChunkReader) -> None:
        self._feed = feed
        self._reader = reader
        self._read: deque[Part] = deque()  # of a chunk that says more than one thing
        self._usage_told = False

    def __aiter__(self) -> "Parts":
        return self

    async def __anext__(self) -> Part:
        while not self._read:
            try:
                chunk = await anext(self._feed)
            except StopAsyncIteration:
                if self._usage_told:
                    raise
                return self._usage()
            self._read += self._reader.read(*chunk)
        return self._read.popleft()

    async def pour(self, sink: Callable[[Part], Awaitable[None] | None]) -> None:
        """Give each part to `sink`, and await what it gives back, if anything."""
        read = self._reader.read

        def take(chunk: tuple[Chunk, Ask]) -> Awaitable[None] | None:
            parts = list(read(*chunk))
            return sink(parts[0]) if len(parts) == 1 else _each(parts, sink)

        await _each(self._read, sink)
        await self._feed.pour(take)
        if not self._usage_told:
            await _each([self._usage()], sink)

    def _usage(self) -> Part:
        self._usage_told = True
        return self._reader.usage()


async def _each(parts: Iterable[Part], sink: Callable[[Part], Awaitable[None] | None]) -> None:
    for part in parts:
        if (wait := sink(part)) is not None:
            await wait


def _chat_reader(asked: EngineRequest) -> ChunkReader:
    return ChunkReader(tools=asked.tools is not None, json_text=asked.json_text)


def _path(call: Call) -> str:
    return call.path.partition("?")[0]


def _run(engine: LlamaEngine, asked: EngineRequest, feed: Feed[tuple[Chunk, Ask]]) -> None:
    """Run one request to its end, or until nobody listens. Runs in a thread."""
    for ask in asked.asks:

        def take(chunk: Chunk, ask: Ask = ask) -> bool:
            if "prompt_progress" in chunk:
                return feed.closed
            return not feed.put((chunk, ask))

        engine.ask(ask.body, take, chat=asked.chat)
        if feed.closed:
            return
