"""`POST /admin/reload`: have the configuration read again, and hear what became of that.

    200    {"changed": ["api_keys"], "after_restart": ["port"]}
    401    the bearer is not the admin key
    409    reload_refused: nothing has changed; the message says why

Without an admin key there is nothing at this path. It is for the bearer of that key alone, so the
door lets it pass.
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from relay.errors import InvalidApiKey, RelayError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a reload: settings that hold now, and those that need a restart, by name."""

    changed: tuple[str, ...] = ()
    after_restart: tuple[str, ...] = ()
    error: str = ""
    """Why nothing has changed; a line for each fault."""


Reload = Callable[[], Awaitable[Outcome]]


class ReloadImpossible(RelayError):
    """The configuration could not be applied, so the old one still holds."""

    status = 409
    type = "invalid_request_error"
    code = "reload_refused"


def reload_router(admin_key: str, reload: Reload) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["admin"])
    expected = sha256(admin_key.encode()).digest()

    @router.post("/admin/reload", summary="Read the configuration again")
    async def reload_now(request: Request) -> Response:
        """Apply it to new requests, or change nothing and say why."""
        given = request.headers.getlist("authorization")
        scheme, _, key = (given[0] if len(given) == 1 else "").partition(" ")
        digest = sha256(key.strip().encode("latin-1")).digest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(digest, expected):
            raise InvalidApiKey("This needs the admin key: 'Authorization: Bearer KEY'.")
        outcome = await reload()
        if outcome.error:
            raise ReloadImpossible(outcome.error)
        return JSONResponse(
            {"changed": outcome.changed, "after_restart": outcome.after_restart},
        )

    return router


async def not_reloadable() -> Outcome:
    """What happens where the settings were given by a program."""
    return Outcome(error="These settings were given by a program: there is nothing to read again.")
