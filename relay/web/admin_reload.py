"""`POST /admin/reload`: have the configuration read again, and hear what became of that.

200    {"changed": ["api_keys"], "after_restart": ["port"]}
409    reload_refused: nothing has changed; the message says why
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from relay.errors import RelayError
from relay.schema import ErrorResponse
from relay.web.acts import Acts


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a reload: settings that hold now, and those that need a restart, by name."""

    changed: tuple[str, ...] = ()
    after_restart: tuple[str, ...] = ()
    error: str = ""
    """Why nothing has changed; a line for each fault."""


class Applied(BaseModel):
    """Settings by name: those that hold now, and those that need a restart."""

    changed: list[str]
    after_restart: list[str]


Reload = Callable[[], Awaitable[Outcome]]


class ReloadImpossible(RelayError):
    """The configuration could not be applied, so the old one still holds."""

    status = 409
    type = "invalid_request_error"
    code = "reload_refused"


def reload_router(reload: Reload, acts: Acts) -> APIRouter:
    """The route; the door has checked the admin key."""
    router = APIRouter(tags=["admin"])

    @router.post(
        "/admin/reload",
        summary="Read the configuration again",
        response_model=Applied,
        responses={409: {"model": ErrorResponse, "description": "Nothing has changed"}},
    )
    async def reload_now(request: Request) -> Response:
        """Apply it to new requests, or change nothing and say why."""
        outcome = await reload()
        told = {"changed": outcome.changed, "refused": bool(outcome.error)}
        await acts.note(request, "reload", "configuration", told)
        if outcome.error:
            raise ReloadImpossible(outcome.error)
        return JSONResponse(
            {"changed": outcome.changed, "after_restart": outcome.after_restart},
        )

    return router


async def not_reloadable() -> Outcome:
    """What happens where the settings were given by a program."""
    return Outcome(error="These settings were given by a program: there is nothing to read again.")
