"""The application: the configuration that serves now, and how another takes its place.

Settings --> Built --> Relay --> a server (serving.py, or one of your own)
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.routing import Router as Routes
from starlette.types import Receive, Scope, Send

from relay.backends import Backends, Sharing, already_open, open_backends
from relay.books import close_books, keys_of, ledger_of, metrics_of, store_of
from relay.built import Built, forget_routes
from relay.health import Health
from relay.local import Handed, LocalBackend, LocalModel
from relay.prices import PriceTable
from relay.routing import Router
from relay.scraping import scraping_of
from relay.settings import Settings, load_settings
from relay.stores import open_post
from relay.stores.counters import open_counters
from relay.telemetry.tracing import open_traces
from relay.types import RawHeaders
from relay.web.admin_reload import Outcome, Reload, not_reloadable
from relay.web.exchange import Exchange
from relay.web.far_peers import FarPeers
from relay.web.peers import Peers
from relay.web.presence import Presence
from relay.web.shelf import Shelf
from relay.web.sockets import Crowd, Gate

POST_PREFIX = "relay:resume:"


class Relay:
    """The ASGI application: what is built from the settings, until that is replaced.

    `reload` is what `POST /admin/reload` does; a server of ours gives it. `opened` is the local
    backend of the settings when it has been opened already; `local` is one in place of theirs;
    `sharing` says where it is when it is in another process. `counted_at` is the socket of the one
    that counts for the limits of this one and others, in the folder where they meet.
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
        self._shelf = Shelf()
        folder = Path(counted_at).parent if counted_at else None
        self._peers = _peers_of(settings, self._shelf, folder)
        self.reload: Reload = not_reloadable
        self._local = local
        self._sharing = sharing
        self.store = store_of(settings)
        self.counters = open_counters(settings, socket=counted_at)
        self.ledger = ledger_of(settings, self.store, lambda: self._now.prices, self.counters)
        self.metrics = metrics_of(settings, lambda: self._now.prices)
        self.traces = open_traces(settings)
        self._scraping = scraping_of(self, folder)
        self._table = PriceTable()
        self._life = Routes(lifespan=self._lifespan)
        # Outside of what is built: an open socket must not hold an old configuration.
        self.crowd = Crowd()
        self._gate = Gate(lambda: self._now.turns, self.crowd)
        self._old: dict[Built, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.keys = keys_of(settings, self.store)
        self._now = self._built(settings, before=already_open(settings, opened), known={})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._life(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._gate(scope, receive, send)
        else:
            await self._now.layers(scope, receive, send)

    def answer(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        """The same, for a connection of our own: past the layers that it does not concern."""
        return self._now.answer(exchange)

    def beside(self, headers: RawHeaders) -> RawHeaders:
        """What goes with an answer of such a connection to what never became a request."""
        return self._now.layers.beside(headers)

    @property
    def now(self) -> Built:
        """The configuration that serves now."""
        return self._now

    @property
    def in_flight(self) -> int:
        """Requests, and turns of sockets, that are being answered."""
        return sum(built.users.count for built in (self._now, *self._old))

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
            shelf=self._shelf,
            peers=self._peers,
            known={name: health for name, health in known.items() if name in kept},
            reload=self._reload_now,
            virtual=self.keys,
            metrics=self.metrics,
            scrape=self._scraping.scrape if self._scraping else None,
            traces=self.traces,
        )

    def replace(self, built: Built) -> None:
        """Answer from now on by that; who is being answered is answered as he was.

        What the old one has alone is closed after its last answer, or when no call of its upstreams
        may run any longer. To be called in the event loop.
        """
        old, self._now = self._now, built
        self.metrics.follow(built.settings)
        self.presence.body_timeout_s = built.settings.body_timeout_s
        self._close(old.rest())
        built.switch.take_over(old.switch)
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
        self.traces.start()
        self._now.start()
        if self._peers is not None:
            await self._peers.start()
        if self._scraping is not None:
            self._scraping.start()
        try:
            yield
        finally:
            if self._peers is not None:
                await self._peers.aclose()
            await self._now.rest()
            await self._now.catalogue.aclose()
            for old in list(self._old):
                self._give_up(old)
            await asyncio.gather(*self._closing)
            for backend in self.backends.all():
                await backend.aclose()
            if self._scraping is not None:
                await self._scraping.aclose()
            await close_books(self.ledger, self.counters, self._table, self.keys, self.store)
            await self.traces.aclose()  # last: nothing else may wait for a collector


def _peers_of(settings: Settings, shelf: Shelf, folder: Path | None) -> Peers | FarPeers | None:
    """Who else may have the stream that a client comes back for."""
    if settings.redis_url is not None and settings.resume_s:
        return FarPeers(shelf, open_post(settings.redis_url, POST_PREFIX))
    return Peers(shelf, folder) if folder else None


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
    return Relay(settings or load_settings(), local=given_model(local, model, tokenizer))


def given_model(local: LocalModel | LocalBackend | None, model: Any, tokenizer: Any) -> Any:
    """What `as_backend` makes a backend of."""
    return local if model is None else Handed(model, tokenizer)
