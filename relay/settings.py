"""Every setting: its name, meaning, default, and where it may come from.

    defaults < relay.toml (or RELAY_CONFIG / --config) < .env < environment < flags

A field `port` is `port` in `relay.toml`, `RELAY_PORT` in the environment and `--port` as a flag;
nested names join with two underscores (`RELAY_TIMEOUTS__CONNECT_S`). A secret is a value,
`env:NAME` or `file:PATH`. A wrong or unknown setting is a `SettingsError` of one readable text.
"""

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as _SourceError

from relay.schema import field_path

PREFIX = "RELAY_"
CONFIG_VARIABLE = "RELAY_CONFIG"
DEFAULT_CONFIG = "relay.toml"

Mode = Literal["auto", "remote", "local"]
History = Literal["normalize", "reject", "passthrough"]


class SettingsError(Exception):
    """A setting is wrong. The text names it, says what is wrong with it and what to do."""


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)
    return value


def _resolve_secret(value: object) -> object:
    if not isinstance(value, str):
        return value
    scheme, _, rest = value.partition(":")
    if scheme == "env" and rest:
        found = os.environ.get(rest)
        if not found:
            raise ValueError(f"the environment variable {rest} is not set")
        return found
    if scheme == "file" and rest:
        try:
            return Path(rest).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or "not UTF-8 text"
            raise ValueError(f"cannot read the file {rest}: {reason}") from None
    return value


