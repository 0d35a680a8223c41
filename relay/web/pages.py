"""What has a face or a pulse: the chat page and its files, the probes."""

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads its own files and talks to its own host; nothing else."""

PAGE_HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}


class PageFiles(StaticFiles):
    """The page's scripts and styles, with the page's headers."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]  # passed on
        response.headers.update(PAGE_HEADERS)
        return response


def pages_router(state: Callable[[], str]) -> APIRouter:
    """The page and the probes; `state` is `ready`, or what is missing."""
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)

    @router.get("/healthz", tags=["probes"], summary="The process lives")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", tags=["probes"], summary="It can serve", responses={503: {}})
    async def readyz() -> Response:
        now = state()
        return JSONResponse({"status": now}, 200 if now == "ready" else 503)

    return router
