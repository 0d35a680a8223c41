"""`GET /admin/upstreams`: how each target is doing, as this worker sees it."""

from collections.abc import Mapping, Sequence
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from relay.health import Health
from relay.settings import UpstreamSettings
from relay.switch import Switch
from relay.upstream import Upstream


class KeyState(BaseModel):
    """A key of a pool, never the key itself: its position and the beginning of its SHA-256."""

    key: str
    state: Literal["ok", "resting", "retired"]
    until_s: float | None = None


class UpstreamState(BaseModel):
    """One upstream. Counts are since the start; times in seconds, `latency_ms` to first bytes.

    `waiting` are the calls for which there is no room among `max_parallel` yet. `reach` is what is
    known of the way there, in `auto` with a local model; an error is an answer, too.
    """

    name: str
    kind: str
    base_url: str
    state: Literal["closed", "open", "half-open"]
    opens_in_s: float
    reach: Literal["reachable", "unreachable", "unknown"]
    in_flight: int
    waiting: int
    max_parallel: int
    latency_ms: float
    calls: int
    failures: int
    opened: int
    last_error: str
    keys: list[KeyState]


def upstreams_router(
    settings: Sequence[UpstreamSettings],
    upstreams: Mapping[str, Upstream],
    health: Mapping[str, Health],
    switch: Switch,
) -> APIRouter:
    """The route; the door has checked the admin key."""
    router = APIRouter(tags=["admin"])

    @router.get(
        "/admin/upstreams",
        summary="Health, breakers, keys, calls in flight",
        response_model=list[UpstreamState],
    )
    async def get_upstreams() -> Response:
        """Each upstream of the configuration, in its order."""
        reach = switch.upstreams
        states = [
            _state(one, upstreams[one.name], health[one.name], reach[one.name]) for one in settings
        ]
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
            "state": health.state,
            "opens_in_s": round(health.opens_in_s, 3),
            "reach": reach,
            "in_flight": health.in_flight,
            "waiting": upstream.waiting(),
            "max_parallel": settings.max_parallel,
            "latency_ms": round(health.latency_s * 1000, 3),
            "calls": health.calls,
            "failures": health.failures,
            "opened": health.opened,
            "last_error": health.last_error,
            "keys": upstream.keys(),
        }
    )
