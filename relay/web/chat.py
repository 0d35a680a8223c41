"""`POST /v1/chat/completions`: plain ASGI from the body to the last byte.

The status and the first bytes of the answer are in hand before our head goes out, so a failure
until then is a proper status; a failure after it is one error event, and no `[DONE]`.
"""

from collections.abc import AsyncIterator
from functools import partial

from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from relay.engine import Engine
from relay.errors import RelayError
from relay.routing import LOCAL
from relay.sse import WholeEvents, event
from relay.types import Answer, Call
from relay.upstream import upward
from relay.web.pings import Pings, takes_comments
from relay.web.presence import Presence
from relay.web.reading import check_chat, read_body, read_json
from relay.web.replies import Visit, send_body, send_events, visit


class ChatEndpoint:
    """The ASGI application behind the chat route.

    After `ping_s` of silence a stream gets a comment; 0 is never.
    """

    def __init__(
        self, engine: Engine, presence: Presence, *, max_body_bytes: int, ping_s: float
    ) -> None:
        self._engine = engine
        self._presence = presence
        self._max_body_bytes = max_body_bytes
        self._ping_s = ping_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        here = visit(scope)
        streaming = False
        try:
            async with self._presence.watch(here, receive) as watch:
                call = await self._read(scope, receive, here)
                watch.listen()
                if streaming := call.stream:
                    await self._stream(call, here, scope, receive, send)
                else:
                    answer = await self._engine.complete(call, here.trail)
                    await send_body(send, answer.status, answer.body, answer.headers)
        except RelayError as error:
            if not (streaming and here.started):
                raise
            await send({"type": "http.response.body", "body": event(error.envelope())})

    async def _read(self, scope: Scope, receive: Receive, here: Visit) -> Call:
        body = await read_body(receive, here.headers, max_bytes=self._max_body_bytes)
        payload = read_json(body, here.headers)
        check_chat(payload)
        return Call(
            path="chat/completions",
            body=body,
            payload=payload,
            model=payload["model"],
            stream=bool(payload.get("stream")),
            request_id=here.request_id,
            identity=here.identity,
            headers=upward(scope["headers"]),
        )

    async def _stream(
        self, call: Call, here: Visit, scope: Scope, receive: Receive, send: Send
    ) -> None:
        async with self._engine.stream(call, here.trail) as answer:
            whole = WholeEvents()
            if here.trail.target == LOCAL:
                write = partial(_write_events, answer, scope, receive)
            else:
                write = partial(send_events, answer=answer, whole=whole)
            if self._ping_s and takes_comments(answer.headers):
                pings = Pings(send, every_s=self._ping_s, between=lambda: whole.between)
                async with pings:
                    await write(pings.send)
            else:
                await write(send)


async def _write_events(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """A local model's stream."""
    reply = EventSourceResponse(_with_error(answer), ping=0, headers={"cache-control": "no-cache"})
    await reply(scope, receive, send)


async def _with_error(answer: Answer) -> AsyncIterator[bytes]:
    try:
        async for piece in answer:
            yield piece
    except RelayError as error:
        yield event(error.envelope())
