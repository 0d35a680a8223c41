"""`POST /v1/chat/completions`: from the body to the last byte, past FastAPI's stack.

The status and the first bytes of the answer are in hand before our head goes out, so a failure
until then is a proper status; a failure after it is one error event, and no `[DONE]`.
"""

from collections.abc import AsyncIterator, Awaitable

from sse_starlette import EventSourceResponse, ServerSentEvent

from relay.attempts import Trail
from relay.engine import Engine
from relay.errors import RelayError
from relay.routing import LOCAL
from relay.sse import event
from relay.types import Answer, Call
from relay.upstream import upward
from relay.usage import UsageInStream
from relay.web.presence import Presence
from relay.web.reading import check_chat, read_body, read_json, read_timeouts
from relay.web.replies import Visit, awaited, send_events


class ChatEndpoint:
    """What is behind the chat route.

    After `ping_s` of silence a stream gets a comment; 0 is never. `count`: somebody wants to know
    the tokens of answers.
    """

    def __init__(
        self,
        engine: Engine,
        presence: Presence,
        *,
        max_body_bytes: int,
        ping_s: float,
        count: bool,
    ) -> None:
        self._engine = engine
        self._presence = presence
        self._max_body_bytes = max_body_bytes
        self._ping_s = ping_s
        self._count = count

    async def __call__(self, visit: Visit) -> None:
        streaming = False
        try:
            with self._presence.watch(visit) as watch:
                call = await self._read(visit)
                watch.listen()
                if streaming := call.stream:
                    await self._stream(call, visit)
                else:
                    answer = await self._engine.complete(call, visit.trail)
                    if self._count or visit.trail.reservation is not None:
                        visit.trail.take_body(answer.body)
                    wait = visit.answer(answer.status, answer.headers, answer.body)
                    if wait is not None:
                        await wait
        except RelayError as error:
            if not (streaming and visit.client.started):
                raise
            visit.trail.error = error.name
            await awaited(visit.end(event(error.envelope())))

    async def _read(self, visit: Visit) -> Call:
        body = await read_body(visit, max_bytes=self._max_body_bytes)
        payload = read_json(body, visit.headers)
        check_chat(payload)
        return Call(
            path="chat/completions",
            body=body,
            payload=payload,
            model=payload["model"],
            stream=bool(payload.get("stream")),
            request_id=visit.request_id,
            identity=visit.identity,
            headers=visit.client.head.made(upward),
            timeouts=read_timeouts(visit.headers),
        )

    async def _stream(self, call: Call, visit: Visit) -> None:
        async with self._engine.stream(call, visit.trail) as answer:
            strip = visit.trail.usage_unasked
            count = strip or self._count or visit.trail.reservation is not None
            usage = UsageInStream(strip=strip) if count else None
            try:
                await self._send(visit, answer, usage)
            finally:
                if usage is not None:
                    visit.trail.take_stream(usage)

    def _send(self, visit: Visit, answer: Answer, usage: UsageInStream | None) -> Awaitable[None]:
        if visit.trail.target == LOCAL and not hasattr(answer, "pour"):
            return self._send_iterated(visit, answer, usage)
        return send_events(visit, answer, ping_s=self._ping_s, usage=usage)

    async def _send_iterated(
        self, visit: Visit, answer: Answer, usage: UsageInStream | None
    ) -> None:
        """What a local backend of somebody else's yields, made sure to be events."""
        reply = EventSourceResponse(
            _with_error(answer, visit.trail, usage),
            headers={"cache-control": "no-cache"},
            ping=self._ping_s,
            ping_message_factory=lambda: ServerSentEvent(comment="ping", sep="\n"),
        )
        client = visit.client
        await reply(client.scope, client.receive, visit.send)


async def _with_error(
    answer: Answer, trail: Trail, usage: UsageInStream | None
) -> AsyncIterator[bytes]:
    try:
        async for piece in answer:
            if out := piece if usage is None else usage.push(piece):
                yield out
    except RelayError as error:
        trail.error = error.name
        yield event(error.envelope())
