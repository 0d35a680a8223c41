"""The one place that builds things: settings in, a running relay out.

Settings --> Built --> Relay --> uvicorn, in this process or in workers
"""

import asyncio
import gc
import math
import pickle
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from sse_starlette.sse import AppStatus
from starlette.routing import Router as Routes
from starlette.types import Receive, Scope, Send

from relay.backends import Backends, Sharing, already_open, open_backends
from relay.books import close_books, keys_of, ledger_of, store_of
from relay.built import Built, forget_routes
from relay.health import Health
from relay.local import Handed, LocalBackend, LocalModel
from relay.model_process import ModelProcesses
from relay.prices import PriceTable
from relay.reload import Reloader, Sources, Supervision, held
from relay.routing import Router
from relay.settings import Settings, SettingsError, load_settings, variable
from relay.stores.counters import count_for_workers, open_counters
from relay.telemetry import logs
from relay.web.admin_reload import Outcome, Reload, not_reloadable
from relay.web.connection import ClientConnection
from relay.web.exchange import Exchange
from relay.web.presence import Presence
from relay.web.websocket import ChatSocket
from relay.workers import Orders, Together, Workers, tell_parent

BACKLOG = 2048
KEEP_ALIVE_S = 75
"""How long a client's idle connection is kept: longer than common proxies keep theirs."""

MAX_FRAME_BYTES = 1024 * 1024
"""The largest WebSocket frame that is read."""

GC_THRESHOLDS = (20_000, 20, 50)
"""Python's own (700, 10, 10) collects every few requests, to find next to nothing.

An answer leaves no cycles behind, a client that leaves in the middle does: so not never, either.
"""

SHUTDOWN_MARGIN_S = 2.0
"""What uvicorn waits beyond the grace, for answers that we have ended to be written out."""

WORKER_MARGIN_S = 3.0
"""What a worker has beyond that, to give back its connections and models, before it is killed."""


class Relay:
    """The ASGI application: what is built from the settings, until that is replaced.

    `reload` is what `POST /admin/reload` does; a server of ours gives it. `opened` is the local
    backend of the settings when it has been opened already; `local` is one in place of theirs;
    `sharing` says where it is when it is in another process. `counted_at` is the socket of the one
    that counts for the limits of this one and others.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        local: LocalModel | LocalBackend | None = None,
        opened: LocalBackend | None = None,
        sharing: Sharing | None = None,
        counted_at: str | None = None,
    ) -> None:
        self.presence = Presence(settings.body_timeout_s)
        self.reload: Reload = not_reloadable
        self._local = local
        self._sharing = sharing
        self.store = store_of(settings)
        self.counters = open_counters(settings, socket=counted_at)
        self.ledger = ledger_of(settings, self.store, lambda: self._now.prices, self.counters)
        self._table = PriceTable()
        self._life = Routes(lifespan=self._lifespan)
        # Outside of what is built: an open socket must not hold an old configuration.
        self._socket = ChatSocket(lambda: self._now.turns)
        self._old: dict[Built, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.keys = keys_of(settings, self.store)
        self._now = self._built(settings, before=already_open(settings, opened), known={})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._life(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._now.layers(scope, receive, send)

    def answer(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        """The same, for a connection of our own: past the layers that it does not concern."""
        return self._now.answer(exchange)

    @property
    def settings(self) -> Settings:
        """Those that hold now."""
        return self._now.settings

    @property
    def backends(self) -> Backends:
        """Those that answer new calls."""
        return self._now.backends

    @property
    def router(self) -> Router:
        """What sends new calls to them."""
        return self._now.router

    def build(self, settings: Settings) -> Built:
        """What other settings amount to, with the backends that stay the same as they are now.

        Nothing of it runs yet, and nothing that runs has changed.

        Raises:
            SettingsError: a backend cannot be opened, or a policy is not there.
        """
        return self._built(settings, before=self.backends, known=self.router.health)

    def _built(
        self, settings: Settings, *, before: Backends | None, known: Mapping[str, Health]
    ) -> Built:
        backends = open_backends(settings, given=self._local, sharing=self._sharing, before=before)
        kept = set() if before is None else backends.shared_with(before)
        return Built(
            settings,
            backends,
            self.presence,
            store=self.store,
            ledger=self.ledger,
            table=self._table,
            counters=self.counters,
            known={name: health for name, health in known.items() if name in kept},
            reload=self._reload_now,
            virtual=self.keys,
        )

    def replace(self, built: Built) -> None:
        """Answer from now on by that; who is being answered is answered as he was.

        What the old one has alone is closed after its last answer, or when no call of its upstreams
        may run any longer. To be called in the event loop.
        """
        old, self._now = self._now, built
        self.presence.body_timeout_s = built.settings.body_timeout_s
        self._close(old.rest())
        built.start()
        give_up = partial(self._give_up, old)
        self._old[old] = asyncio.get_running_loop().call_later(old.patience_s, give_up)
        old.users.when_gone(give_up)

    async def _reload_now(self) -> Outcome:
        return await self.reload()

    def _give_up(self, old: Built) -> None:
        timer = self._old.pop(old, None)
        if timer is None:
            return
        timer.cancel()
        used = [backend for built in (self._now, *self._old) for backend in built.backends.all()]
        for backend in old.backends.all():
            if not any(backend is other for other in used):
                self._close(backend.aclose())
        self._close(old.catalogue.aclose())
        forget_routes()

    def _close(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    @asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncIterator[None]:
        self.ledger.start()
        self._now.start()
        try:
            yield
        finally:
            await self._now.rest()
            await self._now.catalogue.aclose()
            for old in list(self._old):
                self._give_up(old)
            await asyncio.gather(*self._closing)
            for backend in self.backends.all():
                await backend.aclose()
            await close_books(self.ledger, self.counters, self._table, self.keys, self.store)


class Server(uvicorn.Server):
    """uvicorn, with open answers ended cleanly when their time is over, and an exit code of 0."""

    def __init__(
        self, config: uvicorn.Config, relay: Relay, on_serving: Callable[[], None] | None
    ) -> None:
        super().__init__(config)
        self._relay = relay
        self._on_serving = on_serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start what the relay needs, then accept, then tell who asked for it."""
        await super().startup(sockets)
        if self._on_serving is not None:
            self._on_serving()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting; give open answers their grace; end the rest."""
        grace_s = self._relay.settings.shutdown_grace_s
        self.config.timeout_graceful_shutdown = math.ceil(grace_s + SHUTDOWN_MARGIN_S)
        end_all = self._relay.presence.end_all
        timer = asyncio.get_running_loop().call_later(grace_s, end_all)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()
            # A stop that was asked for is a success: uvicorn would raise the signal once more.
            self._captured_signals.clear()


def create_app(
    settings: Settings | None = None,
    *,
    local: LocalModel | LocalBackend | None = None,
    model: Any = None,
    tokenizer: Any = None,
) -> Relay:
    """The relay as an ASGI application, for a server of one's own; the models are as in `serve`.

    Raises:
        SettingsError: a setting is wrong, or the local backend it names is not there.
    """
    return Relay(settings or load_settings(), local=_given(local, model, tokenizer))


def serve(
    settings: Settings | None = None,
    *,
    local: LocalModel | LocalBackend | None = None,
    model: Any = None,
    tokenizer: Any = None,
    announce: Callable[[int], None] | None = None,
    sources: Sources | None = None,
    opened: LocalBackend | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; without settings, from the environment and its files.

    `model` and `tokenizer` are a model in hand: an object with ChatGLM's `chat` and `stream_chat`,
    or a causal language model of transformers. `local` is any other of your own.

    `announce` is called once, with the port, when the address is the relay's; with several workers,
    when the first of them serves. A `local` model is in a process of its own then: a copy.
    SIGHUP has the settings read again from their `sources`; without settings, from those of now.
    `opened` is the local backend that they name, when it has been opened already.

    Raises:
        SettingsError: a setting is wrong, the local backend it names is not there, or the one
            given cannot be copied to another process.
        OSError: the address cannot be listened on.
        WorkerFailed: no worker could begin to serve.
    """
    if settings is None:
        sources = sources or Sources()
        settings = sources.load()
    local = _given(local, model, tokenizer)
    logs.configure(settings.log_level, settings.log_format)
    with held():
        if settings.workers > 1:
            supervision = Supervision(settings, sources, local=local, opened=opened)
            _serve_by_workers(supervision, sources, local, announce)
            return
        relay = Relay(settings, local=local, opened=opened)
        listener = listen(settings.host, settings.port)
        if announce is not None:
            announce(listener.getsockname()[1])
        _run(relay, listener, Reloader(relay, sources), lambda: None)


