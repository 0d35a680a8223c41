"""What an issuer's policies make of the claims of a token: name, team, models and limits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from relay.errors import InvalidApiKey, NotPermitted
from relay.keys.entry import Entry, identity_of, limits_of, to_nano
from relay.keys.guard import guard_of
from relay.settings import ClaimPolicySettings, IssuerSettings
from relay.stores import TeamRecord
from relay.types import Limits

MAX_CHARACTERS = 150

Claims = Mapping[str, Any]


def entry_of(claims: Claims, issuer: IssuerSettings, teams: Mapping[str, TeamRecord]) -> Entry:
    """What a token with these claims opens.

    Raises:
        InvalidApiKey: it does not name its holder.
        NotPermitted: no policy is for it, or a claim is not what the policy expects.
    """
    subject = claims["sub"]
    if not _is_name(subject):
        raise InvalidApiKey("The token does not name its holder.")
    named = issuer.claims
    name = claim(claims, named.name)
    policy = _policy(claims, issuer)
    team = _team(claim(claims, named.team), policy, teams)
    identity = identity_of(
        name if _is_name(name) else subject,
        f"{issuer.name}:{subject}",
        limits=_limits(claims, issuer, policy),
        models=policy.models if policy is not None else None,
        team=team,
    )
    if named.models is not None:
        allowed = _words(claim(claims, named.models))
        identity = replace(identity, models=(*identity.models, allowed))
    guard = guard_of(policy.origins, policy.networks) if policy is not None else None
    return Entry(identity, float(claims["exp"]), guard)


def claim(claims: Claims, path: str | None) -> Any:
    """The claim of that name, or at the end of a path with dots; None where there is none."""
    if path is None or path in claims:
        return None if path is None else claims[path]
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _policy(claims: Claims, issuer: IssuerSettings) -> ClaimPolicySettings | None:
    if not issuer.policies:
        return None
    for policy in issuer.policies:
        if policy.value in _words(claim(claims, policy.claim), whole=True):
            return policy
    raise NotPermitted("The token is valid, but nobody like its holder may call this relay.")


def _team(
    named: Any, policy: ClaimPolicySettings | None, teams: Mapping[str, TeamRecord]
) -> TeamRecord | None:
    if policy is not None and policy.team is not None:
        return teams[policy.team]
    if named is None:
        return None
    if not isinstance(named, str) or named not in teams:
        raise NotPermitted("The token's team is not one that may call this relay.")
    return teams[named]


def _limits(claims: Claims, issuer: IssuerSettings, policy: ClaimPolicySettings | None) -> Limits:
    limits = Limits() if policy is None else limits_of(policy)
    found: dict[str, Any] = {}
    for name in ("rpm", "tpm", "parallel", "budget_usd"):
        path = getattr(issuer.claims, name)
        value = claim(claims, path)
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value <= 10**12:
            raise NotPermitted(f"The token's claim '{path}' is no number that could be a limit.")
        if name == "budget_usd":
            found["budget_nano"] = to_nano(value)
        else:
            found[name] = int(value)
    return replace(limits, **found) if found else limits


def _words(value: Any, *, whole: bool = False) -> tuple[str, ...]:
    """A list of texts, or one text with spaces between them; `whole`: that as it is, too."""
    if isinstance(value, str):
        return (*value.split(), value) if whole else tuple(value.split())
    if isinstance(value, list):
        return tuple(one for one in value if isinstance(one, str))
    return ()


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_CHARACTERS and value.isprintable()
