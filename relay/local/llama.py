"""GGUF models in this process, through xllamacpp (llama.cpp): `smollm2` and `llama:PATH.gguf`.

    start() --thread--> engine         state(): loading -> ready, or why not
    Call -> engine's body -> handle_chat_completions (thread) -> chunks -> parts -> our chunks

While a file is being loaded the engine holds Python's lock, so the process is quiet for that time
(0.3 to 1.5 s for the small model): a request that comes then is answered afterwards.
"""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from relay.errors import InvalidRequest, NoUpstream
from relay.local.chunks import Part, StreamedAnswer, collect, read_chat_call
from relay.local.feed import CLOSED, Feed
from relay.local.llama_chunks import ChunkReader, first_line
from relay.local.llama_request import EngineRequest, build
from relay.local.turns import Turns
from relay.schema import ChatCompletionRequest, ModelCard
from relay.types import Answer, Call, Completion

BATCH_TOKENS = 128
"""Prompt tokens computed in one go; between two of these a request can be cancelled."""

CACHE_MIB = 64
"""Memory for the prompts of earlier requests; the engine's default is 8192."""

SILENT = -1
"""The engine's verbosity at which it prints nothing."""

LISTENER_THREADS = 1
"""Threads for the engine's own listener, which nobody uses."""

logger = logging.getLogger(__name__)
Chunk = dict[str, Any]


class LlamaBackend:
    """Answers from a GGUF file. `context_tokens` is what each of `parallel` requests may use."""

    def __init__(
        self, path: Path, *, name: str, context_tokens: int, parallel: int, threads: int = 0
    ) -> None:
        self.name = name
        self._path = path
        self._context_tokens = context_tokens
        self._parallel = parallel
        self._threads = threads
        self._turns = Turns(parallel)
        self._created = int(time.time())
        self._settled = asyncio.Event()
        self._started = False
        self._engine: Any = None
        self._failure: str | None = None

    def cards(self) -> Sequence[ModelCard]:
        """The model, under its name."""
        return [ModelCard(id=self.name, object="model", created=self._created, owned_by="relay")]

    def start(self) -> None:
        """Begin to load the file in a thread."""
        if self._started:
            return
        self._started = True
        loop = asyncio.get_running_loop()
        # No daemon: an exiting interpreter would end it inside the engine, which aborts then.
        threading.Thread(target=self._load, args=(loop,), name="relay-load").start()

    def state(self) -> str:
        """`loading` until the file is loaded, then `ready` or what is wrong with it."""
        if self._failure is not None:
            return self._failure
        return "loading" if self._engine is None else "ready"

    async def complete(self, call: Call) -> Completion:
        """The whole answer; waits for the file to be loaded.

        Raises:
            RouteNotFound, InvalidRequest: the call is nothing for this model.
            NoUpstream: the file could not be loaded.
            Overloaded: too many requests wait already.
            BackendError: the engine failed (`local_model_failed`).
        """
        request = read_chat_call(call)
        async with self._generate(request, call) as parts:
            return await collect(request, parts)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        """The answer once its first token exists; leaving stops the engine.

        Raises:
            As `complete`; after the first token, a failure comes out of the answer.
        """
        request = read_chat_call(call)
        async with self._generate(request, call) as parts:
            yield await StreamedAnswer.begin(request, parts)

    async def aclose(self) -> None:
        """Stop every answer, and give back the model."""
        ended = await self._turns.aclose()
        if self._started:
            await self._settled.wait()
        self._failure = CLOSED
        engine, self._engine = self._engine, None
        if engine is not None and ended:
            # Freeing the last reference joins the engine's threads: not on the event loop.
            holder = [engine]
            del engine
            await asyncio.to_thread(holder.clear)

    @asynccontextmanager
    async def _generate(
        self, request: ChatCompletionRequest, call: Call
    ) -> AsyncIterator[AsyncIterator[Part]]:
        asked = build(request, call.payload, parallel=self._parallel)

        def produce(feed: Feed[Chunk]) -> None:
            _ask(self._engine, asked, feed)

        turn = self._turns.run(produce, places=request.n or 1, ready=self._loaded)
        async with turn as feed, aclosing(_read(feed, asked)) as parts:
            yield parts

    async def _loaded(self) -> None:
        self.start()
        await self._settled.wait()
        if self._failure is not None:
            raise NoUpstream(self._failure)

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        failure: str | None = None
        engine: Any = None
        try:
            engine = self._open()
        except Exception as exc:  # the engine's, the linker's or Python's: the model cannot answer
            logger.error("local_model_unloadable error=%s", type(exc).__name__)  # noqa: TRY400  # the engine's trace says nothing
            failure = (
                f"The model file {self._path.name} could not be loaded: it is missing, damaged or "
                "no GGUF model that xllamacpp knows."
            )
        try:
            loop.call_soon_threadsafe(self._settle, engine, failure)
        except RuntimeError:  # the loop is closed: nobody is left to ask
            logger.debug("local_model_unwanted")

    def _settle(self, engine: Any, failure: str | None) -> None:
        self._engine, self._failure = engine, failure
        self._settled.set()

    def _open(self) -> Any:
        """Load the file; takes seconds."""
        import xllamacpp  # noqa: PLC0415  # an optional extra of 34 MB: only its users load it

        params = xllamacpp.CommonParams()
        params.model.path = str(self._path)
        params.n_ctx = self._context_tokens * self._parallel
        params.n_parallel = self._parallel
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.cache_ram_mib = CACHE_MIB
        params.verbosity = SILENT
        params.warmup = False
        if self._threads:
            params.cpuparams.n_threads = self._threads
            params.cpuparams_batch.n_threads = self._threads
        # It cannot be kept from listening on a port of the loopback, but nobody can use it.
        params.api_keys = [secrets.token_hex(32)]
        params.n_threads_http = LISTENER_THREADS
        params.ui = False
        params.endpoint_slots = False
        params.cors_origins = "null"
        engine = xllamacpp.Server(params)
        # Warms it up, and proves that its loop runs: freed before that, the engine waits for ever.
        engine.handle_completions({"prompt": " ", "n_predict": 1, "stream": True}, lambda _: False)
        return engine


