"""The admin API: what an operator sees and changes while the relay runs. `GET`, `PUT /admin/mode`.

It has a key of its own, which opens nothing else (but `GET /metrics`), and which no client's key
replaces. Without one the API is not there: every path of it is 404.
"""

import json
from collections.abc import Iterable
from typing import cast

from fastapi import APIRouter, Request
from pydantic import BaseModel, SecretStr
from starlette.responses import JSONResponse, Response

from relay.errors import InvalidRequest, RouteNotFound
from relay.keys import bearer, digest, unknown_key
from relay.schema import ErrorResponse
from relay.settings import Mode
from relay.switch import MODES, Side, Switch
from relay.types import Identity
from relay.web.acts import Acts

PREFIX = "/admin"


MODE_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"mode": {"enum": list(MODES)}},
                "required": ["mode"],
            },
            "example": {"mode": "local"},
        }
    },
}
"""What `PUT /admin/mode` takes, for the documentation: it is read by hand."""


class AdminKey:
    """The bearer of the admin API; only its hash is kept."""

    def __init__(self, key: SecretStr | None) -> None:
        self._digest = None if key is None else digest(key.get_secret_value().encode())
        # Tells, in logs, one key from the one that came after it.
        self._identity = Identity(f"admin-{(self._digest or b'').hex()[:8]}")

    def guards(self, path: str) -> bool:
        """Whether that path belongs to the admin API."""
        return path.startswith(PREFIX) and path[len(PREFIX) :][:1] in ("", "/")

    def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Identity:
        """Who asks: the operator, or nobody.

        Raises:
            RouteNotFound: there is no admin API here.
            InvalidApiKey: that is not its key.
        """
        if self._digest is None:
            raise RouteNotFound("There is no admin API here: RELAY_ADMIN_KEY is not set.")
        if digest(bearer(headers).strip()) != self._digest:
            raise unknown_key()
        return self._identity


class ModeState(BaseModel):
    """The mode, and the side that serves. `since` is in Unix seconds, `moves` since the start.

    `ledger`: whether requests are kept, so that there is more to ask for than this.
    """

    mode: Mode
    serving: Side
    since: int
    moves: dict[Side, int]
    upstreams: dict[str, str]
    ledger: bool
    kept: bool | None = None
    """After a change: whether it holds for the other workers and after a restart."""


def admin_router(switch: Switch, acts: Acts, *, ledger: bool) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix=PREFIX, tags=["admin"])

    def told(kept: bool | None = None) -> Response:
        state = ModeState(
            mode=switch.mode,
            serving=switch.serving,
            since=int(switch.since),
            moves=switch.moves,
            upstreams=dict(switch.upstreams),
            ledger=ledger,
            kept=kept,
        )
        return JSONResponse(state.model_dump(exclude_none=True))

    @router.get("/mode", summary="The mode, and what serves", response_model=ModeState)
    async def get_mode() -> Response:
        """Which side serves: `reachable`, `unreachable` or `unknown` is each upstream."""
        return told()

    @router.put(
        "/mode",
        summary="Change the mode",
        response_model=ModeState,
        responses={400: {"model": ErrorResponse}},
        openapi_extra={"requestBody": MODE_BODY},
    )
    async def put_mode(request: Request) -> Response:
        """`{"mode": "auto", "remote" or "local"}`; kept over restarts, and for all workers."""
        mode = _read_mode(await acts.body(request))
        kept = await switch.set(mode)
        await acts.note(request, "mode.set", mode)
        return told(kept)

    return router


def _read_mode(body: bytes) -> Mode:
    try:
        mode = json.loads(body)["mode"]
    except (ValueError, LookupError, TypeError, RecursionError):
        mode = None
    if mode not in MODES:
        raise InvalidRequest('Send {"mode": "auto"}, "remote" or "local".', param="mode")
    return cast(Mode, mode)
