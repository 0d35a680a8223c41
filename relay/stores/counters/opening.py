"""Opens the counters that a relay is to use."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.settings import Settings, SettingsError
from relay.stores.counters.journal import Journal
from relay.stores.counters.memory import MemoryCounters
from relay.stores.counters.parent import Counting

if TYPE_CHECKING:
    from relay.stores.counters import Counters

TABLE = {
    "redis": "relay.stores.counters.redis:RedisCounters",
    "worker": "relay.stores.counters.worker:WorkerCounters",
}
"""Those that a relay by itself does not need, and so does not import."""


def open_counters(settings: Settings, *, socket: str | None = None) -> "Counters":
    """Redis's where it is configured, else the parent's at `socket`, else our own.

    Raises:
        SettingsError: redis_url cannot be used, or the extra is not installed.
    """
    if settings.redis_url is not None:
        return _redis_counters(settings, settings.redis_url)
    if socket is not None:
        parents: Counters = _find("worker")(socket)
        return parents
    return _own_counters(settings)


def count_for_workers(settings: Settings) -> Counting:
    """What the parent of workers does for them; nobody asks it where Redis counts."""
    return Counting(_own_counters(settings))


def _own_counters(settings: Settings) -> MemoryCounters:
    """Those in the memory of this process, with a journal beside it."""
    return MemoryCounters(journal=Journal(Path(settings.budget_journal)))


def _redis_counters(settings: Settings, url: str) -> "Counters":
    try:
        shared: Counters = _find("redis")(
            url,
            timeout_s=settings.redis_timeout_s,
            local=settings.limits_without_redis == "open",
        )
    except ImportError:
        raise SettingsError(
            "RELAY_REDIS_URL is set, but the extra is not installed: "
            "pip install 'openai-relay[redis]'"
        ) from None
    except ValueError:  # its text may hold the password
        raise SettingsError(
            "RELAY_REDIS_URL is no address such as redis://host:6379/0, rediss://… or unix://…"
        ) from None
    return shared


def _find(name: str) -> Any:
    module, _, attribute = TABLE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
