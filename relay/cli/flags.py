"""The settings as flags: `port` is `--port`, `timeouts.connect_s` is `--timeouts-connect-s`.

A copy of what `relay.settings` knows, because importing that costs pydantic, and `--help` shall be
there at once. A test keeps both equal.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand


class Flag(NamedTuple):
    """A setting's path in `relay.toml`, its default as one would type it, and its meaning."""

    path: str
    default: str
    help: str


FLAGS: dict[str, tuple[Flag, ...]] = {
    "Listening": (
        Flag("host", "127.0.0.1", "address to listen on"),
        Flag("port", "8000", "port to listen on"),
        Flag("workers", "1", "how many processes serve"),
        Flag("shutdown_grace_s", "10", "seconds open answers have to finish after SIGTERM"),
    ),
    "Who answers": (
        Flag("mode", "auto", "auto (the upstream when there is one, else local), remote, local"),
        Flag(
            "upstream_url",
            "",
            "base URL of one OpenAI-format server, with its /v1 (falls back to OPENAI_BASE_URL)",
        ),
        Flag("upstream_api_key", "", "the hidden key sent to it (falls back to OPENAI_API_KEY)"),
        Flag(
            "local",
            "",
            "local backend: smollm2, llama:PATH.gguf, llama:NAME, transformers:DIR, chatglm:DIR,"
            " echo or package.module:attribute (default: smollm2 when it is installed, else echo)",
        ),
        Flag(
            "local_folder",
            "~/.cache/relay/models",
            "where relay local add puts models, and llama:NAME looks for them",
        ),
        Flag(
            "local_context_tokens",
            "4096",
            "tokens of prompt and answer that one local request may use",
        ),
        Flag("local_parallel", "2", "local requests answered at once; more wait their turn"),
        Flag("local_threads", "0", "threads of the local engine; 0: one per core"),
        Flag(
            "local_waiting",
            "100",
            "local requests that may wait for their turn; more are told to come back",
        ),
        Flag(
            "local_overflow",
            "error",
            "a conversation longer than the local context is refused (error), or loses its oldest"
            " turns (trim)",
        ),
        Flag(
            "local_idle_s",
            "0",
            "seconds without a request after which a local model is unloaded; 0: never",
        ),
        Flag(
            "local_memory_mb",
            "0",
            "memory that all local models may use; 0: what the machine has",
        ),
        Flag(
            "default_model",
            "",
            "model asked when a client names none, as classic WebSocket frames do"
            " (default: the first that serves)",
        ),
    ),
    "Who may call": (
        Flag("api_keys", "", "keys that clients may use, comma separated"),
        Flag(
            "allow_anonymous",
            "false",
            "serve without client keys on an address other than loopback",
        ),
        Flag("admin_key", "", "bearer of the admin API"),
        Flag("keys_refresh_s", "2", "seconds between two looks for changed keys in the database"),
        Flag(
            "token_secret",
            "",
            "also signs browser tokens, the same for all replicas: who reads the database then"
            " still cannot make any",
        ),
        Flag(
            "longest_token_s",
            "3600",
            "longest life of a browser token (POST /v1/client_secrets), seconds",
        ),
        Flag(
            "trusted_proxies",
            "",
            "addresses of proxies whose x-forwarded-for is believed, comma separated, such as"
            " 10.0.0.0/8: keys with networks are held against what it tells",
        ),
        Flag(
            "cors_origins",
            "http://localhost:*,http://127.0.0.1:*",
            "origins that may call from a browser, comma separated; * allowed, also as a port",
        ),
        Flag("cors_credentials", "false", "let browsers send cookies"),
        Flag(
            "cors_methods",
            "GET,POST,PUT,PATCH,DELETE,OPTIONS",
            "methods a preflight allows, comma separated",
        ),
        Flag("cors_headers", "*", "request headers a preflight allows, comma separated; * allowed"),
        Flag("cors_max_age_s", "600", "seconds a browser may remember a preflight"),
        Flag(
            "cors_private_network",
            "false",
            "tell browsers that pages of public addresses may call this relay in a private network",
        ),
    ),
    "Requests": (
        Flag(
            "history",
            "normalize",
            "what happens to conversations that do not alternate: normalize, reject, passthrough",
        ),
        Flag("retries", "2", "times a call is sent again when nothing of it can have arrived"),
        Flag("max_body_bytes", "33554432", "largest request body, counted while it is read"),
        Flag(
            "max_upload_bytes", "536870912", "the same for files: multipart and octet-stream bodies"
        ),
        Flag(
            "body_timeout_s",
            "60",
            "longest wait for a request's body, or for its next piece when it is passed on as it"
            " comes, seconds",
        ),
        Flag(
            "write_timeout_s",
            "60",
            "a client that takes nothing of its answer for so long is cut, seconds",
        ),
        Flag(
            "passthrough",
            "default",
            "other calls under /v1 that go to the upstream, comma separated: default (what asks a"
            " model), *, or patterns such as /v1/files* and GET /v1/batches*",
        ),
        Flag("ping_s", "0", "seconds of silence after which a stream gets a comment; 0: never"),
        Flag(
            "resume_s",
            "0",
            "seconds a chat stream that asked for it (x-relay-resume: 1) goes on without its"
            " client, who may come back for the rest; 0: never",
        ),
        Flag("resume_bytes", "262144", "how much is kept of each such stream"),
        Flag(
            "resume_streams",
            "1000",
            "how many such streams one process keeps; more are ordinary streams",
        ),
        Flag("resume_streams_per_key", "100", "how many of them may be of one key"),
        Flag(
            "stream_usage",
            "",
            "ask upstreams for the token counts of streams; clients who did not ask do not see them"
            " (default: true where usage is kept, see database_url)",
        ),
    ),
    "WebSockets; counts are those of one process": (
        Flag(
            "websocket.max_frame_bytes",
            "4194304",
            "largest message a client may send on a WebSocket",
        ),
        Flag(
            "websocket.frames_per_s",
            "50",
            "messages a client may send on one WebSocket each second",
        ),
        Flag("websocket.max_open", "1000", "open WebSockets of one key in one process"),
        Flag("websocket.max_answers", "8", "chat answers that may run at once on one WebSocket"),
        Flag(
            "websocket.key_wait_s",
            "10",
            "how long a WebSocket may take to send its key as its first frame, seconds",
        ),
        Flag(
            "websocket.ping_s",
            "20",
            "seconds between two pings to a WebSocket; one that does not answer for 20 s is closed;"
            " 0: never",
        ),
        Flag(
            "websocket.passthrough",
            "/v1/realtime",
            "WebSockets under /v1 that are passed on to the upstream, comma separated; * in a path"
            " stands for anything",
        ),
    ),
    "Time limits of upstream calls, in seconds": (
        Flag("timeouts.connect_s", "5", "until a connection stands, TLS included"),
        Flag("timeouts.first_byte_s", "60", "from the sent request until the answer's first bytes"),
        Flag("timeouts.idle_s", "60", "between two pieces of an answer"),
        Flag("timeouts.total_s", "600", "for the whole call, retries included"),
    ),
    "The most that a request may ask for (x-relay-timeouts); default: what is set above": (
        Flag("longest_timeouts.connect_s", "", "until a connection stands"),
        Flag("longest_timeouts.first_byte_s", "", "until the answer's first bytes"),
        Flag("longest_timeouts.idle_s", "", "between two pieces of an answer"),
        Flag("longest_timeouts.total_s", "", "for the whole call, retries included"),
    ),
    "What happens when an upstream fails": (
        Flag(
            "max_retry_after_s",
            "10",
            "longest retry-after of an upstream that is waited for, seconds",
        ),
        Flag(
            "offline.probe_s",
            "2",
            "seconds between two looks for an upstream while the network is away",
        ),
        Flag(
            "offline.return_after_s",
            "3",
            "seconds an upstream must have been within reach before calls go back",
        ),
        Flag(
            "state_file",
            "relay.state.json",
            "where a mode that was set by hand is kept over restarts",
        ),
        Flag(
            "watch_config",
            "false",
            "apply relay.toml as soon as it changes; else on SIGHUP, relay reload",
        ),
    ),
    "Limits and budgets of keys": (
        Flag(
            "limits_without_redis",
            "open",
            "while Redis is away: open (each process counts by itself) or closed (503 for calls"
            " that have limits)",
        ),
        Flag(
            "default_completion_tokens",
            "1024",
            "tokens of an answer that are reserved where a request does not say how many it may"
            " have",
        ),
        Flag(
            "unpriced_models",
            "allow",
            "calls of a model without a price by those who have a budget: allow (they cost nothing)"
            " or refuse",
        ),
        Flag(
            "budget_journal",
            "relay.budgets.journal",
            "where money is noted that is in no ledger yet, so that budgets hold when the relay is"
            " killed",
        ),
    ),
    "Memory and logs": (
        Flag(
            "database_url",
            "sqlite:///relay.db",
            "where keys and usage are kept: sqlite:///relay.db, postgresql://..., or none",
        ),
        Flag("database_pool_size", "5", "most connections of one process to a PostgreSQL"),
        Flag("ledger_flush_s", "1", "seconds between two writes of the ledger: what a kill costs"),
        Flag(
            "ledger_keep_days",
            "400",
            "days the row of each request is kept; sums by the hour stay",
        ),
        Flag(
            "bodies_keep_days",
            "30",
            "days bodies are kept, of those keys whose policy wants them kept",
        ),
        Flag(
            "redact_bodies",
            "",
            "what bodies go through before they are kept: the name of an entry point in"
            " relay.redactors, or package.module:attribute",
        ),
        Flag("redis_url", "", "shared counters for many replicas"),
        Flag("redis_timeout_s", "1", "longest that a call waits for Redis, seconds"),
        Flag(
            "metrics",
            "",
            "answer GET /metrics, for Prometheus (default: true where usage is kept, see"
            " database_url)",
        ),
        Flag(
            "metrics_key",
            "",
            "bearer of GET /metrics, beside admin_key; without either it is answered on loopback"
            " only, and while nobody needs a key",
        ),
        Flag("traces_url", "", "where traces go: the OTLP/HTTP address of a collector"),
        Flag("traces_sample", "1", "part of the requests that is traced, 0 to 1"),
        Flag("traces_headers", "", "headers for that collector: name=value, comma separated"),
        Flag(
            "log_level",
            "info",
            "least severe event that is logged; debug logs each request",
        ),
        Flag("log_format", "text", "text or json"),
    ),
}
"""Every flag, by the heading under which the help shows it."""

