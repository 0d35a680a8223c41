"""The one place that builds things: settings in, a running relay out.

Settings --> backends --> Router --> Engine --> routes --> Door --> Cors --> uvicorn
"""

import asyncio
import gc
import math
import pickle
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sse_starlette.sse import AppStatus
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from relay import __version__
from relay.engine import Engine
from relay.errors import (
    InvalidRequest,
    MethodNotAllowed,
    RelayError,
    RouteNotFound,
)
from relay.events import ignore
from relay.keys import Keyring
from relay.local import LocalBackend, LocalModel, as_backend, open_local
from relay.probing import Probing
from relay.routing import LOCAL, Router
from relay.schema import field_path
from relay.settings import Settings, SettingsError, load_settings, variable
from relay.telemetry import logs
from relay.types import Backend
from relay.upstream import open_upstream
from relay.web import documentation
from relay.web.allowlist import Allowlist
from relay.web.catalogue import Catalogue
from relay.web.chat import ChatEndpoint
from relay.web.connection import ClientConnection
from relay.web.cors import Cors, Origins
from relay.web.door import CLIENT_CLOSED_REQUEST, Door, internal_error
from relay.web.exchange import Exchange
from relay.web.models import Models
from relay.web.pages import STATIC, PageFiles, pages_router, swagger_files
from relay.web.passthrough import Passthrough
from relay.web.presence import ClientLeft, Presence
from relay.web.replies import answer_headers, visit
from relay.web.websocket import ChatSocket
from relay.workers import Workers

BACKLOG = 2048
KEEP_ALIVE_S = 75
"""How long a client's idle connection is kept: longer than common proxies keep theirs."""

MAX_FRAME_BYTES = 1024 * 1024
"""The largest WebSocket frame that is read."""

GC_THRESHOLDS = (50_000, 20, 50)
"""Python's own (700, 10, 10) collects every few requests, to find next to nothing."""

SHUTDOWN_MARGIN_S = 2.0
"""What uvicorn waits beyond the grace, for answers that we have ended to be written out."""

WORKER_MARGIN_S = 3.0
"""What a worker has beyond that, to give back its connections and models, before it is killed."""


