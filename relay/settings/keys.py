"""The settings of client keys, teams and identity providers: who may use what, and how much of it.

The admin API takes the same policies (`relay.web.admin_keys`), so that a key may move between both.
"""

import ipaddress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from relay.origins import check_origin
from relay.settings.upstream import Section
from relay.settings.values import is_loopback, split_commas

MOST_NAMES = 1000
"""As many models, origins or networks as one key may list."""


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _check_network(value: str) -> str:
    return str(ipaddress.ip_network(value.strip(), strict=False))


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def check_identity_url(value: str) -> str:
    """The URL, if it is safe to take keys from there. Raises: ValueError."""
    parts = urlsplit(value)
    if parts.scheme == "https" and parts.hostname:
        return value
    if parts.scheme == "http" and parts.hostname and is_loopback(parts.hostname):
        return value
    raise ValueError("it must be https://: whoever could change the answer could let anybody in")


Count = Annotated[int, Field(ge=1, le=10**12)]
Usd = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Window = Literal["day", "week", "month", "total"]
Moment = Annotated[datetime, AfterValidator(_in_utc)]
"""ISO 8601 (UTC unless it says otherwise), seconds since the epoch, or a date of TOML."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,100}$")]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]
Origin = Annotated[str, Field(max_length=256), AfterValidator(check_origin)]
Models = Annotated[tuple[ModelName, ...], Field(min_length=1, max_length=MOST_NAMES)]
OriginNames = Annotated[tuple[Origin, ...], Field(min_length=1, max_length=MOST_NAMES)]
Network = Annotated[str, AfterValidator(_check_network)]
Networks = Annotated[tuple[Network, ...], Field(min_length=1, max_length=MOST_NAMES)]
ProxyNetworks = Annotated[tuple[Network, ...], BeforeValidator(split_commas)]
Metadata = dict[str, Any]
IdentityUrl = Annotated[str, AfterValidator(check_identity_url)]
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Signatures by a private key only: with HS256 whoever knows the public key could sign."""


class LimitSettings(Section):
    """How much may be used; what is not given has no limit."""

    rpm: Count | None = Field(None, description="requests per minute")
    tpm: Count | None = Field(None, description="tokens per minute")
    parallel: Count | None = Field(None, description="calls at the same time")
    budget_usd: Usd | None = Field(None, description="what may be spent in each budget_window")
    budget_window: Window = Field(
        "total", description="day, week, month (of the calendar, UTC) or total"
    )


class PolicySettings(LimitSettings):
    """What a key may do; without a list everything of its kind is allowed."""

    models: Models | None = Field(
        None, description="models it may use; * and vendor/* are patterns"
    )
    origins: OriginNames | None = Field(
        None, description="web origins it may be used from, and from nothing else"
    )
    networks: Networks | None = Field(
        None, description="addresses it may be used from, such as 10.0.0.0/8"
    )
    team: str | None = Field(None, description="the team whose limits hold as well")


class KeySettings(PolicySettings):
    """A client key (`[[keys]]`), by its hash: `printf %s KEY | sha256sum`."""

    name: Name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$", repr=False)]
    expires_at: Moment | None = None
    keep_bodies: bool = Field(False, description="keep requests and answers in the ledger")
    metadata: Metadata = Field(default_factory=dict)

    @property
    def digest(self) -> bytes:
        """The hash as it is looked up."""
        return bytes.fromhex(self.sha256)


class TeamSettings(LimitSettings):
    """Keys that share limits and a budget (`[[teams]]`)."""

    name: Name
    models: Models | None = None
    metadata: Metadata = Field(default_factory=dict)


class ClaimSettings(Section):
    """The claims of a token that say something of its holder; a dot leads into nested ones."""

    name: str = "sub"
    team: str | None = None
    models: str | None = None
    rpm: str | None = None
    tpm: str | None = None
    parallel: str | None = None
    budget_usd: str | None = None


class ClaimPolicySettings(PolicySettings):
    """What holds for tokens whose claim is, or holds, that value."""

    claim: Annotated[str, Field(min_length=1)]
    value: Annotated[str, Field(min_length=1)]


class IssuerSettings(Section):
    """An identity provider whose tokens are keys here (`[[issuers]]`)."""

    name: Name = "oidc"
    issuer: IdentityUrl
    audience: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        BeforeValidator(_one_or_more),
        Field(min_length=1),
    ]
    jwks_url: IdentityUrl | None = Field(
        None, description="where its public keys are; default: as its discovery document says"
    )
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256")
    leeway_s: Annotated[float, Field(ge=0, le=300)] = Field(
        10.0, description="how far its clock may be off, seconds"
    )
    claims: ClaimSettings = ClaimSettings()
    policies: tuple[ClaimPolicySettings, ...] = Field(
        (), description="the first that fits holds; a token that fits none is refused"
    )

    @model_validator(mode="after")
    def _simple_urls(self) -> "IssuerSettings":
        for url in (self.issuer, self.jwks_url):
            if url is not None and ("#" in url or "@" in urlsplit(url).netloc):
                raise ValueError("these URLs have no fragment, no user name and no password")
        return self