def _given(local: LocalModel | LocalBackend | None, model: Any, tokenizer: Any) -> Any:
    """What `as_backend` makes a backend of."""
    return local if model is None else Handed(model, tokenizer)


def _run(
    relay: Relay, listener: socket.socket, reloader: Reloader, on_serving: Callable[[], None]
) -> None:
    def serving() -> None:
        reloader.attend()
        _freeze()
        on_serving()

    build_server(relay, on_serving=serving).run(sockets=[listener])


def _serve_by_workers(
    supervision: Supervision,
    sources: Sources | None,
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
    settings = supervision.settings
    listener = listen(settings.host, settings.port)
    port = listener.getsockname()[1]
    models = ModelProcesses(settings, local)
    counting = count_for_workers(settings)

    def orders(settings: Settings) -> Orders:
        patience_s = math.ceil(settings.shutdown_grace_s + SHUTDOWN_MARGIN_S) + WORKER_MARGIN_S
        shared = (models.sharing, counting.path)
        return Orders(partial(_work, settings, sources, shared), patience_s)

    def renew() -> Orders | None:
        renewed = supervision.renew()
        if renewed is None:
            return None
        models.follow(renewed)
        return orders(renewed)

    Workers(
        orders(settings),
        listener,
        count=settings.workers,
        announce=lambda: announce(port) if announce is not None else None,
        renew=renew,
        watch=supervision.watch,
        companion=Together(counting, models),
    ).run()


def _work(
    settings: Settings,
    sources: Sources | None,
    shared: tuple[Sharing, str],
    listener: socket.socket,
    on_serving: Callable[[], None],
) -> None:
    """What each worker does: a relay of its own on the common socket."""
    logs.configure(settings.log_level, settings.log_format)
    relay = Relay(settings, sharing=shared[0], counted_at=shared[1])
    _run(relay, listener, Reloader(relay, sources, spread=tell_parent), on_serving)


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

    def write_timeout_s() -> float:
        return relay.settings.write_timeout_s

    config = uvicorn.Config(
        relay,
        loop="uvloop",
        http=cast(Any, partial(ClientConnection, relay.answer, write_timeout_s)),
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME_BYTES,
        interface="asgi3",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    return Server(config, relay, on_serving)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        OSError: the address is in use, not allowed or not of this machine.
    """
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return socket.create_server(address[:2], family=family, backlog=BACKLOG)
