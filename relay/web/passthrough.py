"""Everything else under `/v1`: passed to an upstream and back, as it is.

    where   the default upstream; with `[[models]]`, where the model goes that a JSON body names
    up      method, path and query byte for byte; the body while it comes, if it is not small, or
            whole and with the target's name of the model, when it decides where the call goes;
            that of a form (a transcription, say) decides, too: see forms.py
    down    status, headers and body while it comes

Until our head goes out a failure is a proper status. After it a stream of events ends with one
error event; any other answer is cut, so that no client takes a part for the whole.
"""

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

import orjson
from starlette.types import Scope

from relay.engine import Engine
from relay.errors import RelayError, RouteNotFound
from relay.keys import check_model, naming
from relay.routing import LOCAL
from relay.sse import event
from relay.types import Answer, Call
from relay.upstream import upward
from relay.usage import UsageInBody, UsageInStream
from relay.web.allowlist import MODEL_IN_BODY, Allowlist, check_path
from relay.web.forms import Begun, NamedModel, is_form, named
from relay.web.presence import Presence, Watch
from relay.web.reading import StreamedBody, announced_length, read_body, too_large
from relay.web.replies import Visit, Watcher, awaited, pour, send_events

PREFIX = "/v1/"

OWN = {
    "/v1/chat/completions": "POST",
    "/v1/models": "GET",
    "/v1/client_secrets": "POST",
    "/v1/relay/cost": "POST",
}
"""Paths of our own, and what they take; `GET /v1/models/{id}` is one, too."""

HELD_BYTES = 64 * 1024
"""A body up to this size is read before it is sent, so that nothing is begun for half a body."""

UPLOADS = ("multipart/", "application/octet-stream")
"""Content types of files; these bodies may be larger."""

_URL_CHARACTERS = "!\"$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