def _check_key(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("a key is printable ASCII without spaces, and not empty")
    return secret


def _check_base_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a base URL starts with http:// or https:// and names a host")
    if parts.username or parts.password:
        raise ValueError("a base URL holds no user name or password; put the key into its setting")
    if parts.query or parts.fragment:
        raise ValueError("a base URL has no query and no fragment")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("the port of the base URL is not a number below 65536") from None
    return value.rstrip("/")


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
Secret = Annotated[SecretStr, BeforeValidator(_resolve_secret), AfterValidator(_check_key)]
Secrets = Annotated[tuple[Secret, ...], NoDecode, BeforeValidator(_split_commas)]
BaseUrl = Annotated[str, AfterValidator(_check_base_url)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A table of `relay.toml`; an unknown name in it is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Timeouts(Section):
    """The four time limits of an upstream call, in seconds."""

    connect_s: Seconds = Field(5.0, description="until a connection stands, TLS included")
    first_byte_s: Seconds = Field(
        60.0, description="from the sent request until the answer's first bytes"
    )
    idle_s: Seconds = Field(60.0, description="between two pieces of an answer")
    total_s: Seconds = Field(600.0, description="for the whole call, retries included")


class UpstreamSettings(Section):
    """One OpenAI-format server (`[[upstreams]]`)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    base_url: BaseUrl
    api_keys: Secrets = ()
    kind: Literal["openai"] = "openai"
    timeouts: Timeouts = Timeouts()
    max_parallel: Annotated[int, Field(ge=1)] = 1000
    headers: dict[str, Secret] = Field(
        default_factory=dict, description="sent with every call, such as openai-organization"
    )


class TargetSettings(Section):
    """Where a model's calls go: an upstream by name, or the local model."""

    upstream: str | None = None
    local: bool = False
    model: str | None = Field(None, description="the id the target knows; default: as asked")

    @model_validator(mode="after")
    def _one_place(self) -> "TargetSettings":
        if (self.upstream is None) != self.local:
            raise ValueError("a target names either an upstream or local = true")
        return self


class ModelSettings(Section):
    """A model that clients may name (`[[models]]`); `*` and `vendor/*` are patterns."""

    id: Annotated[str, Field(min_length=1)]
    targets: Annotated[tuple[TargetSettings, ...], Field(min_length=1, max_length=1)]
    history: History | None = None


class Settings(BaseSettings):
    """The whole configuration; frozen once it is loaded."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

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
        description="local backend: smollm2, llama:PATH.gguf, echo or package.module:attribute"
        " (default: smollm2 when it is installed, else echo)",
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

    api_keys: Secrets = Field((), description="keys that clients may use, comma separated")
    admin_key: Secret | None = Field(None, description="bearer of the admin API")
    allow_anonymous: bool = Field(
        False, description="serve without client keys on an address other than loopback"
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

    history: History = Field(
        "normalize",
        description="what happens to conversations that do not alternate: normalize, reject,"
        " passthrough",
    )
    timeouts: Timeouts = Field(Timeouts(), description="time limits of upstream calls")
    retries: Annotated[int, Field(ge=0, le=10)] = Field(
        2, description="times a call is sent again when nothing of it can have arrived"
    )
    max_body_bytes: Annotated[int, Field(ge=1)] = Field(
        32 * 1024 * 1024, description="largest request body, counted while it is read"
    )
    body_timeout_s: Seconds = Field(60.0, description="longest wait for a request's body, seconds")
    shutdown_grace_s: Annotated[float, Field(ge=0)] = Field(
        10.0, description="seconds open answers have to finish after SIGTERM"
    )

    database_url: str = Field("sqlite:///relay.db", description="where keys and usage are kept")
    redis_url: str | None = Field(None, description="shared counters for many replicas")
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load_settings` has gathered the sources; `Settings(...)` takes what it is given.
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @model_validator(mode="after")
    def _check_whole(self) -> "Settings":
        names = [upstream.name for upstream in self.upstreams]
        for name in names:
            if names.count(name) > 1 or name == "local":
                raise ValueError(f"two upstreams cannot both be called '{name}'")
        if self.upstream_url and self.upstreams:
            raise ValueError("set either upstream_url or [[upstreams]], not both")
        for model in self.models:
            for target in model.targets:
                if target.upstream is not None and target.upstream not in self._names():
                    raise ValueError(
                        f"model '{model.id}' goes to the upstream '{target.upstream}', "
                        f"which is not there{_nearest(target.upstream, self._names())}"
                    )
        if self.mode == "remote" and not self._names():
            raise ValueError("mode is 'remote', but there is no upstream: set RELAY_UPSTREAM_URL")
        if "*" in self.cors_origins and self.cors_credentials:
            raise ValueError("cors_origins '*' and cors_credentials cannot go together")
        if not (self.api_keys or self.allow_anonymous or is_loopback(self.host)):
            raise ValueError(
                f"the relay would be open to everyone on {self.host}: set RELAY_API_KEYS, "
                "or RELAY_ALLOW_ANONYMOUS=true if that is meant"
            )
        return self

    def _names(self) -> list[str]:
        if self.upstream_url:
            return ["upstream"]
        return [upstream.name for upstream in self.upstreams]

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

    def unused(self) -> list[str]:
        """Names that are set but do nothing in this version yet."""
        return [
            name
            for name in ("admin_key", "database_url", "redis_url")
            if name in self.model_fields_set
        ]


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    config: str | None = None,
    directory: Path | None = None,
) -> Settings:
    """Gather the settings from every source and check them.

    `flags` are field names and values, `config` the path of a TOML file, `directory` where `.env`
    and `relay.toml` are looked for (default: the working directory).

    Raises:
        SettingsError: a setting is unknown or wrong, or a file cannot be read.
    """
    directory = directory or Path.cwd()
    variables = {
        name: value
        for name, value in dotenv_values(directory / ".env").items()
        if value is not None
    } | dict(os.environ)
    problems = _unknown_variables(variables)
    if problems:
        raise SettingsError("\n".join(problems))
    values = _read_toml(directory, config or variables.get(CONFIG_VARIABLE))
    values = _merge(values, _read_variables(variables))
    values = _merge(values, dict(flags or {}))
    if not values.get("upstreams"):
        for field, fallback in (
            ("upstream_url", "OPENAI_BASE_URL"),
            ("upstream_api_key", "OPENAI_API_KEY"),
        ):
            if values.get(field) in (None, "") and variables.get(fallback):
                values[field] = variables[fallback]
    values = {name: value for name, value in values.items() if value != ""}
    try:
        return Settings(**values)
    except ValidationError as exc:
        raise SettingsError(_explain(exc)) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def variable(path: str) -> str:
    """The environment name of a field: `timeouts.connect_s` is `RELAY_TIMEOUTS__CONNECT_S`."""
    return PREFIX + path.upper().replace(".", "__")


def leaves() -> dict[str, Any]:
    """Every scalar field by its dotted path, with pydantic's description of it."""
    found: dict[str, Any] = {}
    for name, info in Settings.model_fields.items():
        if name == "timeouts":
            found |= {f"{name}.{sub}": detail for sub, detail in Timeouts.model_fields.items()}
        else:
            found[name] = info
    return found


def env_example() -> str:
    """The text of `.env.example`: every setting with its meaning and default, commented out."""
    lines = [
        "# Every setting of relay, with its default. Copy to .env and uncomment what you change.",
        "# The environment wins over this file, flags win over both; secrets may be file:PATH.",
    ]
    for path, info in leaves().items():
        if path in ("upstreams", "models"):
            continue  # tables, written in relay.toml
        default = info.get_default(call_default_factory=True)
        if isinstance(default, tuple):
            default = ",".join(default)
        elif isinstance(default, bool):
            default = str(default).lower()
        elif isinstance(default, float):
            default = f"{default:g}"
        choices = get_args(info.annotation) if isinstance(default, str) else ()
        hint = (
            f" ({', '.join(choices)})"
            if choices
            and all(isinstance(c, str) for c in choices)
            and choices[0] not in info.description
            else ""
        )
        lines += [
            "",
            f"# {info.description}{hint}",
            f"#{variable(path)}={'' if default is None else default}",
        ]
    return "\n".join(lines) + "\n"


class _Variables(EnvSettingsSource):
    """pydantic-settings' reader of the environment, over variables given to it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._given = {name.lower(): value for name, value in variables.items()}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._given


def _read_variables(variables: Mapping[str, str]) -> dict[str, Any]:
    try:
        return _Variables(variables)()
    except _SourceError as exc:
        raise SettingsError(f"{exc}: it is not valid JSON") from None


def _unknown_variables(variables: Mapping[str, str]) -> list[str]:
    known = {variable(path) for path in leaves()} | {CONFIG_VARIABLE, variable("timeouts")}
    return [
        f"{name}: there is no such setting{_nearest(name.upper(), known)}"
        for name in variables
        if name.upper().startswith(PREFIX) and name.upper() not in known
    ]


def _read_toml(directory: Path, given: str | None) -> dict[str, Any]:
    path = directory / (given or DEFAULT_CONFIG)
    if given is None and not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError(f"cannot read the configuration {path}: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} is not valid TOML: {exc}") from None


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merge(merged[name], value)
        else:
            merged[name] = value
    return merged


def _explain(exc: ValidationError) -> str:
    lines = []
    for fault in exc.errors(include_url=False, include_input=False):
        path = field_path(fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if not path:
            lines.append(message)
            continue
        if fault["type"] == "extra_forbidden":
            siblings = _siblings(fault["loc"])
            message = f"there is no such setting{_nearest(str(fault['loc'][-1]), siblings)}"
        lines.append(f"{_display(path)}: {message[0].lower()}{message[1:]}")
    return "\n".join(lines)


def _display(path: str) -> str:
    top = path.partition(".")[0].partition("[")[0]
    if top in ("upstreams", "models") or top not in Settings.model_fields:
        return f"'{path}' in {DEFAULT_CONFIG}"
    return variable(path)


def _siblings(loc: tuple[int | str, ...]) -> list[str]:
    table: type[BaseModel] = Settings
    for step in loc[:-1]:
        if isinstance(step, str) and step in _TABLES:
            table = _TABLES[step]
    return list(table.model_fields)


_TABLES: dict[str, type[BaseModel]] = {
    "timeouts": Timeouts,
    "upstreams": UpstreamSettings,
    "models": ModelSettings,
    "targets": TargetSettings,
}


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
