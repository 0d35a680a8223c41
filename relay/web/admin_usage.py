"""`GET /admin/usage`: what was used, what it cost. `GET /admin/requests`: the latest requests."""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from relay.errors import InvalidRequest, RouteNotFound
from relay.ledger import key_names, read_page, read_query, requests_report, usage_report
from relay.schema import ErrorResponse
from relay.stores import Store

PARAMETERS = {
    "group_by": "key, team, model, upstream, day, hour; several with commas between",
    "from": "a date, a time or Unix seconds; inside. Default: 30 days before `to`",
    "to": "the same, outside. Default: now",
    "key": "only of the key with that id",
    "team": "only of the team with that id",
    "model": "only of that model, as its target calls it",
    "upstream": "only of that target",
    "percentiles": "true: also p50, p95, p99 of the whole time and of that to the first token",
}
PAGE_PARAMETERS = {
    "limit": "how many, up to 1000. Default: 100",
    "before": "only those before that time; `next_before` of the page that came last",
    **{name: PARAMETERS[name] for name in ("key", "model", "upstream")},
    "status": "ok, failed, or a status of HTTP",
}


def usage_router(store: Store | None) -> APIRouter:
    """The routes; the door has checked the admin key. Without a store there is nothing to tell."""
    router = APIRouter(prefix="/admin", tags=["admin"])

    @router.get(
        "/usage",
        summary="Requests, tokens, cost, errors",
        responses={400: {"model": ErrorResponse}, 503: {"model": ErrorResponse}},
        openapi_extra={"parameters": _documented(PARAMETERS)},
    )
    async def get_usage(request: Request) -> Response:
        """Sums over the ledger. Of requests without a price (`unpriced_requests`) the cost is not
        in `cost_usd`. Percentiles are seconds, of requests that did not fail; they are read from
        histograms, and never off by more than a factor of 1.5."""
        query, kept = read_query(_single(request)), _kept(store)
        sums = await kept.usage(query)
        return JSONResponse(usage_report(query, sums, await key_names(kept, query)))

    @router.get(
        "/requests",
        summary="The latest requests, one by one",
        responses={400: {"model": ErrorResponse}, 503: {"model": ErrorResponse}},
        openapi_extra={"parameters": _documented(PAGE_PARAMETERS)},
    )
    async def get_requests(request: Request) -> Response:
        """The newest first; what has just ended is there a second later.

        A page may be short, even empty, while `next_before` says that there may be more: those that
        match lie far apart, and each call looks at a bounded number of requests."""
        query = read_page(_single(request))
        return JSONResponse(requests_report(await _kept(store).search(query)))

    return router


def _kept(store: Store | None) -> Store:
    if store is None:
        raise RouteNotFound("No usage is kept here: database_url is none.", param="database_url")
    return store


def _single(request: Request) -> dict[str, str]:
    """The query's parameters. Raises: InvalidRequest: one comes twice."""
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise InvalidRequest(f"'{name}' is given twice.", param=name)
        given[name] = value
    return given


def _documented(parameters: dict[str, str]) -> list[dict[str, object]]:
    return [
        {"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}}
        for name, meaning in parameters.items()
    ]
