"""Serving: a relay in uvicorn, on one listening socket, in this process or in workers."""

import asyncio
import gc
import logging
import math
import pickle
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import uvicorn
from sse_starlette.sse import AppStatus

from relay.app import Relay, given_model
from relay.backends import Sharing
from relay.local import LocalBackend, LocalModel
from relay.model_process import ModelProcesses
from relay.reload import Reloader, Sources, Supervision, held
from relay.settings import Settings, SettingsError, variable
from relay.stores.counters import count_for_workers
from relay.telemetry import logs
from relay.telemetry.gathering import Gathering
from relay.web.connection import ClientConnection
from relay.web.sockets import SocketProtocol
from relay.workers import Orders, Together, Workers, tell_parent

BACKLOG = 2048
KEEP_ALIVE_S = 75
"""How long a client's idle connection is kept: longer than common proxies keep theirs."""

GC_THRESHOLDS = (20_000, 20, 50)
"""Python's own (700, 10, 10) collects every few requests, to find next to nothing.

An answer leaves no cycles behind, a client that leaves in the middle does: so not never, either.
"""

SHUTDOWN_MARGIN_S = 2.0
"""What uvicorn waits beyond the grace, for answers that we have ended to be written out."""

WORKER_MARGIN_S = 3.0
"""What a worker has beyond that, to give back its connections and models, before it is killed."""

_log = logging.getLogger(__name__)


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
        timer = asyncio.get_running_loop().call_later(grace_s, self._end_all)
        self._relay.crowd.drain()
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()
            # A stop that was asked for is a success: uvicorn would raise the signal once more.
            self._captured_signals.clear()

    def _end_all(self) -> None:
        self._relay.presence.end_all()
        self._relay.crowd.end_all()


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
    when the first of them serves; without it a line of the log tells the address. A `local` model
    is in a process of its own then: a copy.
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
    local = given_model(local, model, tokenizer)
    announce = announce or partial(_log_address, settings)
    logs.configure(settings.log_level, settings.log_format)
    with held():
        if settings.workers > 1:
            supervision = Supervision(settings, sources, local=local, opened=opened)
            _serve_by_workers(supervision, sources, local, announce)
            return
        relay = Relay(settings, local=local, opened=opened)
        listener = listen(settings.host, settings.port)
        announce(listener.getsockname()[1])
        _run(relay, listener, Reloader(relay, sources), lambda: None)


def _log_address(settings: Settings, port: int) -> None:
    url = settings.model_copy(update={"port": port}).address + "/v1"
    _log.info("listening", extra={"fields": {"url": url}})


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
    announce: Callable[[int], None],
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
        announce=partial(announce, port),
        renew=renew,
        watch=supervision.watch,
        companion=Together(counting, Gathering(Path(counting.path).parent), models),
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
        http=cast(
            Any, partial(ClientConnection, relay.answer, write_timeout_s, beside=relay.beside)
        ),
        ws=cast(Any, partial(SocketProtocol, lambda: relay.settings)),
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
