"""`POST /v1/relay/cost`: what an answer cost, worked out as the ledger does it.

A stream's head is gone before its tokens are known, so no header could tell; whoever has the usage
of an answer, and the `x-relay-upstream` it came with, may ask.
"""

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse

from relay.errors import InvalidRequest, ModelNotFound, NoUpstream
from relay.prices import Prices
from relay.routing import CHAT, Router
from relay.schema import ErrorResponse
from relay.types import Call
from relay.usage import read_usage
from relay.web.acts import read_as
from relay.web.presence import Presence
from relay.web.reading import read_body
from relay.web.replies import visit

MAX_BODY_BYTES = 64 * 1024
NANO = 1_000_000_000


class Answered(BaseModel):
    """An answer: the model that was asked for, who gave it, its `usage` as it came."""

    model_config = ConfigDict(extra="forbid")

    model: str
    upstream: str
    usage: dict[str, object]


class Cost(BaseModel):
    """US dollars; null where nobody knows the price."""

    cost_usd: float | None


def cost_router(router: Router, prices: Prices, presence: Presence) -> APIRouter:
    """The route; the door has checked the key."""
    api = APIRouter(tags=["chat"])

    @api.post(
        "/v1/relay/cost",
        summary="What an answer cost",
        response_model=Cost,
        responses={400: {"model": ErrorResponse}, 401: {"model": ErrorResponse}},
    )
    async def cost(request: Request) -> JSONResponse:
        """By the prices that the ledger goes by; cached and reasoning tokens apart."""
        here = visit(request.scope)
        with presence.watch(here):
            body = await read_body(here, max_bytes=MAX_BODY_BYTES)
        answered = read_as(body, Answered)
        usage = read_usage(answered.usage)
        if usage is None:
            raise InvalidRequest("The usage tells no tokens.", param="usage")
        name = served(router, answered.model, answered.upstream)
        nano = prices.cost(name, answered.upstream, usage)
        if nano is None:
            await prices.ready()
            nano = prices.cost(name, answered.upstream, usage)
        return JSONResponse({"cost_usd": None if nano is None else nano / NANO})

    return api


def served(router: Router, model: str, upstream: str) -> str:
    """What the model is called there; its own name, where it goes there no longer."""
    try:
        route = router.route(Call(path=CHAT, model=model))
    except (ModelNotFound, NoUpstream):
        return model
    for target in (*route.targets, *route.fallback, *route.context_fallback):
        if target.name == upstream:
            return target.model or model
    return model
