"""What a relay remembers by: the store that the settings name, the keys and the ledger in it."""

from collections.abc import Callable, Mapping
from functools import partial

from relay.keys import VirtualKeys
from relay.ledger import NO_LEDGER, Ledger, NoLedger, Pricing, load_redactor
from relay.limits import SpentSince, nothing_spent, tell_recorded
from relay.plugins import PluginMissing
from relay.prices import PriceTable
from relay.settings import Settings, SettingsError, variable
from relay.stores import Store, StoreUnavailable, open_store, prepare
from relay.stores.counters import Counters
from relay.telemetry.metrics import NO_METRICS, Metrics, NoMetrics

NO_DATABASE = ("none", "")


def store_of(settings: Settings) -> Store | None:
    """The store, not opened yet; None where nothing is to be remembered.

    Raises:
        SettingsError: the URL names no database.
    """
    if settings.database_url in NO_DATABASE:
        return None
    try:
        return open_store(settings.database_url, pool_size=settings.database_pool_size)
    except ValueError as exc:
        raise SettingsError(f"{variable('database_url')}: {exc}") from None


def keys_of(settings: Settings, store: Store | None) -> VirtualKeys | None:
    """The keys in that store."""
    return None if store is None else VirtualKeys(store, refresh_s=settings.keys_refresh_s)


async def close_books(
    ledger: Ledger | NoLedger,
    counters: Counters,
    table: PriceTable,
    keys: VirtualKeys | None,
    store: Store | None,
) -> None:
    """Write what is to be written, then give the store back."""
    await ledger.aclose()
    await counters.aclose()
    await table.aclose()
    if keys is not None:
        await keys.aclose()
    if store is not None:
        await store.aclose()


def ledger_of(
    settings: Settings,
    store: Store | None,
    pricing: Callable[[], Pricing],
    counters: Counters | None = None,
) -> Ledger | NoLedger:
    """The ledger in that store; the `counters` of budgets are told what is in it.

    Raises:
        SettingsError: what bodies should go through is not there.
    """
    if store is None:
        return NO_LEDGER
    try:
        redact = load_redactor(settings.redact_bodies)
    except PluginMissing as exc:
        name = settings.redact_bodies
        raise SettingsError(f"{variable('redact_bodies')}: '{name}' {exc}") from exc
    return Ledger(
        store,
        pricing=pricing,
        recorded=None if counters is None else partial(tell_recorded, counters),
        prepare=partial(prepare, settings.database_url),
        flush_s=settings.ledger_flush_s,
        keep_days=settings.ledger_keep_days,
        bodies_keep_days=settings.bodies_keep_days,
        redact=redact,
    )


def metrics_of(settings: Settings, pricing: Callable[[], Pricing]) -> Metrics | NoMetrics:
    """What counts for `GET /metrics`: where nothing is said, if there is a ledger, too."""
    wanted = settings.metrics
    if wanted is None:
        wanted = settings.database_url not in NO_DATABASE
    return Metrics(settings, pricing) if wanted else NO_METRICS


def spent_in(store: Store | None) -> SpentSince:
    """What is spent by the ledger in that store; without one, nothing is known to be."""
    if store is None:
        return nothing_spent

    async def spent(since: Mapping[str, float]) -> Mapping[str, int] | None:
        try:
            return await store.spent(since)
        except StoreUnavailable:
            return None

    return spent