class Passthrough:
    """What is behind all paths of `/v1` that are not our own."""

    def __init__(
        self,
        engine: Engine,
        presence: Presence,
        *,
        allowed: Allowlist,
        max_body_bytes: int,
        max_upload_bytes: int,
        count: bool,
    ) -> None:
        """`count`: somebody wants to know the models and the tokens of calls."""
        self._engine = engine
        self._presence = presence
        self._allowed = allowed
        self._shows_model = Allowlist(MODEL_IN_BODY)
        self._max_body_bytes = max_body_bytes
        self._max_upload_bytes = max_upload_bytes
        self._count = count

    def takes(self, method: str, path: str) -> bool:
        """Whether that is for us: under `/v1`, and of the paths of our own only what is allowed."""
        if not path.startswith(PREFIX):
            return False
        own = "GET" if path.startswith("/v1/models/") else OWN.get(path)
        return own is None or (method != own and self._allowed.allows(method, path))

    async def __call__(self, visit: Visit) -> None:
        scope = visit.client.scope
        self._check(scope)
        router = self._engine.router
        streams_events = False
        try:
            with self._presence.watch(visit) as watch:
                call = await self._read(scope, visit, watch)
                target = None if router.named and call.model else router.default()
                async with self._engine.stream(call, visit.trail, target) as answer:
                    visit.trail.stream = streams_events = _is_event_stream(answer)
                    await self._send(visit, answer)
        except RelayError as error:
            if not (streams_events and visit.client.started):
                raise
            visit.trail.error = error.name
            await awaited(visit.end(event(error.envelope())))

    async def _send(self, visit: Visit, answer: Answer) -> None:
        tally: UsageInStream | UsageInBody | None = None
        count = self._count or visit.trail.reservation is not None
        if count and _generates(visit.client.method, visit.client.path):
            tally = UsageInStream(strip=False) if visit.trail.stream else UsageInBody()
        try:
            if visit.trail.stream:
                await send_events(visit, answer, usage=tally)
            else:
                await _send_bytes(visit, answer, tally)
        finally:
            if tally is not None:
                visit.trail.take_stream(tally)

    def _check(self, scope: Scope) -> None:
        method, path = scope["method"], scope["path"]
        check_path(path)
        if not scope["raw_path"].startswith(PREFIX.encode()):
            raise RouteNotFound(f"There is nothing at {method} {path}.")
        if self._engine.router.default().name == LOCAL and not self._local(scope):
            raise RouteNotFound(
                f"There is nothing at {method} {path}: without an upstream there is only what the "
                "local model answers: chat completions, and with a GGUF model completions and "
                "embeddings."
            )
        if not self._allowed.allows(method, path):
            raise RouteNotFound(
                f"{method} {path} is not passed on here; the setting passthrough "
                "(RELAY_PASSTHROUGH) says what is."
            )

    def _local(self, scope: Scope) -> bool:
        """Whether a local model may answer it: then its body is read whole, to be looked at."""
        path = scope["path"].removeprefix(PREFIX)
        return scope["method"] == "POST" and self._engine.router.answers_locally(path)

    async def _read(self, scope: Scope, visit: Visit, watch: Watch) -> Call:
        call = Call(
            path=target_of(scope),
            method=scope["method"],
            request_id=visit.request_id,
            identity=visit.identity,
            headers=upward(scope["headers"]),
        )
        length = announced_length(visit.headers)
        max_bytes = self._max_bytes(visit.headers)
        if length is not None and length > max_bytes:
            raise too_large(max_bytes)
        if not self._shows_model.allows(call.method, scope["path"]):
            check_model(call)  # without one: it may be named in the body, but not where it counts
        identity = visit.identity
        looked_at = self._engine.router.named or self._count or identity.models or identity.holders
        if looked_at and _is_json(visit.headers):
            return await self._read_named(call, visit, watch, max_bytes)
        if is_form(visit.headers):
            return await self._read_form(call, visit, watch, max_bytes)
        if (length is None or length > HELD_BYTES) and not self._local(scope):
            content = StreamedBody(watch, max_bytes=max_bytes)
            return replace(call, content=content, content_length=length)
        body = await read_body(visit, max_bytes=max_bytes)
        watch.listen()
        return replace(call, body=body)

    async def _read_named(self, call: Call, visit: Visit, watch: Watch, max_bytes: int) -> Call:
        """A call whose body may name a model, which may say where it goes."""
        body = await read_body(visit, max_bytes=max_bytes)
        watch.listen()
        try:
            payload = orjson.loads(body)
            model = payload["model"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            model = None  # no JSON, or no model in it: that is for the upstream to judge
        if not isinstance(model, str) or not model:
            return replace(call, body=body)
        shown = naming(payload) if call.identity.models else {"model": model}
        return replace(call, body=body, model=model, payload=shown)

    async def _read_form(self, call: Call, visit: Visit, watch: Watch, max_bytes: int) -> Call:
        """A call whose form may name a model; a long one is sent on while it comes.

        Nobody can see whether that names another one later, which an upstream might take instead:
        so it is not looked at for a caller who may not use every model.
        """
        length = announced_length(visit.headers)
        content = StreamedBody(watch, max_bytes=max_bytes)
        streamed = replace(call, content=content, content_length=length)
        if visit.identity.models and (length is None or length > HELD_BYTES):
            return streamed
        read = bytearray()
        async for piece in content:
            read += piece
            if len(read) > HELD_BYTES:
                break
        beginning = bytes(read)
        model = NamedModel.find(beginning, visit.headers)
        if content.ended:
            return named(replace(call, body=beginning), model)
        return named(replace(streamed, content=Begun(beginning, content)), model)

    def _max_bytes(self, headers: Mapping[bytes, bytes]) -> int:
        media_type = headers.get(b"content-type", b"").decode("latin-1").lower()
        return self._max_upload_bytes if media_type.startswith(UPLOADS) else self._max_body_bytes


async def _send_bytes(visit: Visit, answer: Answer, watcher: Watcher | None) -> None:
    write = visit.write
    await awaited(visit.begin(answer.status, answer.headers))
    if watcher is None:
        last = await pour(answer, write)
    else:
        last = watcher.push(await pour(answer, lambda piece: write(watcher.push(piece))))
    await awaited(visit.end(last))


def _generates(method: str, path: str) -> bool:
    """Whether an answer tells tokens of its own; others repeat those of an earlier one."""
    return method == "POST" and not path.endswith("/cancel")


def _is_json(headers: Mapping[bytes, bytes]) -> bool:
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return media_type == b"application/json"


def _is_event_stream(answer: Answer) -> bool:
    return any(
        name == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in answer.headers
    )


def target_of(scope: Scope) -> str:
    """Path and query as the client wrote them, below the base URL."""
    target: bytes = scope["raw_path"][len(PREFIX) :]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    return quote(target, safe=_URL_CHARACTERS)  # leaves what may stand in a URL, so nearly always
