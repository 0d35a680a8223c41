"""What is remembered: keys, teams, admin acts, and one row for each request.

Money is whole nano-dollars (1e-9 USD): sums are exact in Python, in SQL and in Redis. Times are
seconds since the epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from relay.types import Limits

NANO_PER_USD = 1_000_000_000


class LedgerRow(NamedTuple):
    """One request, however it ended. A tuple, since drivers take tuples.

    `model_asked` is the client's word, `model_served` what the target was sent. `key_id` is "" for
    nobody's. Tokens are None when unknown; `estimated` marks counts that the target did not tell.
    `cost_nano` is None for models without a price. `first_token_s` and `duration_s` count from
    `at`. `error` is the code (or type) of our error, "" for none; `status` is 499 for a client that
    left. `lost_attempts`, some of the `attempts`, were cancelled since another target was faster.
    """

    at: float
    request_id: str
    key_id: str
    team_id: str
    caller: str
    path: str
    model_asked: str
    model_served: str
    upstream: str
    attempts: int
    lost_attempts: int
    status: int
    error: str
    stream: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    audio_tokens: int | None
    estimated: bool
    cost_nano: int | None
    first_token_s: float | None
    duration_s: float


class Bodies(NamedTuple):
    """What was asked and answered, for keys whose policy wants that kept."""

    at: float
    request_id: str
    key_id: str
    request: bytes
    response: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A virtual key as it is kept: its hash, never the key.

    `digest` is the SHA-256 of the key, `prefix` the part that is shown. After a rotation the
    previous digest holds until `previous_until`. `revision` grows with every change of any key or
    team: who has seen one asks for those above it. A revoked key stays as a record.
    """

    id: str
    name: str
    digest: bytes
    prefix: str
    created_at: float
    revision: int = 0
    team_id: str = ""
    models: tuple[str, ...] | None = None
    limits: Limits = field(default_factory=Limits)
    expires_at: float | None = None
    revoked_at: float | None = None
    previous_digest: bytes | None = None
    previous_until: float | None = None
    origins: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    keep_bodies: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    last_used_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamRecord:
    """Several keys that share limits and a budget."""

    id: str
    name: str
    created_at: float
    revision: int = 0
    models: tuple[str, ...] | None = None
    limits: Limits = field(default_factory=Limits)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    deleted_at: float | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """One act of the admin API: what was done to what, from where; never a key."""

    at: float
    act: str
    subject: str
    source: str
    detail: Mapping[str, Any] = field(default_factory=dict)


GroupBy = Literal["key", "team", "model", "upstream", "day", "hour"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Which rows are summed up, `begins_at` (inside) to `ends_at` (outside), and by what.

    `percentiles` asks for the histograms of each group as well.
    """

    begins_at: float
    ends_at: float
    group_by: Sequence[GroupBy] = ()
    key_id: str | None = None
    team_id: str | None = None
    model: str | None = None
    upstream: str | None = None
    percentiles: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSum:
    """The sums of one group; `group` names it by the words of `group_by`.

    `unpriced` requests have tokens but no price, so `cost_nano` lacks them. `latency` and
    `first_token` are histograms (see `histograms.py`) of the requests that did not fail; empty
    where no percentiles were asked for.
    """

    group: Mapping[str, str]
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    audio_tokens: int
    cost_nano: int
    unpriced: int
    duration_s: float
    latency: Sequence[int] = ()
    first_token: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RowQuery:
    """Which requests are looked for, the latest first: `limit` of those before a time.

    `model` is the served one. `status` is one of HTTP, or whether the request failed.
    """

    limit: int
    before: float | None = None
    key_id: str | None = None
    model: str | None = None
    upstream: str | None = None
    status: int | Literal["ok", "failed"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPage:
    """The requests that were found, and before which time to look for more; None at the end.

    It may be short, or empty, and have a next one: then those that match lie far apart.
    """

    rows: Sequence[LedgerRow]
    next_before: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageQuery:
    """The next `limit` of a list in the order in which its members were made.

    `after` is where the page before ended: that member's `created_at` and `id`.
    """

    limit: int
    after: tuple[float, str] | None = None
    newest_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyQuery(PageQuery):
    """Which keys are listed.

    `text` is a part of the name, the id, the first characters, or the name of the team; ASCII
    letters in either case. What has expired by `now` is not active; `unrevoked` is both. Without a
    `status`, revoked ones are listed as well.
    """

    team_id: str | None = None
    text: str | None = None
    status: Literal["unrevoked", "active", "expired", "revoked"] | None = None
    now: float = 0.0
