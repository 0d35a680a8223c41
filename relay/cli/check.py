"""`relay check`: is the configuration right, and is everything there that it names?

settings    read as `relay serve` reads them
door        where it would listen, and for whom
upstream    asked for its models, once with each of its keys
local       looked for, not loaded; only when something is answered by it
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import typer
from rich.text import Text

from relay.cli.endpoint import NoModelList, explain, list_models
from relay.cli.outline import address, admission, needs_local
from relay.cli.terminal import print_table, printable
from relay.errors import (
    BackendError,
    ConnectTimeout,
    UpstreamAuth,
    UpstreamStatus,
    UpstreamTimeout,
)
from relay.local import open_local
from relay.settings import (
    Settings,
    SettingsError,
    Timeouts,
    UpstreamSettings,
    load_settings,
    variable,
)
from relay.upstream import open_upstream

PATIENCE_S = 10.0
"""The longest wait for an upstream, also where its own limits are wider."""

_FULL_PATH = "/chat/completions"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the answer."""

    what: str
    where: str
    state: Literal["ok", "note", "wrong"]
    detail: str


_STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}


def run(flags: dict[str, Any], config: str | None) -> None:
    """Print what was found; leaves with 1 when something is wrong."""
    try:
        settings = load_settings(flags, config=config)
    except SettingsError as exc:
        findings = [Finding("settings", "", "wrong", line) for line in str(exc).splitlines()]
    else:
        findings = [*_read(settings), *asyncio.run(_reach_all(settings))]
    _print(findings)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


def _read(settings: Settings) -> Iterator[Finding]:
    for name in settings.unused():
        yield Finding("settings", variable(name), "note", "does nothing in this version")
    yield Finding("door", f"{address(settings)}/v1", "ok", f"for {admission(settings)}")
    if not needs_local(settings):
        return
    try:
        local = open_local(settings.local, settings)
    except SettingsError as exc:
        yield Finding("local", settings.local or "", "wrong", str(exc))
        return
    names = ", ".join(card.id for card in local.cards())
    yield Finding("local", settings.local or "(default)", "ok", f"{names}; not loaded")


async def _reach_all(settings: Settings) -> list[Finding]:
    if settings.mode == "local":
        return []
    probes = [
        _reach(what, upstream)
        for configured in settings.all_upstreams()
        for what, upstream in _with_each_key(configured)
    ]
    return await asyncio.gather(*probes)


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


async def _reach(what: str, upstream: UpstreamSettings) -> Finding:
    url = upstream.base_url
    started = time.perf_counter()
    try:
        models = await _count_models(upstream, url)
    except UpstreamAuth:
        return Finding(what, url, "wrong", _key_advice(upstream))
    except ConnectTimeout:
        limit_s = _limits(upstream).connect_s
        return Finding(what, url, "wrong", f"no connection within {limit_s:g} s")
    except UpstreamTimeout:
        limit_s = _limits(upstream).first_byte_s
        return Finding(what, url, "wrong", f"no answer within {limit_s:g} s")
    except BackendError as exc:
        reason = explain(exc, url)
        if isinstance(exc, NoModelList) or (isinstance(exc, UpstreamStatus) and exc.status == 404):
            reason = await _better_url(upstream) or f"no models at /models ({reason})"
        return Finding(what, url, "wrong", reason)
    elapsed_ms = (time.perf_counter() - started) * 1000
    plural = "" if models == 1 else "s"
    return Finding(what, url, "ok", f"{models} model{plural}, {elapsed_ms:.0f} ms")


async def _count_models(upstream: UpstreamSettings, url: str) -> int:
    backend = open_upstream(
        upstream.model_copy(update={"base_url": url, "timeouts": _limits(upstream)})
    )
    try:
        return len(await list_models(backend))
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
        await _count_models(upstream, meant)
    except UpstreamAuth:
        pass  # someone is there who wants another key: the next check tells
    except BackendError:
        return None
    return f"no API at this URL; did you mean {meant}?"


def _key_advice(upstream: UpstreamSettings) -> str:
    # The one upstream of RELAY_UPSTREAM_URL is called so; the others stand in relay.toml.
    setting = (
        f"{variable('upstream_api_key')} (or OPENAI_API_KEY)"
        if upstream.name == "upstream"
        else f"api_keys of '{upstream.name}' in relay.toml"
    )
    if not upstream.api_keys:
        return f"the upstream wants a key: set {setting}"
    return f"the upstream refuses the key: check {setting}"


def _print(findings: list[Finding]) -> None:
    rows = [
        [
            Text(printable(finding.what)),
            Text(printable(finding.where), overflow="fold"),
            Text(finding.state, style=_STYLES[finding.state]),
            Text(printable(finding.detail), overflow="fold"),
        ]
        for finding in findings
    ]
    print_table(["what", "where", "state", "detail"], rows)
