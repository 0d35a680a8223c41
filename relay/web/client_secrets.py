"""`POST /v1/client_secrets`: a short-lived token that a page may hold, made with a client key."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from relay.errors import InvalidApiKey, InvalidRequest
from relay.keys import Keyring, Wish, bearer
from relay.schema import ErrorResponse
from relay.settings import Count, Models, OriginNames
from relay.web.acts import read_as
from relay.web.presence import Presence
from relay.web.reading import read_body
from relay.web.replies import visit

USUAL_S = 600
MAX_BODY_BYTES = 64 * 1024


class WishedToken(BaseModel):
    """What the token is for; what is not given is as with the key."""

    model_config = ConfigDict(extra="forbid")

    expires_in_s: Annotated[int, Field(ge=1)] | None = None
    models: Models | None = None
    origins: OriginNames | None = None
    max_requests: Count | None = None


class MadeToken(BaseModel):
    """A token, and its end in Unix seconds."""

    value: str
    expires_at: int


def client_secrets_router(keyring: Keyring, presence: Presence, *, longest_s: int) -> APIRouter:
    """The route; the door has checked the key."""
    router = APIRouter(tags=["keys"])

    @router.post(
        "/v1/client_secrets",
        summary="Make a token that a browser may hold",
        response_model=MadeToken,
        responses={400: {"model": ErrorResponse}, 401: {"model": ErrorResponse}},
    )
    async def create(request: Request) -> JSONResponse:
        """Narrower than the key that makes it; it ends with that."""
        here = visit(request.scope)
        if not keyring.guarded():
            raise InvalidApiKey(
                "A browser token is made with an API key, and this relay has no keys: "
                "whoever reaches it needs no token."
            )
        with presence.watch(here):
            body = await read_body(here, max_bytes=MAX_BODY_BYTES)
        wished = read_as(body, WishedToken)
        lasting_s = wished.expires_in_s or min(USUAL_S, longest_s)
        if lasting_s > longest_s:
            raise InvalidRequest(
                f"A token may last {longest_s} s here (RELAY_LONGEST_TOKEN_S).",
                param="expires_in_s",
            )
        wish = Wish(lasting_s, wished.models, wished.origins, wished.max_requests)
        made = keyring.client_secrets.mint(bearer(request.scope["headers"]), wish)
        headers = {"cache-control": "no-store"}
        return JSONResponse({"value": made.value, "expires_at": made.expires_at}, headers=headers)

    return router
