"""What is known of a key: whose it is, until when it holds, where it may be used from.

Made once, when keys are loaded; a request only looks one up.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from relay.keys.credential import digest
from relay.keys.guard import Guard, guard_of
from relay.settings import KeySettings, LimitSettings, Settings, TeamSettings
from relay.stores import KeyRecord, TeamRecord
from relay.stores.records import NANO_PER_USD
from relay.types import Holder, Identity, Limits

NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Entry:
    """One key. `ends_at` is in seconds since the epoch."""

    identity: Identity
    ends_at: float = math.inf
    guard: Guard | None = None


def limits_of(settings: LimitSettings) -> Limits:
    """The same with money in nano-dollars."""
    return Limits(
        rpm=settings.rpm,
        tpm=settings.tpm,
        parallel=settings.parallel,
        budget_nano=to_nano(settings.budget_usd),
        budget_window=settings.budget_window,
    )


def to_nano(usd: float | None) -> int | None:
    """Whole nano-dollars."""
    return None if usd is None else round(usd * NANO_PER_USD)


def usd(nano: int | None) -> float | None:
    """Dollars, for people."""
    return None if nano is None else nano / NANO_PER_USD


def configured_entries(settings: Settings) -> dict[bytes, Entry]:
    """The keys of the configuration, by their digests."""
    teams = configured_teams(settings.teams)
    entries = {}
    for secret in settings.api_keys:
        found = digest(secret.get_secret_value().encode())
        name = f"key-{found.hex()[:8]}"
        entries[found] = Entry(Identity(name, name))
    for key in settings.keys:
        entries[key.digest] = _configured(key, teams)
    return entries


def configured_teams(teams: Iterable[TeamSettings]) -> dict[str, TeamRecord]:
    """The teams of the configuration, by their names."""
    return {
        team.name: TeamRecord(
            id=f"team_{team.name}",
            name=team.name,
            created_at=0.0,
            models=team.models,
            limits=limits_of(team),
        )
        for team in teams
    }


def entries_of(record: KeyRecord, team: TeamRecord | None) -> dict[bytes, Entry]:
    """The digests that open what a record of the database says; none when it was revoked."""
    if record.revoked_at is not None:
        return {}
    identity = identity_of(
        record.name,
        record.id,
        limits=record.limits,
        models=record.models,
        team=team,
        begins_at=record.created_at,
        keep_bodies=record.keep_bodies,
    )
    ends_at = math.inf if record.expires_at is None else record.expires_at
    guard = guard_of(record.origins, record.networks)
    entries = {record.digest: Entry(identity, ends_at, guard)}
    if record.previous_digest is not None and record.previous_until is not None:
        until = min(ends_at, record.previous_until)
        entries[record.previous_digest] = Entry(identity, until, guard)
    return entries


def identity_of(
    name: str,
    key_id: str,
    *,
    limits: Limits,
    models: tuple[str, ...] | None,
    team: TeamRecord | None,
    begins_at: float = 0.0,
    keep_bodies: bool = False,
) -> Identity:
    """Who has that key; it counts where there are limits."""
    holders = [] if limits == NO_LIMITS else [Holder(key_id, limits, begins_at)]
    lists = [] if models is None else [models]
    if team is not None:
        if team.limits != NO_LIMITS:
            holders.append(Holder(team.id, team.limits, team.created_at))
        if team.models is not None:
            lists.append(team.models)
    return Identity(
        name,
        key_id,
        "" if team is None else team.id,
        tuple(lists),
        tuple(holders),
        keep_bodies,
    )


def _configured(key: KeySettings, teams: Mapping[str, TeamRecord]) -> Entry:
    identity = identity_of(
        key.name,
        f"key_{key.name}",
        limits=limits_of(key),
        models=key.models,
        team=None if key.team is None else teams[key.team],
        keep_bodies=key.keep_bodies,
    )
    ends_at = math.inf if key.expires_at is None else key.expires_at.timestamp()
    return Entry(identity, ends_at, guard_of(key.origins, key.networks))
