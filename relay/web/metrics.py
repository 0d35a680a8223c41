"""`GET /metrics`: what Prometheus scrapes, and who may.

admin_key or metrics_key set    whoever has either
neither                         everybody, on loopback, while the relay needs no key at all
                                else nobody: 404 says what to set
"""

from collections.abc import Awaitable, Callable, Iterable

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from relay.errors import RouteNotFound
from relay.keys import bearer, digest, unknown_key
from relay.settings import Settings, is_loopback
from relay.types import ANONYMOUS, Identity

PATH = "/metrics"

Scrape = Callable[[str], Awaitable[tuple[bytes, str]]]
"""What there is to tell, in a form that an `accept` header takes, and its content type."""


class MetricsKey:
    """Lets in who may read the metrics; only hashes are kept."""

    def __init__(self, settings: Settings, *, on: bool, guarded: Callable[[], bool]) -> None:
        keys = (settings.admin_key, settings.metrics_key)
        self._digests = {digest(one.get_secret_value().encode()) for one in keys if one is not None}
        self._on = on
        self._guarded = guarded
        self._loopback = is_loopback(settings.host)

    def guards(self, path: str) -> bool:
        """Whether that is the path of the metrics."""
        return path == PATH

    def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Identity:
        """Who asks: somebody who may.

        Raises:
            RouteNotFound: there are no metrics here, or nobody may read them.
            InvalidApiKey: that is neither key.
        """
        if not self._on:
            raise RouteNotFound("There are no metrics here: RELAY_METRICS is not true.")
        if self._digests:
            if digest(bearer(headers).strip()) not in self._digests:
                raise unknown_key()
        elif not self._loopback or self._guarded():
            raise RouteNotFound(
                "The metrics are not for everybody: set RELAY_METRICS_KEY, and send it as a bearer."
            )
        return ANONYMOUS


def metrics_router(scrape: Scrape) -> APIRouter:
    """The route; the door has seen to it that the caller may."""
    router = APIRouter()

    @router.get(
        PATH,
        tags=["probes"],
        summary="Metrics, for Prometheus",
        response_class=PlainTextResponse,
    )
    async def get_metrics(request: Request) -> Response:
        """With `metrics_key` or the admin key as a bearer, where there is one."""
        body, content_type = await scrape(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    return router
