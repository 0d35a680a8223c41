"""What one configuration amounts to: settings in, everything that answers requests out.

Settings --> backends --> Router --> Engine --> routes --> Door --> Cors

Another configuration is another `Built`; `app.Relay` puts it in the place of this one.
"""

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies import models as remembered

from relay import __version__
from relay.backends import Backends
from relay.books import spent_in
from relay.engine import Engine
from relay.events import both
from relay.health import Health
from relay.keys import (
    Changes,
    Keyring,
    VirtualKeys,
    configured_entries,
    configured_teams,
    open_issuers,
)
from relay.ledger import NO_LEDGER, Book
from relay.limits import Limiter
from relay.local import LocalBackend, states
from relay.prices import Prices, PriceTable
from relay.probing import Probing
from relay.routing import LOCAL, Router
from relay.sessions import Sessions
from relay.settings import Settings
from relay.stores import Store, open_word
from relay.stores.counters import Counters
from relay.switch import KeptMode, Side, Spread, Switch
from relay.telemetry import logs
from relay.telemetry.metrics import NO_METRICS, Metrics, NoMetrics
from relay.telemetry.traced import traced
from relay.telemetry.traces import NO_TRACES, NoTraces, Traces
from relay.upstream import fetch
from relay.web import documentation
from relay.web.accounts import Accounts
from relay.web.acts import Acts
from relay.web.admin import AdminKey, admin_router
from relay.web.admin_keys import keys_router
from relay.web.admin_reload import Reload, reload_router
from relay.web.admin_teams import audit_router, teams_router
from relay.web.admin_upstreams import upstreams_router
from relay.web.admin_usage import usage_router
from relay.web.allowlist import Allowlist
from relay.web.catalogue import Catalogue
from relay.web.chat import ChatEndpoint
from relay.web.client_secrets import client_secrets_router
from relay.web.cors import Cors, Origins
from relay.web.cost import cost_router
from relay.web.door import Door
from relay.web.exchange import Exchange
from relay.web.failures import FAILURES, answer_failure
from relay.web.far_peers import FarPeers
from relay.web.messages import messages_endpoints
from relay.web.metrics import MetricsKey, Scrape, metrics_router
from relay.web.models import Models
from relay.web.pages import STATIC, PageFiles, pages_router, swagger_files
from relay.web.passthrough import Passthrough
from relay.web.peers import Peers
from relay.web.presence import Presence
from relay.web.resume import ResumableChat
from relay.web.shelf import Shelf
from relay.web.sockets import Turns
from relay.web.tape import Room
from relay.web.traced_door import TracedDoor
from relay.web.users import Users

MODE_KEY = "relay:mode"
"""Where the replicas keep a mode that was set by hand, in Redis."""


