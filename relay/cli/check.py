"""`relay check`: is the configuration right, and is everything there that it names?

settings    read as `relay serve` reads them
door        where it would listen, and for whom
mode        which side answers, and what moves that
upstream    asked for its models, once with each of its keys; then what is set of it
model       where its calls go, and what about that was hardly meant
local       looked for, its head read, not loaded; only when something is answered by it
ledger      where usage is kept: reached, not changed
limits      Redis, where calls are counted in one: reached likewise
traces      their collector, where there is one: sent an empty list of them
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from relay.books import ledger_of, store_of
from relay.cli import routes
from relay.cli.endpoint import NoModelList, explain, list_models
from relay.cli.finding import Finding, print_findings
from relay.cli.outline import admission, course, keys_in_database, needs_local
from relay.cli.upstreams import of_upstreams
from relay.errors import (
    BackendError,
    ConnectTimeout,
    UpstreamAuth,
    UpstreamStatus,
    UpstreamTimeout,
)
from relay.local import installed_plugins, open_locals
from relay.local.shelf import NotAModel, Shelf, check_file
from relay.prices import Prices
from relay.settings import (
    Settings,
    SettingsError,
    Timeouts,
    UpstreamSettings,
    load_settings,
    variable,
)
from relay.stores import StoreUnavailable, look
from relay.stores.counters import open_counters
from relay.stores.schema import refusal
from relay.stores.url import parse_store_url
from relay.telemetry.tracing import check_installed, connect
from relay.upstream import open_upstream

PATIENCE_S = 10.0
"""The longest wait for an upstream, also where its own limits are wider."""

COLLECTOR_PATIENCE_S = 2.0

_KEPT = {
    "current": "usage is kept",
    "empty": "usage is kept; its tables will be made",
    "older": "usage is kept; it will be brought up to date",
}
"""What a relay makes of a database in that state."""

_FULL_PATH = "/chat/completions"


@dataclass(frozen=True, slots=True)
class _Reached:
    """What became of asking an upstream with one of its keys."""

    upstream: str
    finding: Finding
    models: frozenset[str] = frozenset()


def run(flags: dict[str, Any], config: str | None) -> None:
    """Print what was found; leaves with 1 when something is wrong."""
    try:
        settings = load_settings(flags, config=config)
    except SettingsError as exc:
        findings = [Finding("settings", "", "wrong", line) for line in str(exc).splitlines()]
    else:
        reached = asyncio.run(_reach_all(settings))
        findings = [
            *_read(settings),
            *(one.finding for one in reached),
            *of_upstreams(settings),
            *routes.of_models(settings, _lists(reached)),
        ]
    print_findings(findings)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def _read(settings: Settings) -> Iterator[Finding]:
    who = admission(settings, in_database=keys_in_database(settings))
    yield Finding("door", f"{settings.address}/v1", "ok", f"for {who}")
    yield Finding("mode", settings.mode, "ok", course(settings))
    yield _ledger(settings)
    if settings.redis_url is not None:
        yield _limits_in(settings, settings.redis_url)
    if settings.traces_url is not None:
        yield _traces(settings, settings.traces_url)
    yield from _local(settings)


def _local(settings: Settings) -> Iterator[Finding]:
    for name in installed_plugins():
        yield Finding("plug-in", name, "ok", f"installed; {variable('local')}={name} takes it")
    if not needs_local(settings):
        return
    specs = {one.id: one.backend for one in settings.local_models}
    try:
        local = open_locals(settings)
    except SettingsError as exc:
        yield Finding("local", settings.local or "", "wrong", str(exc))
        return
    for card in local.cards():
        where = specs.get(card.id) or settings.local or "(default)"
        try:
            _look_at(where, settings)
        except (NotAModel, OSError) as exc:
            yield Finding("local", where, "wrong", f"{card.id}: {exc}")
        else:
            yield Finding("local", where, "ok", f"{card.id}; not loaded")
    for asked, model in settings.local_map.items():
        yield Finding("local", asked, "ok", f"answered by {model}")


def _look_at(spec: str, settings: Settings) -> None:
    """See whether a GGUF file is whole, as far as its head tells. Raises: NotAModel, OSError."""
    kind, _, rest = spec.partition(":")
    if kind == "llama":
        check_file(Shelf(settings.local_folder).path_of(rest))


def _ledger(settings: Settings) -> Finding:
    try:
        store = store_of(settings)
        ledger_of(settings, store, Prices)
    except SettingsError as exc:
        return Finding("ledger", "", "wrong", str(exc))
    if store is None:
        return Finding("ledger", "none", "ok", "usage is not kept")
    url = settings.database_url
    shown = parse_store_url(url).shown
    try:
        state = asyncio.run(look(url))
    except StoreUnavailable as exc:
        return Finding("ledger", shown, "wrong", str(exc))
    if state not in _KEPT:
        return Finding("ledger", shown, "wrong", refusal(shown, state))
    return Finding("ledger", shown, "ok", _KEPT[state])


def _limits_in(settings: Settings, url: str) -> Finding:
    try:
        open_counters(settings)
    except SettingsError as exc:
        return Finding("limits", "", "wrong", str(exc))
    from relay.stores.redis_reach import reach, shown  # noqa: PLC0415 - of an optional extra

    began = time.perf_counter()
    try:
        asyncio.run(reach(url, within_s=settings.redis_timeout_s))
    except StoreUnavailable as exc:
        return Finding("limits", shown(url), "wrong", str(exc))
    elapsed_ms = (time.perf_counter() - began) * 1000
    return Finding("limits", shown(url), "ok", f"counted in Redis, {elapsed_ms:.0f} ms")


def _traces(settings: Settings, url: str) -> Finding:
    try:
        check_installed()
    except SettingsError as exc:
        return Finding("traces", url, "wrong", str(exc))
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what is wrong is said below
    collector = connect(settings, patience_s=COLLECTOR_PATIENCE_S)
    began = time.perf_counter()
    if why := collector.send(()):
        return Finding("traces", url, "wrong", f"no collector takes them there: {why}")
    elapsed_ms = (time.perf_counter() - began) * 1000
    part = f"{settings.traces_sample * 100:.4g} % of the requests"
    return Finding("traces", url, "ok", f"{part}, {elapsed_ms:.0f} ms")


async def _reach_all(settings: Settings) -> list[_Reached]:
    if settings.mode == "local":
        return []
    probes = [
        _reach(what, upstream)
        for configured in settings.all_upstreams()
        for what, upstream in _with_each_key(configured)
    ]
    return await asyncio.gather(*probes)


def _lists(reached: list[_Reached]) -> dict[str, frozenset[str]]:
    """What each upstream has, by any of its keys."""
    lists: dict[str, frozenset[str]] = {}
    for one in reached:
        lists[one.upstream] = lists.get(one.upstream, frozenset()) | one.models
    return lists


def _with_each_key(upstream: UpstreamSettings) -> Iterator[tuple[str, UpstreamSettings]]:
    count = len(upstream.api_keys)
    if count < 2:
        yield upstream.name, upstream
        return
    for number, key in enumerate(upstream.api_keys, start=1):
        yield (
            f"{upstream.name}, key {number} of {count}",
            upstream.model_copy(update={"api_keys": (key,)}),
        )


async def _reach(what: str, upstream: UpstreamSettings) -> _Reached:
    started = time.perf_counter()
    models: frozenset[str] = frozenset()
    try:
        models = await _list_models(upstream, upstream.base_url)
    except BackendError as exc:
        finding = Finding(what, upstream.base_url, "wrong", await _reason(exc, upstream))
    else:
        elapsed_ms = (time.perf_counter() - started) * 1000
        plural = "" if len(models) == 1 else "s"
        detail = f"{len(models)} model{plural}, {_admittance(what, upstream)}, {elapsed_ms:.0f} ms"
        finding = Finding(what, upstream.base_url, "ok", detail)
    return _Reached(upstream.name, finding, models)


def _admittance(what: str, upstream: UpstreamSettings) -> str:
    """The kind of the upstream, and what it is given to be let in."""
    if what != upstream.name:  # the number of the key stands there
        return upstream.kind
    if upstream.api_keys:
        return f"{upstream.kind}, 1 key"
    token = upstream.token_command or upstream.token_file
    return f"{upstream.kind}, {'a token' if token else 'no key'}"


async def _reason(exc: BackendError, upstream: UpstreamSettings) -> str:
    url = upstream.base_url
    if isinstance(exc, UpstreamAuth):
        return _key_advice(upstream)
    if isinstance(exc, ConnectTimeout):
        return f"no connection within {_limits(upstream).connect_s:g} s"
    if isinstance(exc, UpstreamTimeout):
        return f"no answer within {_limits(upstream).first_byte_s:g} s"
    reason = explain(exc, url)
    if isinstance(exc, NoModelList) or (isinstance(exc, UpstreamStatus) and exc.status == 404):
        return await _better_url(upstream) or f"no models at /models ({reason})"
    return reason


async def _list_models(upstream: UpstreamSettings, url: str) -> frozenset[str]:
    backend = open_upstream(
        upstream.model_copy(update={"base_url": url, "timeouts": _limits(upstream)})
    )
    try:
        return frozenset(card["id"] for card in await list_models(backend))
    finally:
        await backend.aclose()


def _limits(upstream: UpstreamSettings) -> Timeouts:
    limits = upstream.timeouts
    return Timeouts(
        connect_s=min(limits.connect_s, PATIENCE_S),
        first_byte_s=min(limits.first_byte_s, PATIENCE_S),
        idle_s=min(limits.idle_s, PATIENCE_S),
        total_s=min(limits.total_s, PATIENCE_S),
    )


async def _better_url(upstream: UpstreamSettings) -> str | None:
    """A question after the base URL that was meant, if one answers: all of them end in `/v1`."""
    url = upstream.base_url
    meant = url.removesuffix(_FULL_PATH) if url.endswith(_FULL_PATH) else f"{url}/v1"
    try:
        await _list_models(upstream, meant)
    except UpstreamAuth:
        pass  # someone is there who wants another key: the next check tells
    except BackendError:
        return None
    return f"no API at this URL; did you mean {meant}?"


def _key_advice(upstream: UpstreamSettings) -> str:
    ways = ("token_command", "token_file")
    way = next((name for name in ways if getattr(upstream, name)), "api_keys")
    # The one upstream of RELAY_UPSTREAM_URL is called so; the others stand in relay.toml.
    setting = (
        f"{variable('upstream_api_key')} (or OPENAI_API_KEY)"
        if upstream.name == "upstream" and way == "api_keys"
        else f"{way} of '{upstream.name}' in relay.toml"
    )
    if not getattr(upstream, way):
        return f"the upstream wants a key: set {setting}"
    return f"the upstream refuses the key: check {setting}"
