"""An upstream that speaks Anthropic's API, as a `Backend` around the client that reaches it.

    call                     goes up as          comes back as
    chat/completions         messages            a chat completion, or its chunks
    GET models, models/ID    the same            OpenAI's list, or one of it
    messages, messages/…     the very bytes      the very bytes
    any other                -                   404 not_found

Key and version are the client's business. A 529 of Anthropic's is a 503 from here on, so that
nobody else has to know that status.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace

from relay.dialects import (
    anthropic_answer,
    anthropic_models,
    anthropic_request,
    failures,
    json_text,
    rate_limits,
)
from relay.dialects.anthropic_stream import AnthropicStream
from relay.errors import (
    BackendError,
    InvalidRequest,
    RelayError,
    RouteNotFound,
    UpstreamProtocol,
    UpstreamStatus,
)
from relay.types import Answer, Call, Completion, RawHeaders
from relay.upstream.server import Upstream

CHAT = "chat/completions"
MODELS = "models"

_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
_OF_THE_BODY = frozenset({b"content-encoding", b"content-length", b"content-type", b"etag"})


class AnthropicUpstream:
    """One upstream of Anthropic's kind."""

    def __init__(self, client: Upstream) -> None:
        self.name = client.name
        self.probe = client.probe
        self.drop_idle = client.drop_idle
        self.waiting = client.waiting
        self.keys = client.keys
        self.aclose = client.aclose
        self._client = client

    async def complete(self, call: Call) -> Completion:
        """The whole answer.

        Raises:
            BackendError: as the client does; what cannot be translated is an `UpstreamStatus` 400,
                what does not exist there one of 404.
        """
        path = call.path.partition("?")[0]
        if _is_native(path):
            with _native_failures():
                answer = await self._client.complete(call)
            return replace(answer, headers=rate_limits.from_anthropic(answer.headers))
        if path != CHAT and not _asks_models(call.method, path):
            raise self._nothing_there(call)
        upward = self._messages(call) if path == CHAT else self._models(call)
        with _failures():
            answer = await self._client.complete(upward)
        if path == CHAT:
            body = anthropic_answer.to_chat_body(answer.body, created=int(time.time()))
        else:
            body = anthropic_models.to_models_body(answer.body)
        return Completion(answer.status, _headers(answer.headers, _JSON), body)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Answer]:
        """The answer once it has begun. Raises: as `complete` does."""
        path = call.path.partition("?")[0]
        async with AsyncExitStack() as stack:
            if _is_native(path):
                opening = self._client.stream(call)
                with _native_failures():
                    answer = await stack.enter_async_context(opening)
                yield NativeAnswer(answer)
            elif path == CHAT:
                include_usage = anthropic_request.wants_usage(call.payload)
                opening = self._client.stream(self._messages(call))
                with _failures():
                    answer = await stack.enter_async_context(opening)
                translator = AnthropicStream(created=int(time.time()), include_usage=include_usage)
                chunked = ChunkedAnswer(answer, translator)
                await chunked.begin()
                yield chunked
            else:
                yield WholeAnswer(await self.complete(call))

    def _messages(self, call: Call) -> Call:
        try:
            payload = anthropic_request.to_messages(call.payload)
            body = json_text.dump(payload)
        except InvalidRequest as exc:
            raise _ours(exc) from None
        except (ValueError, RecursionError):
            raise _ours(InvalidRequest("The body is nested too deeply.")) from None
        path = anthropic_request.PATH
        headers = [*(pair for pair in call.headers if pair[0] != _JSON[0]), _JSON]
        return replace(call, path=path, payload=payload, body=body, headers=headers)

    def _models(self, call: Call) -> Call:
        return replace(call, path=anthropic_models.LIST_PATH) if call.path == MODELS else call

    def _nothing_there(self, call: Call) -> UpstreamStatus:
        return _ours(
            RouteNotFound(
                f"The upstream '{self.name}' speaks Anthropic's API: it has chat completions, "
                f"messages and models, and nothing at {call.method} {call.path[:200]}."
            )
        )


class ChunkedAnswer:
    """A stream of messages as one of chunks; iterating gives them as they arrive."""

    def __init__(self, answer: Answer, translator: AnthropicStream) -> None:
        self.status = answer.status
        self.headers = _headers(answer.headers, _EVENTS)
        self._pieces = aiter(answer)
        self._translator = translator
        self._first = b""

    async def begin(self) -> None:
        """Wait until there is something to say: an error that comes first is the answer's status.

        Raises:
            UpstreamStatus: it is one of the upstream's, such as being overloaded.
            UpstreamProtocol: nothing comes.
        """
        self._first = await self._next()
        if not self._first:
            raise UpstreamProtocol("The upstream ended its answer before it had begun.")
        error = self._translator.error
        if error is None:
            return
        status = failures.status_of(error)
        if status == 429 or status >= 500:
            raise _translated(status, self.headers, json_text.dump({"error": error}))

    def __aiter__(self) -> "ChunkedAnswer":
        return self

    async def __anext__(self) -> bytes:
        piece, self._first = self._first, b""
        piece = piece or await self._next() or self._translator.end()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def _next(self) -> bytes:
        """The next chunks; nothing at the end."""
        translator = self._translator
        try:
            async for piece in self._pieces:
                if chunks := translator.feed(piece):
                    return chunks
        except BackendError:
            if not translator.finished:  # else the answer was whole, whatever came of the rest
                raise
        return b""


class NativeAnswer:
    """A stream of messages as it is, and by its own way (see `Answer`)."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.headers = rate_limits.from_anthropic(answer.headers)
        self.pour = getattr(answer, "pour", None)
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._answer)


class WholeAnswer:
    """What came at once, for those who read it as a stream."""

    def __init__(self, completion: Completion) -> None:
        self.status = completion.status
        self.headers = completion.headers
        self._body = completion.body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


@contextmanager
def _failures() -> Iterator[None]:
    """An upstream's error becomes OpenAI's."""
    try:
        yield
    except UpstreamStatus as exc:
        error = _translated(exc.status, exc.headers, exc.body)
        error.another_key = exc.another_key
        raise error from exc


@contextmanager
def _native_failures() -> Iterator[None]:
    """An upstream's error stays, but for the status that only Anthropic knows."""
    try:
        yield
    except UpstreamStatus as exc:
        exc.status = failures.to_chat_status(exc.status)
        exc.headers = rate_limits.from_anthropic(exc.headers)
        raise


def _translated(status: int, headers: RawHeaders, body: bytes) -> UpstreamStatus:
    failure = failures.to_chat(status, body)
    return UpstreamStatus(failure.status, headers=_headers(headers, _JSON), body=failure.body)


def _ours(error: RelayError) -> UpstreamStatus:
    """An error of our own in a form that a backend may raise."""
    return UpstreamStatus(error.status, headers=[_JSON], body=error.envelope())


def _headers(headers: RawHeaders, content_type: tuple[bytes, bytes]) -> RawHeaders:
    """OpenAI's, for another body than the one they came with."""
    kept = [pair for pair in headers if pair[0] not in _OF_THE_BODY]
    return [content_type, *rate_limits.to_openai(kept, now=time.time())]


def _is_native(path: str) -> bool:
    return path == anthropic_request.PATH or path.startswith(f"{anthropic_request.PATH}/")


def _asks_models(method: str, path: str) -> bool:
    return method == "GET" and (path == MODELS or path.startswith(f"{MODELS}/"))
