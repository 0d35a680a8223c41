"""Every setting: its name, type, default and meaning, and what must hold between them."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from relay.settings.faults import faults_of
from relay.settings.keys import IssuerSettings, KeySettings, ProxyNetworks, TeamSettings
from relay.settings.local import LocalModelSettings
from relay.settings.prices import PriceSettings
from relay.settings.routes import History, ModelSettings, OfflineSettings
from relay.settings.sockets import SocketSettings
from relay.settings.upstream import Section, SomeTimeouts, Timeouts, UpstreamSettings
from relay.settings.values import (
    Address,
    BaseUrl,
    HeaderSecret,
    Names,
    Patterns,
    Seconds,
    Secret,
    Secrets,
    is_loopback,
)

Mode = Literal["auto", "remote", "local"]

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, never bound


class Settings(Section):
    """The whole configuration; frozen once it is made.

    `Settings(...)` takes what it is given and nothing else; `load_settings` reads the sources.
    """

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="port to listen on")
    workers: Annotated[int, Field(ge=1, le=256)] = Field(1, description="how many processes serve")

    upstream_url: BaseUrl | None = Field(
        None,
        description="base URL of one OpenAI-format server, with its /v1"
        " (falls back to OPENAI_BASE_URL)",
    )
    upstream_api_key: Secret | None = Field(
        None, description="the hidden key sent to it (falls back to OPENAI_API_KEY)"
    )
    mode: Mode = Field(
        "auto", description="auto (the upstream when there is one, else local), remote, local"
    )
    local: str | None = Field(
        None,
        description="local backend: smollm2, llama:PATH.gguf, llama:NAME, transformers:DIR,"
        " chatglm:DIR, echo or package.module:attribute (default: smollm2 when it is installed,"
        " else echo)",
    )
    local_folder: Path = Field(
        Path("~/.cache/relay/models"),
        description="where relay local add puts models, and llama:NAME looks for them",
    )
    local_context_tokens: Annotated[int, Field(ge=128)] = Field(
        4096, description="tokens of prompt and answer that one local request may use"
    )
    local_parallel: Annotated[int, Field(ge=1, le=64)] = Field(
        2, description="local requests answered at once; more wait their turn"
    )
    local_threads: Annotated[int, Field(ge=0)] = Field(
        0, description="threads of the local engine; 0: one per core"
    )
    local_waiting: Annotated[int, Field(ge=0)] = Field(
        100, description="local requests that may wait for their turn; more are told to come back"
    )
    local_overflow: Literal["error", "trim"] = Field(
        "error",
        description="a conversation longer than the local context is refused (error), or loses its"
        " oldest turns (trim)",
    )
    local_idle_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0,
        description="seconds without a request after which a local model is unloaded; 0: never",
    )
    local_memory_mb: Annotated[int, Field(ge=0)] = Field(
        0, description="memory that all local models may use; 0: what the machine has"
    )
    local_options: dict[str, Any] = Field(
        default_factory=dict,
        description="what the backend of RELAY_LOCAL is told beside that; in relay.toml as"
        " [local_options]",
    )
    local_models: tuple[LocalModelSettings, ...] = Field(
        (), description="more local models; in relay.toml as [[local_models]]"
    )
    local_map: dict[str, str] = Field(
        default_factory=dict,
        description="which local model answers for an id of the clients; * and vendor/* are"
        " patterns; in relay.toml as [local_map]",
    )

    api_keys: Secrets = Field((), description="keys that clients may use, comma separated")
    admin_key: Secret | None = Field(None, description="bearer of the admin API")
    allow_anonymous: bool = Field(
        False, description="serve without client keys on an address other than loopback"
    )
    keys_refresh_s: Annotated[float, Field(gt=0, le=5)] = Field(
        2.0, description="seconds between two looks for changed keys in the database"
    )
    token_secret: Secret | None = Field(
        None,
        description="also signs browser tokens, the same for all replicas: who reads the database"
        " then still cannot make any",
    )
    longest_token_s: Annotated[int, Field(ge=1, le=86400)] = Field(
        3600, description="longest life of a browser token (POST /v1/client_secrets), seconds"
    )
    trusted_proxies: ProxyNetworks = Field(
        (),
        description="addresses of proxies whose x-forwarded-for is believed, comma separated, such"
        " as 10.0.0.0/8: keys with networks are held against what it tells",
    )
    cors_origins: Names = Field(
        ("http://localhost:*", "http://127.0.0.1:*"),
        description="origins that may call from a browser, comma separated; * allowed,"
        " also as a port",
    )
    cors_credentials: bool = Field(False, description="let browsers send cookies")
    cors_methods: Names = Field(
        ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
        description="methods a preflight allows, comma separated",
    )
    cors_headers: Names = Field(
        ("*",), description="request headers a preflight allows, comma separated; * allowed"
    )
    cors_max_age_s: Annotated[int, Field(ge=0)] = Field(
        600, description="seconds a browser may remember a preflight"
    )
    cors_private_network: bool = Field(
        False,
        description="tell browsers that pages of public addresses may call this relay in a private"
        " network",
    )

    default_model: str | None = Field(
        None,
        description="model asked when a client names none, as classic WebSocket frames do"
        " (default: the first that serves)",
    )
    history: History = Field(
        "normalize",
        description="what happens to conversations that do not alternate: normalize, reject,"
        " passthrough",
    )
    timeouts: Timeouts = Field(Timeouts(), description="time limits of upstream calls")
    longest_timeouts: SomeTimeouts = Field(
        SomeTimeouts(),
        description="what x-relay-timeouts of a request may ask for; default: no more than is set",
    )
    max_retry_after_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        10.0, description="longest retry-after of an upstream that is waited for, seconds"
    )
    offline: OfflineSettings = Field(OfflineSettings(), description="how auto mode changes sides")
    state_file: Path = Field(
        Path("relay.state.json"),
        description="where a mode that was set by hand is kept over restarts",
    )
    watch_config: bool = Field(
        False, description="apply relay.toml as soon as it changes; else on SIGHUP, relay reload"
    )
    retries: Annotated[int, Field(ge=0, le=10)] = Field(
        2, description="times a call is sent again when nothing of it can have arrived"
    )
    max_body_bytes: Annotated[int, Field(ge=1)] = Field(
        32 * 1024 * 1024, description="largest request body, counted while it is read"
    )
    max_upload_bytes: Annotated[int, Field(ge=1)] = Field(
        512 * 1024 * 1024, description="the same for files: multipart and octet-stream bodies"
    )
    body_timeout_s: Seconds = Field(
        60.0,
        description="longest wait for a request's body, or for its next piece when it is"
        " passed on as it comes, seconds",
    )
    write_timeout_s: Seconds = Field(
        60.0, description="a client that takes nothing of its answer for so long is cut, seconds"
    )
    passthrough: Patterns = Field(
        ("default",),
        description="other calls under /v1 that go to the upstream, comma separated: default"
        " (what asks a model), *, or patterns such as /v1/files* and GET /v1/batches*",
    )
    ping_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="seconds of silence after which a stream gets a comment; 0: never"
    )
    websocket: SocketSettings = Field(SocketSettings(), description="what WebSockets may do")
    resume_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        0.0,
        description="seconds a chat stream that asked for it (x-relay-resume: 1) goes on without"
        " its client, who may come back for the rest; 0: never",
    )
    resume_bytes: Annotated[int, Field(ge=1024)] = Field(
        256 * 1024, description="how much is kept of each such stream"
    )
    resume_streams: Annotated[int, Field(ge=1)] = Field(
        1000, description="how many such streams one process keeps; more are ordinary streams"
    )
    resume_streams_per_key: Annotated[int, Field(ge=1)] = Field(
        100, description="how many of them may be of one key"
    )
    stream_usage: bool | None = Field(
        None,
        description="ask upstreams for the token counts of streams; clients who did not ask do not"
        " see them (default: true where usage is kept, see database_url)",
    )
    shutdown_grace_s: Annotated[float, Field(ge=0)] = Field(
        10.0, description="seconds open answers have to finish after SIGTERM"
    )

    # Both may hold a password, so they are not shown.
    database_url: Address = Field(
        "sqlite:///relay.db",
        repr=False,
        description="where keys and usage are kept: sqlite:///relay.db, postgresql://..., or none",
    )
    database_pool_size: Annotated[int, Field(ge=1, le=100)] = Field(
        5, description="most connections of one process to a PostgreSQL"
    )
    ledger_flush_s: Annotated[float, Field(ge=0.05, le=60)] = Field(
        1.0, description="seconds between two writes of the ledger: what a kill costs"
    )
    ledger_keep_days: Annotated[int, Field(ge=1)] = Field(
        400, description="days the row of each request is kept; sums by the hour stay"
    )
    bodies_keep_days: Annotated[int, Field(ge=1)] = Field(
        30, description="days bodies are kept, of those keys whose policy wants them kept"
    )
    redact_bodies: str | None = Field(
        None,
        description="what bodies go through before they are kept: the name of an entry point in"
        " relay.redactors, or package.module:attribute",
    )
    redis_url: Address | None = Field(
        None, repr=False, description="shared counters for many replicas"
    )
    redis_timeout_s: Seconds = Field(
        1.0, description="longest that a call waits for Redis, seconds"
    )
    limits_without_redis: Literal["open", "closed"] = Field(
        "open",
        description="while Redis is away: open (each process counts by itself) or closed (503 for"
        " calls that have limits)",
    )
    default_completion_tokens: Annotated[int, Field(ge=0)] = Field(
        1024,
        description="tokens of an answer that are reserved where a request does not say how many"
        " it may have",
    )
    unpriced_models: Literal["allow", "refuse"] = Field(
        "allow",
        description="calls of a model without a price by those who have a budget: allow (they cost"
        " nothing) or refuse",
    )
    budget_journal: Path = Field(
        Path("relay.budgets.journal"),
        description="where money is noted that is in no ledger yet, so that budgets hold when the"
        " relay is killed",
    )
    metrics: bool | None = Field(
        None,
        description="answer GET /metrics, for Prometheus (default: true where usage is kept, see"
        " database_url)",
    )
    metrics_key: Secret | None = Field(
        None,
        description="bearer of GET /metrics, beside admin_key; without either it is answered on"
        " loopback only, and while nobody needs a key",
    )
    traces_url: BaseUrl | None = Field(
        None, description="where traces go: the OTLP/HTTP address of a collector"
    )
    traces_sample: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="part of the requests that is traced, 0 to 1"
    )
    traces_headers: HeaderSecret | None = Field(
        None, description="headers for that collector: name=value, comma separated"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least severe event that is logged; debug logs each request"
    )
    log_format: Literal["text", "json"] = Field("text", description="text or json")

    upstreams: tuple[UpstreamSettings, ...] = Field(
        (), description="several upstreams; in relay.toml as [[upstreams]]"
    )
    models: tuple[ModelSettings, ...] = Field(
        (), description="the models clients may name; in relay.toml as [[models]]"
    )
    prices: tuple[PriceSettings, ...] = Field(
        (), description="what models cost; in relay.toml as [[prices]]"
    )
    keys: tuple[KeySettings, ...] = Field(
        (), description="client keys by their hash, with limits; in relay.toml as [[keys]]"
    )
    teams: tuple[TeamSettings, ...] = Field(
        (), description="teams of those keys; in relay.toml as [[teams]]"
    )
    issuers: tuple[IssuerSettings, ...] = Field(
        (), description="identity providers (OIDC); in relay.toml as [[issuers]]"
    )

    @model_validator(mode="after")
    def _check_whole(self) -> "Settings":
        if faults := self.faults():
            raise ValueError("\n".join(faults))
        return self

    def faults(self) -> list[str]:
        """What does not hold between these settings: nothing, unless one is a `model_copy`'s."""
        return faults_of(self)

    @property
    def address(self) -> str:
        """The URL under which the relay is reached from this machine, without a path."""
        host = _EVERY_ADDRESS.get(self.host, self.host).strip("[]")
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def has_keys(self) -> bool:
        """Whether callers have keys by the configuration; those of the database come on top."""
        return bool(self.api_keys or self.keys or self.issuers)

    @property
    def anonymous(self) -> bool:
        """Whether callers need no key while there is none."""
        return self.allow_anonymous or is_loopback(self.host)

    def all_upstreams(self) -> tuple[UpstreamSettings, ...]:
        """The upstreams, whether they came as one URL or as a list."""
        if not self.upstream_url:
            return self.upstreams
        keys = () if self.upstream_api_key is None else (self.upstream_api_key,)
        return (
            UpstreamSettings(
                name="upstream",
                base_url=self.upstream_url,
                api_keys=keys,
                timeouts=self.timeouts,
            ),
        )
