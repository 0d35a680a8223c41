"""`POST /v1/messages`: Anthropic's API, served by whatever answers.

    target               goes there as                 comes back as
    of kind anthropic    the very bytes                the very bytes
    any other, local     a chat completion request     a message, or its events

`/v1/messages/count_tokens` has the first row only. Which row it is shows when the target is known,
so a call has both forms, and the second is made when it is needed.
"""

from collections.abc import Awaitable, Callable, Container
from dataclasses import replace
from typing import Any

from starlette.types import Scope

from relay.dialects import failures, json_text, messages_answer, messages_request
from relay.dialects.fields import unfit
from relay.dialects.messages_stream import MessagesStream
from relay.engine import Engine
from relay.errors import InvalidRequest, RelayError, RouteNotFound, UpstreamStatus
from relay.keys import naming
from relay.settings import Settings
from relay.types import Answer, Call, RawHeaders, Usage
from relay.upstream import upward
from relay.usage import Sample, read_usage
from relay.web import messages_usage
from relay.web.client import Wait
from relay.web.door import Endpoint
from relay.web.messages_form import COUNT_TOKENS, PATHS, PING, error_event, translated
from relay.web.pings import Pings
from relay.web.presence import Presence
from relay.web.reading import check_chat, read_body, read_json, read_timeouts
from relay.web.replies import JSON, STREAM_HEADERS, Visit, awaited, pour, send_events

EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


def messages_endpoints(
    engine: Engine, presence: Presence, settings: Settings, *, count: bool
) -> dict[tuple[str, str], Endpoint]:
    """What answers there, by method and path."""
    endpoint = MessagesEndpoint(
        engine,
        presence,
        native={one.name for one in settings.all_upstreams() if one.kind == "anthropic"},
        max_body_bytes=settings.max_body_bytes,
        ping_s=settings.ping_s,
        count=count,
    )
    return {("POST", path): endpoint for path in PATHS}


class MessagesEndpoint:
    """What is behind both paths; `native` are the targets that speak Anthropic's API.

    After `ping_s` of silence a stream gets an `event: ping`; 0 is never. `count`: somebody wants to
    know the tokens of answers.
    """

    def __init__(
        self,
        engine: Engine,
        presence: Presence,
        *,
        native: Container[str],
        max_body_bytes: int,
        ping_s: float,
        count: bool,
    ) -> None:
        self._engine = engine
        self._presence = presence
        self._native = native
        self._max_body_bytes = max_body_bytes
        self._ping_s = ping_s
        self._count = count

    async def __call__(self, visit: Visit) -> None:
        streaming = False
        try:
            with self._presence.watch(visit) as watch:
                call = await self._read(visit)
                watch.listen()
                streaming = call.stream
                await (self._stream if streaming else self._complete)(call, visit)
        except RelayError as error:
            visit.trail.error = error.name
            if streaming and visit.client.started:
                await awaited(visit.end(error_event(visit, error)))
            elif isinstance(error, UpstreamStatus) and visit.trail.target in self._native:
                status = failures.to_messages_status(error.status, error.body)
                await awaited(visit.answer(status, error.headers, error.body))
            else:
                raise

    async def _read(self, visit: Visit) -> Call:
        body = await read_body(visit, max_bytes=self._max_body_bytes)
        payload = read_json(body, visit.headers)
        model, stream = payload.get("model"), payload.get("stream")
        if not isinstance(model, str) or not model:
            raise unfit("model", "is required and must be a string")
        if not isinstance(stream, bool | None):
            raise unfit("stream", "must be true or false")
        native = Call(
            path=_path(visit.client.scope),
            body=body,
            # What the engine may look at: the rest is in a form that it does not know.
            payload=naming(payload) if visit.identity.models else {"model": model},
            model=model,
            stream=bool(stream),
            request_id=visit.request_id,
            identity=visit.identity,
            headers=visit.client.head.made(upward),
            timeouts=read_timeouts(visit.headers),
        )

        def for_target(name: str) -> Call:
            if name in self._native:
                return native
            if visit.client.path == COUNT_TOKENS:
                raise RouteNotFound("Only an upstream of kind 'anthropic' counts tokens.")
            return _as_chat(native, payload)

        return replace(native, for_target=for_target)

    async def _complete(self, call: Call, visit: Visit) -> None:
        answer = await self._engine.complete(call, visit.trail)
        body, headers = answer.body, answer.headers
        count = self._count or visit.trail.reservation is not None
        if visit.trail.target in self._native:
            if visit.client.path == COUNT_TOKENS:
                visit.trail.usage = Usage()  # counting costs nothing
            elif count:
                messages_usage.take_body(visit.trail, body)
        else:
            if count:
                visit.trail.take_body(body)
            body, headers = messages_answer.to_message_body(body), [JSON, *translated(headers)]
        await awaited(visit.answer(answer.status, headers, body))

    async def _stream(self, call: Call, visit: Visit) -> None:
        async with self._engine.stream(call, visit.trail) as answer:
            if visit.trail.target in self._native:
                await self._pass_on(visit, answer)
            else:
                await self._translate(visit, answer, call.model)

    async def _pass_on(self, visit: Visit, answer: Answer) -> None:
        count = self._count or visit.trail.reservation is not None
        usage = messages_usage.UsageInMessages() if count else None
        try:
            await send_events(visit, answer, ping_s=self._ping_s, ping=PING, usage=usage)
        finally:
            if usage is not None:
                visit.trail.take_stream(usage)

    async def _translate(self, visit: Visit, answer: Answer, model: str) -> None:
        translator = MessagesStream(
            model=model, message_id=f"msg_{visit.request_id}", request_id=visit.request_id
        )
        sample = Sample()
        headers: RawHeaders = [EVENTS, *translated(answer.headers), *STREAM_HEADERS]
        await awaited(visit.begin(answer.status, headers))
        try:
            if self._ping_s:
                every_s, between = self._ping_s, lambda: not translator.finished
                with Pings(visit.write, every_s=every_s, between=between, ping=PING) as pings:
                    last = await _pour(answer, translator, sample, pings.write)
            else:
                last = await _pour(answer, translator, sample, visit.write)
        except RelayError:
            if not translator.finished:  # else the message was whole, whatever came of the rest
                raise
            last = b""
        finally:
            visit.trail.usage = read_usage(translator.usage)
            if visit.trail.usage is None:
                visit.trail.written_tokens = sample.tokens()
        await awaited(visit.end(last + translator.end()))


def _path(scope: Scope) -> str:
    """Path and query, below the base URL; of the two paths there are only these spellings."""
    path: str = scope["path"].removeprefix("/v1/")
    query: bytes = scope["query_string"]
    return f"{path}?{query.decode('latin-1')}" if query else path


def _as_chat(native: Call, payload: dict[str, Any]) -> Call:
    """The same as a chat completion request. Raises: InvalidRequest: there is no such thing."""
    try:
        chat = messages_request.to_chat(payload)
        check_chat(chat)
        body = json_text.dump(chat)
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is nested too deeply.") from None
    kept = [pair for pair in native.headers if not pair[0].startswith((b"anthropic-", JSON[0]))]
    headers = [*kept, JSON]
    return replace(native, path="chat/completions", body=body, payload=chat, headers=headers)


async def _pour(
    answer: Answer, translator: MessagesStream, sample: Sample, write: Callable[[bytes], Wait]
) -> bytes:
    def sink(piece: bytes) -> Awaitable[None] | None:
        sample.add(piece)
        events = translator.feed(piece)
        return write(events) if events else None

    last = await pour(answer, sink)
    sample.add(last)
    return translator.feed(last)
