"""What a configuration amounts to: who may call the relay, and whether it has a model."""

from relay.books import NO_DATABASE
from relay.local import is_chosen
from relay.settings import Settings, is_loopback
from relay.stores.glimpse import any_keys


def keys_in_database(settings: Settings) -> bool | None:
    """Whether there are keys in it, as far as a glance can tell: None where only asking could."""
    if settings.database_url in NO_DATABASE:
        return False
    try:
        return any_keys(settings.database_url)
    except ValueError:
        return None  # whoever opens it says what is wrong with the URL


def admission(settings: Settings, *, in_database: bool | None = False) -> str:
    """Who may call; `in_database` is whether there are keys there."""
    count = len(settings.api_keys) + len(settings.keys)
    callers = [f"callers with one of {count} keys" if count > 1 else "callers with the key"]
    others = [f"those with a token of {issuer.name}" for issuer in settings.issuers]
    if settings.has_keys:
        others += ["those with a key of the database"] if in_database else []
        return ", ".join(callers[: min(count, 1)] + others)
    if in_database:
        return "callers with a key of the database"
    if not settings.anonymous:
        return "callers with a key of the database (relay keys create)"
    until = "" if settings.admin_key is None else ", until one is made"
    if in_database is None:
        until = ", unless there is one in the database"
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