_CONFIG = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Option(metavar="FILE", help="the TOML file to read (default: relay.toml)"),
    ],
)


class GroupedHelp(TyperCommand):
    """Shows the flags under their headings. typer does so with rich only, which takes 0.4 s."""

    # Click's own types have moved between typer's releases, hence Any.
    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section a heading, in the order of the flags."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            heading = getattr(param, "rich_help_panel", None) or "Options"
            if record := param.get_help_record(ctx):
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def settings_flags(command: Callable[[dict[str, Any], str | None], None]) -> Callable[..., None]:
    """A command that takes every setting as a flag, made from one of `(flags, config)`.

    `flags` are those that were given, in the shape of `relay.toml`.
    """

    def with_flags(*, config: str | None, **given: Any) -> None:
        command(_nested(given), config)

    with_flags.__doc__ = command.__doc__
    # typer asks `inspect.signature` what a command takes.
    with_flags.__signature__ = inspect.Signature([_CONFIG, *_parameters()])  # type: ignore[attr-defined]
    return with_flags


def option(path: str) -> str:
    """The flag of a setting: `--timeouts-connect-s` for `timeouts.connect_s`."""
    return "--" + path.replace(".", "-").replace("_", "-")


def _parameters() -> Iterator[inspect.Parameter]:
    for heading, flags in FLAGS.items():
        for flag in flags:
            switch = flag.default == "false"
            name = option(flag.path)
            info = typer.Option(
                f"{name}/--no-{name[2:]}" if switch else name,
                metavar=None if switch else "VALUE",
                help=f"{flag.help} [{flag.default}]" if flag.default else flag.help,
                rich_help_panel=heading,
            )
            # Everything but a switch stays text: `load_settings` reads it, as from a variable.
            yield inspect.Parameter(
                flag.path.replace(".", "__"),
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[bool | None if switch else str | None, info],
            )


def _nested(given: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        table, _, field = name.rpartition("__")
        (nested.setdefault(table, {}) if table else nested)[field] = value
    return nested
