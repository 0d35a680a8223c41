"""The settings of one upstream: where it is, what it speaks, and how long it may take."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FilePath, model_validator

from relay.settings.values import BaseUrl, Proxy, Seconds, Secret, Secrets


class Section(BaseModel):
    """A table of `relay.toml`; an unknown name in it is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), hide_input_in_errors=True
    )


class Timeouts(Section):
    """The four time limits of an upstream call, in seconds."""

    connect_s: Seconds = Field(5.0, description="until a connection stands, TLS included")
    first_byte_s: Seconds = Field(
        60.0, description="from the sent request until the answer's first bytes"
    )
    idle_s: Seconds = Field(60.0, description="between two pieces of an answer")
    total_s: Seconds = Field(600.0, description="for the whole call, retries included")


class SomeTimeouts(Section):
    """Some of the four; the others stay as they are."""

    connect_s: Seconds | None = Field(None, description="until a connection stands")
    first_byte_s: Seconds | None = Field(None, description="until the answer's first bytes")
    idle_s: Seconds | None = Field(None, description="between two pieces of an answer")
    total_s: Seconds | None = Field(None, description="for the whole call, retries included")


class BreakerSettings(Section):
    """When an upstream is left alone for a while, and for how long."""

    failures: Annotated[int, Field(ge=1)] = Field(5, description="failures in a row that open it")
    error_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.5, description="share of failed calls that opens it, once there were `calls` of them"
    )
    calls: Annotated[int, Field(ge=1)] = Field(20, description="fewest calls a rate is made of")
    window_s: Seconds = Field(30.0, description="how far back the rate looks")
    open_s: Seconds = Field(10.0, description="how long it stays open before one call may try")


class UpstreamSettings(Section):
    """One server (`[[upstreams]]`)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    base_url: BaseUrl
    api_keys: Secrets = ()
    kind: Literal["openai", "azure", "anthropic"] = Field(
        "openai", description="what it speaks: openai, azure (deployments), anthropic (messages)"
    )
    api_version: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")] | None = Field(
        None, description="azure: the api-version of each call; anthropic: its version header"
    )
    token_command: str | None = Field(
        None, repr=False, description="a program that prints a bearer token, in place of api_keys"
    )
    token_file: FilePath | None = Field(
        None,
        description="a file that holds a bearer token, in place of api_keys; read as it changes",
    )
    token_refresh_s: Seconds = Field(300.0, description="how long a token of token_command is used")
    timeouts: Timeouts = Timeouts()
    max_parallel: Annotated[int, Field(ge=1)] = 1000
    max_queued: Annotated[int, Field(ge=0)] = Field(
        10_000, description="calls that wait for one of max_parallel; more are refused at once"
    )
    breaker: BreakerSettings = BreakerSettings()
    probe_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="seconds between two probes (GET models) of its health; 0: none"
    )
    max_idle: Annotated[int, Field(ge=0)] = Field(
        100, description="connections that are kept open while there is nothing to ask"
    )
    headers: dict[str, Secret] = Field(
        default_factory=dict, description="sent with every call, such as openai-organization"
    )
    ca_file: FilePath | None = Field(
        None, description="certificates (PEM) to trust, instead of the system's"
    )
    cert_file: FilePath | None = Field(
        None, description="certificate (PEM) that the relay shows; the key may stand in it, too"
    )
    key_file: FilePath | None = Field(None, description="the key (PEM) of cert_file")
    proxy: Proxy | None = Field(
        None, repr=False, description="http://, https://, socks5:// or socks5h:// on the way there"
    )
    http2: bool = Field(False, description="speak HTTP/2 where the upstream can")
    transport: Annotated[str, Field(pattern=r"^(auto|direct|httpx|[\w.]+:[\w.]+)$")] = Field(
        "auto",
        description="direct (the fast client), httpx, package.module:attribute (a transport of"
        " httpx), or auto: direct where it can do what is asked",
    )

    @model_validator(mode="after")
    def _one_way(self) -> "UpstreamSettings":
        if self.key_file and not self.cert_file:
            raise ValueError("key_file is the key of cert_file: set that, too")
        special = [name for name in ("proxy", "http2") if getattr(self, name)]
        ways = [name for name in ("api_keys", "token_command", "token_file") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError(f"set one of {' and '.join(ways)}")
        if special and self.transport not in ("auto", "httpx"):
            raise ValueError(
                f"transport '{self.transport}' does not do {' and '.join(special)}: "
                "leave it at 'auto', or set 'httpx'"
            )
        return self