class Relay:
    """A built relay: the ASGI application, and what has to be started and stopped with it."""

    def __init__(
        self, settings: Settings, *, local: LocalModel | LocalBackend | None = None
    ) -> None:
        self.settings = settings
        self.presence = Presence(settings.body_timeout_s)
        self._upstreams: dict[str, Backend] = {
            upstream.name: open_upstream(upstream, logs.of_keys())
            for upstream in settings.all_upstreams()
        }
        self._local = self._open_local(local)
        self.router = Router(
            mode=settings.mode,
            upstreams=self._upstreams,
            local=self._local,
            models=settings.models,
            history=settings.history,
            settings=settings.all_upstreams(),
        )
        self._layers = self._build()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._layers(scope, receive, send)

    def answer(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        """The same, for a connection of our own: past the layers that it does not concern."""
        if self._layers.concerns(exchange.method, exchange.headers):
            return self._layers(exchange.scope, exchange.receive, exchange.send)
        return self._door.enter(exchange)

    def state(self) -> str:
        """`ready`, or what is missing."""
        if self.router.serving == LOCAL and self._local is not None:
            return self._local.state()
        return "ready"

    def _open_local(self, given: LocalModel | LocalBackend | None) -> LocalBackend | None:
        settings = self.settings
        if given is not None:
            return as_backend(given, settings)
        needed = (
            settings.mode == "local"
            or not self._upstreams
            or any(target.local for model in settings.models for target in model.all_targets())
        )
        return open_local(settings.local, settings) if needed else None

    def _build(self) -> Cors:
        settings = self.settings
        keyring = Keyring(key.get_secret_value() for key in settings.api_keys)
        origins = Origins(settings.cors_origins, guarded=not keyring.empty)
        observe = logs.of_requests()
        engine = Engine(
            self.router,
            retries=settings.retries,
            ask_usage=settings.stream_usage,
            max_retry_after_s=settings.max_retry_after_s,
            longest=settings.longest_timeouts,
            observe=logs.of_attempts(),
        )
        self._catalogue = Catalogue(
            upstreams=self._upstreams, local=self._local, models=settings.models
        )
        models = Models(engine, self._catalogue, default=settings.default_model)
        chat = ChatEndpoint(
            engine,
            self.presence,
            max_body_bytes=settings.max_body_bytes,
            ping_s=settings.ping_s,
            count=observe is not ignore,
        )
        passthrough = Passthrough(
            engine,
            self.presence,
            allowed=Allowlist(settings.passthrough),
            max_body_bytes=settings.max_body_bytes,
            max_upload_bytes=settings.max_upload_bytes,
        )
        app = FastAPI(
            title="relay",
            version=__version__,
            lifespan=self._lifespan,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        app.post("/v1/chat/completions", **documentation.CHAT)(documentation.chat)
        app.include_router(models.router(self.presence))
        app.include_router(pages_router(self.state))
        app.mount("/static/swagger", PageFiles(directory=swagger_files()))
        app.mount("/static", PageFiles(directory=STATIC))
        socket = ChatSocket(engine, models, keyring=keyring, origins=origins)
        app.router.routes.append(WebSocketRoute("/ws", socket))
        documentation.document(app)
        for kind in (RelayError, HTTPException, RequestValidationError, ClientLeft, Exception):
            app.add_exception_handler(kind, _answer_error)
        direct = {("POST", "/v1/chat/completions"): chat}
        door = Door(
            app,
            direct=direct,
            passthrough=passthrough,
            keyring=keyring,
            observe=observe,
        )
        self._door = door
        return Cors(
            door,
            origins=origins,
            credentials=settings.cors_credentials,
            methods=settings.cors_methods,
            headers=settings.cors_headers,
            max_age_s=settings.cors_max_age_s,
        )

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        if self._local is not None:
            self._local.start()
        probing = Probing(self.settings.all_upstreams(), self._upstreams, self.router.health)
        probing.start()
        try:
            yield
        finally:
            await probing.aclose()
            await self._catalogue.aclose()
            for backend in (*self._upstreams.values(), self._local):
                if backend is not None:
                    await backend.aclose()


class Server(uvicorn.Server):
    """uvicorn, with open answers ended cleanly when their time is over, and an exit code of 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        presence: Presence,
        grace_s: float,
        on_serving: Callable[[], None] | None,
    ) -> None:
        super().__init__(config)
        self._presence = presence
        self._grace_s = grace_s
        self._on_serving = on_serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start what the relay needs, then accept, then tell who asked for it."""
        await super().startup(sockets)
        if self._on_serving is not None:
            self._on_serving()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting; give open answers their grace; end the rest."""
        timer = asyncio.get_running_loop().call_later(self._grace_s, self._presence.end_all)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()
            # A stop that was asked for is a success: uvicorn would raise the signal once more.
            self._captured_signals.clear()


def create_app(
    settings: Settings | None = None, *, local: LocalModel | LocalBackend | None = None
) -> Relay:
    """The relay as an ASGI application, for a server of one's own.

    Raises:
        SettingsError: a setting is wrong, or the local backend it names is not there.
    """
    return Relay(settings or load_settings(), local=local)


def serve(
    settings: Settings | None = None,
    *,
    local: LocalModel | LocalBackend | None = None,
    announce: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; without settings, from the environment and its files.

    `announce` is called once, with the port, when the address is the relay's; with several workers,
    when the first of them serves. Each worker has a `local` of its own: a copy of the one given.

    Raises:
        SettingsError: a setting is wrong, the local backend it names is not there, or the one
            given cannot be copied to the workers.
        OSError: the address cannot be listened on.
        WorkerFailed: no worker could begin to serve.
    """
    settings = settings or load_settings()
    logs.configure(settings.log_level, settings.log_format)
    if settings.workers > 1:
        _serve_by_workers(settings, local, announce)
        return
    relay = Relay(settings, local=local)
    listener = listen(settings.host, settings.port)
    if announce is not None:
        announce(listener.getsockname()[1])
    build_server(relay, on_serving=_freeze).run(sockets=[listener])


def _serve_by_workers(
    settings: Settings,
    local: LocalModel | LocalBackend | None,
    announce: Callable[[int], None] | None,
) -> None:
    try:
        pickle.dumps(local)
    except (pickle.PicklingError, TypeError, AttributeError) as exc:
        raise SettingsError(
            f"{variable('workers')}: the local model given in Python cannot be copied to other "
            f"processes ({exc}); serve with one worker, or name it as package.module:attribute "
            f"in {variable('local')}"
        ) from exc
    listener = listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    grace_s = settings.shutdown_grace_s
    Workers(
        partial(_work, settings, local),
        listener,
        count=settings.workers,
        patience_s=math.ceil(grace_s + SHUTDOWN_MARGIN_S) + WORKER_MARGIN_S,
        announce=lambda: announce(port) if announce is not None else None,
    ).run()


def _work(
    settings: Settings,
    local: LocalModel | LocalBackend | None,
    listener: socket.socket,
    on_serving: Callable[[], None],
) -> None:
    """What each worker does: a relay of its own on the common socket."""
    logs.configure(settings.log_level, settings.log_format)
    relay = Relay(settings, local=local)

    def serving() -> None:
        _freeze()
        on_serving()

    build_server(relay, on_serving=serving).run(sockets=[listener])


def _freeze() -> None:
    """Take what start-up made out of the garbage collector's sight, and let it look less often.

    Modules, models and routes live as long as the process: some hundred thousand objects, which
    each full collection would look at in vain, in the middle of somebody's stream.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def build_server(relay: Relay, *, on_serving: Callable[[], None] | None = None) -> Server:
    """uvicorn around a relay, configured and not yet running; calls back once it serves."""
    # Open streams are ended by our own presence, after their grace; not by this library at once.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]  # untyped there
    grace_s = relay.settings.shutdown_grace_s
    config = uvicorn.Config(
        relay,
        loop="uvloop",
        http=cast(Any, partial(ClientConnection, relay.answer)),
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME_BYTES,
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(grace_s + SHUTDOWN_MARGIN_S),
    )
    return Server(config, relay.presence, grace_s, on_serving)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        OSError: the address is in use, not allowed or not of this machine.
    """
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return socket.create_server(address[:2], family=family, backlog=BACKLOG)


async def _answer_error(request: Request, exc: Exception) -> Response:
    """Every failure inside FastAPI's stack, as the envelope."""
    if isinstance(exc, ClientLeft):
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    error = _as_relay_error(request, exc)
    reply = Response(error.envelope(), error.status)
    reply.raw_headers[:0] = answer_headers(error)
    return reply


def _as_relay_error(request: Request, exc: Exception) -> RelayError:
    if isinstance(exc, RelayError):
        return exc
    if isinstance(exc, HTTPException):
        return _routing_error(request, exc)
    if isinstance(exc, RequestValidationError):
        fault = exc.errors()[0]
        param = field_path(fault["loc"][1:])
        return InvalidRequest(f"Invalid value for '{param}': {fault['msg']}.", param=param)
    return internal_error(visit(request.scope).request_id)


def _routing_error(request: Request, exc: HTTPException) -> RelayError:
    path, method = request.scope["path"], request.scope["method"]
    headers = [
        (name.lower().encode(), value.encode()) for name, value in (exc.headers or {}).items()
    ]
    if exc.status_code == 404:
        return RouteNotFound(f"There is nothing at {method} {path}.")
    if exc.status_code == 405:
        return MethodNotAllowed(f"{path} does not take {method}.", headers=headers)
    return InvalidRequest(str(exc.detail))
