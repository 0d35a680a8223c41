"""`GET /admin/upstreams`: how each target is doing, the local one too, as this worker sees it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from relay.health import Health
from relay.routing import LOCAL
from relay.settings import UpstreamSettings
from relay.switch import Switch
from relay.upstream import Upstream


class KeyState(BaseModel):
    """A key of a pool, never the key itself: its position and the beginning of its SHA-256."""

    key: str
    state: Literal["ok", "resting", "retired"]
    until_s: float | None = None


class UpstreamState(BaseModel):
    """One target. Counts are since the start; times in seconds, `latency_ms` to first bytes.

    `waiting` are the calls for which there is no room among `max_parallel` yet. `reach` is what is
    known of the way there, in `auto` with a local model; an error is an answer, too. The local
    target, of kind `local`, has `models` instead of a URL, keys and a `max_parallel`.
    """

    name: str
    kind: str
    base_url: str
    state: Literal["closed", "open", "half-open"]
    opens_in_s: float
    reach: Literal["reachable", "unreachable", "unknown"]
    in_flight: int
    waiting: int
    max_parallel: int | None
    latency_ms: float
    calls: int
    failures: int
    opened: int
    last_error: str
    keys: list[KeyState]
    models: dict[str, str] | None = None
    """How each local model does: `loaded`, `loading 40 %`, `failed: ` and why."""


def upstreams_router(
    settings: Sequence[UpstreamSettings],
    upstreams: Mapping[str, Upstream],
    health: Mapping[str, Health],
    switch: Switch,
    local_models: Callable[[], Mapping[str, str] | None],
) -> APIRouter:
    """The route; the door has checked the admin key."""
    router = APIRouter(tags=["admin"])

    @router.get(
        "/admin/upstreams",
        summary="Health, breakers, keys, calls in flight",
        response_model=list[UpstreamState],
    )
    async def get_upstreams() -> Response:
        """Each upstream of the configuration, in its order; then the local target, once it is
        loaded, or being loaded."""
        reach = switch.upstreams
        states = [
            _state(one, upstreams[one.name], health[one.name], reach[one.name]) for one in settings
        ]
        if (models := local_models()) is not None:
            states.append(_local_state(health[LOCAL], models))
        return JSONResponse([state.model_dump() for state in states])

    return router


def _state(
    settings: UpstreamSettings, upstream: Upstream, health: Health, reach: str
) -> UpstreamState:
    return UpstreamState.model_validate(
        {
            "name": settings.name,
            "kind": settings.kind,
            "base_url": settings.base_url,
            **_of_health(health),
            "reach": reach,
            "waiting": upstream.waiting(),
            "max_parallel": settings.max_parallel,
            "keys": upstream.keys(),
        }
    )


def _local_state(health: Health, models: Mapping[str, str]) -> UpstreamState:
    return UpstreamState.model_validate(
        {
            "name": LOCAL,
            "kind": LOCAL,
            "base_url": "",
            **_of_health(health),
            "reach": "reachable",
            "waiting": 0,
            "max_parallel": None,
            "keys": [],
            "models": models,
        }
    )


def _of_health(health: Health) -> dict[str, Any]:
    return {
        "state": health.state,
        "opens_in_s": round(health.opens_in_s, 3),
        "in_flight": health.in_flight,
        "latency_ms": round(health.latency_s * 1000, 3),
        "calls": health.calls,
        "failures": health.failures,
        "opened": health.opened,
        "last_error": health.last_error,
    }