def _ask(engine: Any, asked: EngineRequest, feed: Feed[Chunk]) -> None:
    """Run one request to its end, or until nobody listens. Runs in a thread."""
    began = False

    def take(chunk: Chunk) -> bool:
        """Called for each chunk; True stops the engine."""
        nonlocal began
        if "prompt_progress" in chunk:
            return feed.closed
        began = True
        return not feed.put(chunk)

    try:
        engine.handle_chat_completions(_within_length(engine, asked), take)
    except (ValueError, TypeError, RuntimeError) as exc:
        # The engine's words for a request it cannot read, a schema or template it cannot use.
        if began:
            raise
        raise InvalidRequest(
            f"The local model cannot take this request: {first_line(str(exc))}"
        ) from exc


def _within_length(engine: Any, asked: EngineRequest) -> Chunk:
    """The body with what `max_length` leaves for the answer, once the prompt's tokens are known."""
    if asked.max_length is None:
        return asked.body
    counted: list[int] = []

    def count(chunk: Chunk) -> bool:
        if "prompt_progress" in chunk:
            counted.append(chunk["prompt_progress"]["total"])
        return True

    engine.handle_chat_completions(asked.body, count)
    if not counted:
        return asked.body  # too long for the engine anyway, which will say so again
    left = asked.max_length - counted[0]
    if left < 1:
        raise InvalidRequest(
            f"The prompt has {counted[0]} tokens, which leaves nothing of 'max_length' "
            f"({asked.max_length}) for an answer.",
            param="max_length",
            code="context_length_exceeded",
        )
    return asked.body | {"max_tokens": min(left, asked.body.get("max_tokens", left))}


async def _read(feed: Feed[Chunk], asked: EngineRequest) -> AsyncGenerator[Part, None]:
    reader = ChunkReader(tools_forced=asked.tools_forced)
    async for chunk in feed:
        for part in reader.read(chunk):
            yield part
    yield reader.usage()
