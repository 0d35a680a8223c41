"""What a configuration amounts to: who may call the relay, and whether it has a model."""

from relay.local import is_chosen
from relay.settings import Settings, is_loopback


def admission(settings: Settings) -> str:
    """Who may call, before the keys of the database."""
    count = len(settings.api_keys) + len(settings.keys)
    callers = [f"callers with one of {count} keys" if count > 1 else "callers with the key"]
    issuers = [f"those with a token of {issuer.name}" for issuer in settings.issuers]
    if settings.has_keys:
        return ", ".join(callers[: min(count, 1)] + issuers)
    if not settings.anonymous:
        return "callers with a key of the database (relay keys create)"
    until = "" if settings.admin_key is None else ", until one is made"
    if is_loopback(settings.host):
        return f"everyone on this machine, without a key{until}"
    return f"everyone who can reach it, without a key{until}"


def serves_locally(settings: Settings) -> bool:
    """Whether the local model answers whatever is asked for."""
    return settings.mode == "local" or not settings.all_upstreams()


def steps_in(settings: Settings) -> bool:
    """Whether the local model answers while the network is away: one that was chosen."""
    return settings.mode == "auto" and is_chosen(settings) and bool(settings.all_upstreams())


def needs_local(settings: Settings) -> bool:
    """Whether something may be answered by the local model, without anybody switching to it."""
    return (
        serves_locally(settings)
        or steps_in(settings)
        or any(target.local for model in settings.models for target in model.all_targets())
    )


def course(settings: Settings) -> str:
    """From where calls are answered in that mode, and what moves that."""
    if serves_locally(settings):
        return "answers come from the local model"
    if not steps_in(settings):
        return "answers come from the upstreams"
    offline = settings.offline
    return (
        f"upstreams; the local model while none is within reach: probed every {offline.probe_s:g} "
        f"s, back after {offline.return_after_s:g} s"
    )
