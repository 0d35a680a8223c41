"""What must hold between settings that are right by themselves."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from relay.origins import check_origin
from relay.settings.nearest import did_you_mean
from relay.settings.values import is_loopback

if TYPE_CHECKING:  # the settings ask for their faults
    from relay.settings.model import Settings

LOCAL = "local"
"""The name under which the local model appears among the targets."""

NULL = "null"
"""The origin of sandboxed frames, data: addresses and files."""

ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


def faults_of(settings: "Settings") -> list[str]:
    """What does not hold, a sentence each."""
    return [
        *_upstream_faults(settings),
        *_model_faults(settings),
        *_price_faults(settings),
        *_local_faults(settings),
        *_door_faults(settings),
        *_key_faults(settings),
    ]


def _upstream_faults(settings: "Settings") -> Iterator[str]:
    if settings.upstream_url and settings.upstreams:
        yield "set either upstream_url or [[upstreams]], not both"
    for name, times in Counter(upstream.name for upstream in settings.upstreams).items():
        if name == LOCAL:
            yield "no upstream can be called 'local': that is the local model"
        elif times > 1:
            yield f"{times} upstreams are called '{name}': give each its own name"
    for upstream in settings.all_upstreams():
        if _is_own(settings, upstream.base_url):
            yield (
                f"{upstream.base_url} is this relay's own address: calls would go in circles; "
                "name another server (is OPENAI_BASE_URL set for the clients of this relay?)"
            )
    if settings.mode == "remote" and not settings.all_upstreams():
        yield "mode is 'remote', but there is no upstream: set RELAY_UPSTREAM_URL"


def _model_faults(settings: "Settings") -> Iterator[str]:
    ids = Counter(name for model in settings.models for name in (model.id, *model.aliases))
    for name, times in ids.items():
        if times > 1:
            yield f"{times} models have the id '{name}': give each its own id"
    known = [upstream.name for upstream in settings.all_upstreams()]
    for model in settings.models:
        for target in model.all_targets():
            if target.upstream is not None and target.upstream not in known:
                yield (
                    f"model '{model.id}' goes to the upstream '{target.upstream}', "
                    f"which is not there{did_you_mean(target.upstream, known)}"
                )


def _price_faults(settings: "Settings") -> Iterator[str]:
    known = [*(upstream.name for upstream in settings.all_upstreams()), LOCAL]
    for price in settings.prices:
        if price.upstream is not None and price.upstream not in known:
            yield (
                f"the price of '{price.model}' is for the upstream '{price.upstream}', "
                f"which is not there{did_you_mean(price.upstream, known)}"
            )


def _local_faults(settings: "Settings") -> Iterator[str]:
    for name, times in Counter(model.id for model in settings.local_models).items():
        if times > 1:
            yield f"{times} local models have the id '{name}': give each its own id"


def _door_faults(settings: "Settings") -> Iterator[str]:
    if "*" in settings.cors_origins and settings.cors_credentials:
        yield "cors_origins '*' and cors_credentials cannot go together"
    if NULL in settings.cors_origins and settings.cors_credentials:
        yield "cors_origins 'null' and cors_credentials cannot go together: any page can be 'null'"
    for origin in settings.cors_origins:
        if origin == NULL:
            continue
        try:
            check_origin(origin)
        except ValueError as fault:
            yield f"cors_origins: {fault}"
    # With an admin key, keys can be made; until there is one, nobody comes in.
    if not (settings.has_keys or settings.admin_key or settings.anonymous):
        yield (
            f"the relay would be open to everyone on {settings.host}: set RELAY_API_KEYS, "
            "or RELAY_ALLOW_ANONYMOUS=true if that is meant"
        )
    if settings.admin_key is not None and settings.admin_key in settings.api_keys:
        yield "admin_key is one of api_keys: a client could do what the operator does"
    if settings.metrics_key is not None:
        if settings.metrics_key == settings.admin_key:
            yield "metrics_key is the admin_key: whoever scrapes could do what the operator does"
        if settings.metrics_key in settings.api_keys:
            yield "metrics_key is one of api_keys: clients could read the metrics"


def _key_faults(settings: "Settings") -> Iterator[str]:
    for kind in ("keys", "teams", "issuers"):
        for name, times in Counter(one.name for one in getattr(settings, kind)).items():
            if times > 1:
                yield f"{times} {kind} are called '{name}': give each its own name"
    for issuer, times in Counter(one.issuer for one in settings.issuers).items():
        if times > 1:
            yield f"{times} issuers are {issuer}: give one of them several audiences"
    admin = None if settings.admin_key is None else _sha256(settings.admin_key)
    static = {_sha256(key) for key in settings.api_keys}
    for digest, times in Counter(key.digest for key in settings.keys).items():
        name = next(key.name for key in settings.keys if key.digest == digest)
        if times > 1:
            yield f"{times} keys have the sha256 of '{name}': give each its own key"
        if settings.metrics_key is not None and digest == _sha256(settings.metrics_key):
            yield f"the key '{name}' is the metrics_key: clients could read the metrics"
        if digest == admin:
            yield f"the key '{name}' is the admin_key: a client could do what the operator does"
        if digest in static:
            yield f"the key '{name}' is one of api_keys as well: leave one of them out"
    known = [team.name for team in settings.teams]
    policies = [
        *((f"the key '{key.name}'", key) for key in settings.keys),
        *(
            (f"the issuer '{one.name}'", policy)
            for one in settings.issuers
            for policy in one.policies
        ),
    ]
    for what, policy in policies:
        if policy.team is not None and policy.team not in known:
            yield (
                f"{what} belongs to the team '{policy.team}', which is not there"
                f"{did_you_mean(policy.team, known)}"
            )


def _is_own(settings: "Settings", base_url: str) -> bool:
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    here = is_loopback(settings.host) or settings.host in ANY_ADDRESS
    return port == settings.port and here and is_loopback(parts.hostname or "")


def _sha256(key: SecretStr) -> bytes:
    return hashlib.sha256(key.get_secret_value().encode()).digest()