class Built:
    """Backends, router, engine and layers, made for each other and never changed.

    `presence`, `shelf` and `peers` are the relay's, whatever is built for it. `known` tells how the
    backends do that were there before, by their names. `reload` is what `POST /admin/reload` does,
    `scrape` what `GET /metrics` does, None where there are no `metrics`. `traces` are told of each
    attempt, too.
    """

    def __init__(
        self,
        settings: Settings,
        backends: Backends,
        presence: Presence,
        *,
        store: Store | None,
        ledger: Book,
        table: PriceTable,
        counters: Counters,
        known: Mapping[str, Health],
        shelf: Shelf,
        peers: Peers | FarPeers | None,
        reload: Reload,
        virtual: VirtualKeys | None = None,
        metrics: Metrics | NoMetrics = NO_METRICS,
        scrape: Scrape | None = None,
        traces: Traces | NoTraces = NO_TRACES,
    ) -> None:
        self.settings = settings
        self.backends = backends
        self.presence = presence
        self.users = Users()
        self.prices = Prices(settings.prices, settings.all_upstreams(), table)
        self._store, self._ledger, self._metrics = store, ledger, metrics
        self._traces = traces
        self.limiter = Limiter(
            counters,
            prices=self.prices,
            spent=spent_in(store),
            completion_tokens=settings.default_completion_tokens,
            refuse_unpriced=settings.unpriced_models == "refuse",
        )
        self._shelf, self._peers = shelf, peers
        self._reload, self._scrape = reload, scrape
        self._virtual = virtual
        self._upstreams = backends.upstreams
        self._local = backends.local
        asked = partial(traced, upstreams=settings.all_upstreams(), traces=traces)
        self.router = Router(
            mode=settings.mode,
            upstreams=asked(self._upstreams),
            local=None if self._local is None else asked({LOCAL: self._local})[LOCAL],
            models=settings.models,
            history=settings.history,
            settings=settings.all_upstreams(),
            known=known,
        )
        self.switch = Switch(
            mode=settings.mode,
            probes={name: upstream.probe for name, upstream in self._upstreams.items()},
            local=backends.standby is not None,
            offline=settings.offline if backends.standby and backends.standby.chosen else None,
            kept=KeptMode(settings.state_file),
            on_move=self._move,
            observe=logs.of_moves(),
        )
        self.spread: Spread | None = None
        if settings.redis_url is not None:
            word = open_word(settings.redis_url, MODE_KEY)
            self.spread = Spread(KeptMode(settings.state_file), word)
        self.probing = Probing(settings.all_upstreams(), self._upstreams, self.router.health)
        self.layers = self._build()

    def answer(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        """Answer on a connection of our own: past the layers that the request does not concern."""
        if self.layers.concerns(exchange.method, exchange.head.named):
            return self.layers(exchange.scope, exchange.receive, exchange.send)
        return self._door.enter(exchange)

    def start(self) -> None:
        """Begin what runs beside the requests; to be called in the event loop."""
        self.switch.start()
        if self.spread is not None:
            self.spread.start()
        if self.backends.standby is not None:
            self.backends.standby.start()
        self.probing.start()
        if self._virtual is not None:
            self._virtual.refresh_s = self.settings.keys_refresh_s
            self._virtual.start()

    async def rest(self) -> None:
        """End that again; requests may still be answered."""
        await self.switch.aclose()
        if self.spread is not None:
            await self.spread.aclose()
        await self.probing.aclose()
        if self.issuers is not None:
            await self.issuers.aclose()

    def _move(self, serving: Side) -> None:
        self.router.serving = serving
        for name, upstream in self._upstreams.items():
            upstream.drop_idle()  # whatever the network lost, it told nobody
            self.router.health[name].try_again()  # nor was it the upstream that failed
        if serving == LOCAL and self.backends.standby is not None:
            self.backends.standby.load()

    @property
    def patience_s(self) -> float:
        """The longest that an upstream's answer may take."""
        settings = self.settings
        limits = [settings.timeouts, *(upstream.timeouts for upstream in settings.all_upstreams())]
        longest_s = settings.longest_timeouts.total_s or 0.0
        return max(longest_s, *(limit.total_s for limit in limits))

    def state(self) -> str:
        """`ready`, or what is missing."""
        if self.router.serving == LOCAL and self._local is not None:
            return self._local.state()
        return "ready"

    def _keyring(self) -> Keyring:
        settings = self.settings
        secret = settings.token_secret
        self.issuers = open_issuers(settings.issuers, configured_teams(settings.teams), fetch=fetch)
        return Keyring(
            configured_entries(settings),
            anonymous=settings.anonymous,
            virtual=self._virtual,
            # Who cannot read the keys that there should be must not take that for none.
            expects_keys=settings.admin_key is not None
            or "database_url" in settings.model_fields_set,
            issuers=self.issuers,
            token_secret=b"" if secret is None else secret.get_secret_value().encode(),
            trusted_proxies=settings.trusted_proxies,
        )

    def local_states(self) -> dict[str, str]:
        """How each local model does while the relay serves from them: `loaded`, `loading 40 %`."""
        if self.router.serving != LOCAL or self._local is None:
            return {}
        return _states_of(self._local)

    def _begun_states(self) -> dict[str, str] | None:
        """The same whoever serves, once the local model is loaded or being loaded."""
        standby = self.backends.standby
        return _states_of(standby.backend) if standby is not None and standby.begun else None

    def _chat_kind(self) -> Callable[..., ChatEndpoint]:
        settings = self.settings
        if not settings.resume_s:
            return ChatEndpoint
        room = Room(
            keep_s=settings.resume_s,
            stream_bytes=settings.resume_bytes,
            streams=settings.resume_streams,
            streams_per_key=settings.resume_streams_per_key,
        )
        return partial(ResumableChat, shelf=self._shelf, peers=self._peers, room=room)

    def _build(self) -> Cors:
        settings = self.settings
        keyring = self._keyring()
        origins = Origins(settings.cors_origins, guarded=keyring.guarded)
        told = both(self._metrics.observe, self._traces.observe)
        accounts = Accounts(both(logs.of_requests(), told), self._ledger, self.prices)
        kept = self._ledger is not NO_LEDGER
        count = accounts.told
        ask_usage = settings.stream_usage
        engine = Engine(
            self.router,
            retries=settings.retries,
            ask_usage=kept if ask_usage is None else ask_usage,
            max_retry_after_s=settings.max_retry_after_s,
            longest=settings.longest_timeouts,
            switch=self.switch,
            limiter=self.limiter,
            observe=both(logs.of_attempts(), told),
        )
        self.catalogue = Catalogue(
            upstreams=self._upstreams, local=self._local, models=settings.models
        )
        models = Models(engine, self.catalogue, default=settings.default_model)
        chat = self._chat_kind()(
            engine,
            self.presence,
            max_body_bytes=settings.max_body_bytes,
            ping_s=settings.ping_s,
            count=count,
        )
        passthrough = Passthrough(
            engine,
            self.presence,
            allowed=Allowlist(settings.passthrough),
            max_body_bytes=settings.max_body_bytes,
            max_upload_bytes=settings.max_upload_bytes,
            count=count,
        )
        app = FastAPI(
            title="relay",
            version=__version__,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        app.post("/v1/chat/completions", **documentation.CHAT)(documentation.chat)
        app.include_router(models.router(self.presence))
        longest_s = settings.longest_token_s
        app.include_router(client_secrets_router(keyring, self.presence, longest_s=longest_s))
        app.include_router(cost_router(self.router, self.prices, self.presence))
        administered = settings.admin_key is not None
        app.include_router(
            pages_router(
                self.state,
                lambda: self.router.serving,
                self.local_states,
                guarded=keyring.guarded,
                administered=administered,
            )
        )
        if settings.admin_key is not None:
            acts = Acts(self.presence, self._store)
            app.include_router(admin_router(self.switch, acts, ledger=self._store is not None))
            app.include_router(reload_router(self._reload, acts))
            if self._virtual is not None:
                changes = Changes(self._virtual)
                app.include_router(keys_router(changes, acts))
                app.include_router(teams_router(changes, acts))
                app.include_router(audit_router(self._virtual.store))
            shown = (settings.all_upstreams(), self._upstreams, self.router.health, self.switch)
            app.include_router(upstreams_router(*shown, self._begun_states))
            app.include_router(usage_router(self._store))
        if self._scrape is not None:
            app.include_router(metrics_router(self._scrape))
        app.mount("/static/swagger", PageFiles(directory=swagger_files()))
        app.mount("/static", PageFiles(directory=STATIC))
        self.turns = Turns(
            engine,
            models,
            keyring,
            origins,
            self.users,
            accounts,
            settings.websocket,
            Sessions(engine, observe=both(logs.of_attempts(), told)),
            self._traces,
        )
        documentation.document(app)
        for kind in FAILURES:
            app.add_exception_handler(kind, answer_failure)
        door = Door(
            app,
            direct=messages_endpoints(engine, self.presence, settings, count=count)
            | {("POST", "/v1/chat/completions"): chat},
            passthrough=passthrough,
            keyring=keyring,
            admin_key=AdminKey(settings.admin_key),
            metrics_key=MetricsKey(settings, on=self._scrape is not None, guarded=keyring.guarded),
            accounts=accounts,
            users=self.users,
            apart=isinstance(self._traces, Traces),
        )
        self._door = TracedDoor(door, self._traces) if isinstance(self._traces, Traces) else door
        return Cors(
            self._door,
            origins=origins,
            credentials=settings.cors_credentials,
            methods=settings.cors_methods,
            headers=settings.cors_headers,
            max_age_s=settings.cors_max_age_s,
            private_network=settings.cors_private_network,
        )


def forget_routes() -> None:
    """Let FastAPI forget the routes of old configurations.

    It remembers what kind of function each of 4,096 endpoints is, and with an endpoint all that it
    refers to: so hundreds of configurations, with their keys.
    """
    for cached in vars(remembered).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()


def _states_of(local: LocalBackend) -> dict[str, str]:
    return {card.id: states.of_card(card) for card in local.cards()}
