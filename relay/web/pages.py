"""What has a face or a pulse: chat page, dashboard, documentation, their files, the probes."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads its own files and talks to its own host; nothing else."""

PAGE_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
}
# Swagger UI styles its elements one by one, which only 'unsafe-inline' allows; scripts stay ours.
DOCS_HEADERS = PAGE_HEADERS | {
    "content-security-policy": _POLICY.replace(
        "style-src 'self'", "style-src 'self' 'unsafe-inline'"
    )
}


class PageFiles(StaticFiles):
    """The page's scripts and styles, with the page's headers."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]  # passed on
        response.headers.update(PAGE_HEADERS)
        return response


def swagger_files() -> Path:
    """Where Swagger UI's files are: fastapi-offline carries them, and is not imported for that."""
    spec = find_spec("fastapi_offline")
    assert spec is not None  # noqa: S101  # a dependency of ours
    assert spec.origin is not None  # noqa: S101  # a package of files
    return Path(spec.origin).parent / "static"


def pages_router(
    state: Callable[[], str],
    serving: Callable[[], str],
    models: Callable[[], Mapping[str, str]],
    *,
    guarded: Callable[[], bool],
    administered: bool = False,
) -> APIRouter:
    """The page and the probes; `state` is `ready`, or what is missing, `serving` the side.

    `models` tells how the local ones do, where they serve, `guarded` whether a key is needed, so
    that the page need not try without one. The dashboard needs the admin API: if
    it is not `administered`, a page says how to switch that on.
    """
    router = APIRouter()

    @router.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)

    @router.get("/dashboard", include_in_schema=False)
    async def dashboard() -> Response:
        name = "dashboard.html" if administered else "dashboard-off.html"
        return FileResponse(STATIC / name, headers=PAGE_HEADERS)

    @router.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return FileResponse(STATIC / "docs.html", headers=DOCS_HEADERS)

    @router.get("/healthz", tags=["probes"], summary="The process lives")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", tags=["probes"], summary="It can serve", responses={503: {}})
    async def readyz() -> Response:
        now = state()
        told: dict[str, object] = {"status": now, "serving": serving(), "needs_key": guarded()}
        if local := models():
            told["models"] = dict(local)
        return JSONResponse(told, 200 if now == "ready" else 503)

    return router
