"""What every act of the admin API begins and ends with: its body is read, and it is noted.

Noted means: a line in the log (`admin_act`) in any case, a row in the database if that is there. An
act is not undone because it could not be noted.
"""

import asyncio
import logging
from collections.abc import Mapping
from time import time
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from relay.errors import InvalidRequest
from relay.schema import field_path
from relay.stores import Audit, Store
from relay.stores.unavailable import StoreUnavailable
from relay.web.presence import Presence
from relay.web.reading import read_body
from relay.web.replies import visit

MAX_BODY_BYTES = 64 * 1024
NOTE_LIMIT_S = 2.0
"""The longest wait for the database of an act that does not need it."""

_log = logging.getLogger("relay.admin")

Model = TypeVar("Model", bound=BaseModel)


class Acts:
    """For the routes of the admin API. Without a store, acts are noted in the log only."""

    def __init__(self, presence: Presence, store: Store | None = None) -> None:
        self._presence = presence
        self.store = store

    async def read(self, request: Request, model: type[Model]) -> Model:
        """The body of a request; an empty one is an empty object.

        Raises:
            InvalidRequest: it is not what it has to be; `param` names the field.
        """
        return read_as(await self.body(request), model)

    async def body(self, request: Request) -> bytes:
        """The bytes of it."""
        here = visit(request.scope)
        with self._presence.watch(here):
            return await read_body(here, max_bytes=MAX_BODY_BYTES)

    async def note(
        self, request: Request, act: str, subject: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        """Keep what was done to what; by whom, when and from where shows by itself."""
        here = visit(request.scope)
        done = Audit(
            at=time(),
            act=act,
            subject=subject,
            source=here.client.peer(),
            detail={"by": here.identity.name, "request_id": here.request_id, **(detail or {})},
        )
        fields = {"act": act, "subject": subject, "source": done.source, **done.detail}
        _log.info("admin_act", extra={"fields": fields})
        if self.store is None:
            return
        try:
            async with asyncio.timeout(NOTE_LIMIT_S):
                await self.store.note(done)
        except (StoreUnavailable, TimeoutError) as exc:
            error = str(exc) or "the database takes too long"
            _log.error(  # what went wrong is in the text
                "admin_act_not_kept", extra={"fields": {**fields, "error": error}}
            )


def read_as(body: bytes, model: type[Model]) -> Model:
    """What a body says.

    Raises:
        InvalidRequest: it is not what it has to be; `param` names the field.
    """
    try:
        given = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError:
        raise InvalidRequest("The body is not valid JSON.") from None
    try:
        return model.model_validate(given)
    except ValidationError as exc:
        fault = exc.errors(include_url=False, include_input=False)[0]
    if not fault["loc"]:
        raise InvalidRequest(f"The body is wrong: {_said(fault['msg'])}.")
    param = field_path(fault["loc"])
    if fault["type"] == "extra_forbidden":
        raise InvalidRequest(f"There is no field '{param}' here.", param=param)
    raise InvalidRequest(f"Invalid value for '{param}': {_said(fault['msg'])}.", param=param)


def _said(message: str) -> str:
    return message.removeprefix("Value error, ").removesuffix(".")
