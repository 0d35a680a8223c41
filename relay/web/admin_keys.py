"""`/admin/keys`: the keys of the database. A key itself is shown once, by what makes it.

POST   /admin/keys                 201, with the key
GET    /admin/keys                 those that are not revoked; ?revoked=true shows all;
                                   ?limit=&after=&order= (admin_lists.py), ?status=&team=&q=
GET    /admin/keys/{id}
PATCH  /admin/keys/{id}            what is given changes, null clears it
DELETE /admin/keys/{id}            revokes it
POST   /admin/keys/{id}/rotate     another key in its place; {grace_s?}
"""

from time import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from relay.errors import InvalidRequest
from relay.keys import Changes, Spending, limits_of, usd
from relay.schema import ErrorResponse
from relay.settings import Metadata, Moment, PolicySettings, Window
from relay.stores import KeyQuery, KeyRecord
from relay.types import Limits
from relay.web.acts import Acts
from relay.web.admin_lists import MOST, PageAsked, PageList, Shown, Word, answer_list

MAX_GRACE_S = 30 * 86400
LIMITS = ("rpm", "tpm", "parallel", "budget_usd", "budget_window")


KeyName = Word


class NewKey(PolicySettings):
    """What a key is made of; what is not given is not limited."""

    name: KeyName
    expires_at: Moment | None = None
    keep_bodies: bool = False
    metadata: Metadata = Field(default_factory=dict)


class KeyChange(PolicySettings):
    """What of it changes; null clears."""

    name: KeyName | None = None
    budget_window: Window | None = None  # type: ignore[assignment]  # null is "total"
    expires_at: Moment | None = None
    keep_bodies: bool | None = None
    metadata: Metadata | None = None


class Rotation(BaseModel):
    """For how long the old key holds as well."""

    model_config = ConfigDict(extra="forbid")

    grace_s: Annotated[float, Field(ge=0, le=MAX_GRACE_S, allow_inf_nan=False)] = 0.0


class KeyState(BaseModel):
    """A key as it is shown. Times are in Unix seconds."""

    id: str
    object: Literal["key"] = "key"
    name: str
    prefix: str
    status: Literal["active", "expired", "revoked"]
    created_at: float
    models: list[str] | None
    rpm: int | None
    tpm: int | None
    parallel: int | None
    budget_usd: float | None
    budget_window: Window
    spent_usd: float | None
    """In the window that runs, as the ledger knows; null without a budget or a ledger just now."""
    budget_resets_at: float | None
    """When the next window begins; null where there is none."""
    expires_at: float | None
    origins: list[str] | None
    networks: list[str] | None
    team: str | None
    keep_bodies: bool
    metadata: Metadata
    last_used_at: float | None
    revoked_at: float | None
    previous_until: float | None
    """Until when the key before the last rotation holds."""


class MadeKey(KeyState):
    """A key that has just been made: the only time that it is shown."""

    key: str


class KeyList(PageList):
    """Several keys."""

    data: list[KeyState]


class KeysAsked(PageAsked):
    """Which keys, as the query says it."""

    revoked: Annotated[bool, Field(description="Revoked ones as well")] = False
    status: Annotated[
        Literal["active", "expired", "revoked"] | None, Field(description="Only such")
    ] = None
    team: Annotated[Word | None, Field(description="Only those of that team, by id or name")] = None
    q: Annotated[
        Word | None,
        Field(description="A part of the name, the id, the first characters or the team's name"),
    ] = None


def keys_router(changes: Changes, acts: Acts) -> APIRouter:
    """The routes; the door has checked the admin key."""
    router = APIRouter(
        prefix="/admin/keys",
        tags=["admin"],
        responses={404: {"model": ErrorResponse}, 503: {"model": ErrorResponse}},
    )

    async def state(key: KeyRecord) -> dict[str, Any]:
        return _shown(key, (await changes.spending([key])).get(key.id))

    @router.post("", summary="Make a key", status_code=201, response_model=MadeKey)
    async def create(request: Request) -> JSONResponse:
        """The answer is the only one that shows the key."""
        wanted = await acts.read(request, NewKey)
        record, key = await changes.create_key(_fields(wanted))
        await acts.note(request, "key.create", record.id, _told(wanted))
        return JSONResponse({**await state(record), "key": key}, 201)

    @router.get(
        "",
        summary="List the keys",
        response_model=KeyList,
        responses={400: {"model": ErrorResponse}},
    )
    async def list_keys(asked: Annotated[KeysAsked, Query()]) -> Response:
        """Those that may still be used, or with `revoked` all that were ever made.

        Without a `limit` all of them come, which is a lot to wait for where there are many."""
        query = KeyQuery(
            limit=asked.limit or MOST,
            newest_first=asked.order == "desc",
            text=asked.q,
            status=asked.status or (None if asked.revoked else "unrevoked"),
            now=time(),
        )

        async def read(after: str | None) -> tuple[Shown, bool]:
            keys, more = await changes.list_keys(query, after=after, team=asked.team)
            spent = await changes.spending(keys)
            return [_shown(key, spent.get(key.id)) for key in keys], more

        return await answer_list(asked, read)

    @router.get("/{key_id}", summary="Show a key", response_model=KeyState)
    async def show(key_id: str) -> JSONResponse:
        """Everything but the key itself."""
        return JSONResponse(await state(await changes.key(key_id)))

    @router.patch("/{key_id}", summary="Change a key", response_model=KeyState)
    async def change(request: Request, key_id: str) -> JSONResponse:
        """Fields that are given change, those that are null are cleared."""
        wanted = await acts.read(request, KeyChange)
        if wanted.name is None and "name" in wanted.model_fields_set:
            raise InvalidRequest("A key has a name.", param="name")
        record = await changes.change_key(key_id, lambda key: _changed(key.limits, wanted))
        await acts.note(request, "key.update", record.id, _told(wanted))
        return JSONResponse(await state(record))

    @router.delete("/{key_id}", summary="Revoke a key", response_model=KeyState)
    async def revoke(request: Request, key_id: str) -> JSONResponse:
        """It ends here at once, and everywhere as soon as the keys are read again (2 s)."""
        record = await changes.revoke_key(key_id)
        await acts.note(request, "key.revoke", record.id, {"name": record.name})
        return JSONResponse(await state(record))

    @router.post("/{key_id}/rotate", summary="Replace a key", response_model=MadeKey)
    async def rotate(request: Request, key_id: str) -> JSONResponse:
        """Another key with the same id and limits; the old one holds for `grace_s` (0) more."""
        rotation = await acts.read(request, Rotation)
        record, key = await changes.rotate_key(key_id, grace_s=rotation.grace_s)
        await acts.note(request, "key.rotate", record.id, {"grace_s": rotation.grace_s})
        return JSONResponse({**await state(record), "key": key})

    return router


def changed_limits(limits: Limits, wanted: BaseModel) -> Limits:
    """Those limits with what was given in the place of what they were."""
    values = {name: getattr(limits, name) for name in LIMITS if name != "budget_usd"}
    values["budget_usd"] = usd(limits.budget_nano)
    given = wanted.model_dump(include=set(LIMITS) & wanted.model_fields_set)
    values |= given
    values["budget_window"] = values["budget_window"] or "total"
    return limits_of(PolicySettings.model_validate(values))


def shown_limits(limits: Limits, spent: Spending | None) -> dict[str, Any]:
    """Limits as they are shown, and what was used of the budget."""
    return {
        "rpm": limits.rpm,
        "tpm": limits.tpm,
        "parallel": limits.parallel,
        "budget_usd": usd(limits.budget_nano),
        "budget_window": limits.budget_window,
        "spent_usd": None if spent is None else usd(spent.nano),
        "budget_resets_at": None if spent is None else spent.resets_at,
    }


def _fields(wanted: NewKey) -> dict[str, Any]:
    return {
        "name": wanted.name,
        "models": wanted.models,
        "limits": limits_of(wanted),
        "expires_at": None if wanted.expires_at is None else wanted.expires_at.timestamp(),
        "origins": wanted.origins,
        "networks": wanted.networks,
        "team_id": wanted.team or "",
        "keep_bodies": wanted.keep_bodies,
        "metadata": wanted.metadata,
    }


def _changed(limits: Limits, wanted: KeyChange) -> dict[str, Any]:
    given = wanted.model_fields_set
    fields: dict[str, Any] = {
        name: getattr(wanted, name)
        for name in ("name", "models", "origins", "networks")
        if name in given
    }
    if given & set(LIMITS):
        fields["limits"] = changed_limits(limits, wanted)
    if "expires_at" in given:
        fields["expires_at"] = None if wanted.expires_at is None else wanted.expires_at.timestamp()
    if "team" in given:
        fields["team_id"] = wanted.team or ""
    if "keep_bodies" in given:
        fields["keep_bodies"] = bool(wanted.keep_bodies)
    if "metadata" in given:
        fields["metadata"] = wanted.metadata or {}
    return fields


def _told(wanted: BaseModel) -> dict[str, Any]:
    """What an act was asked to do, for the audit log."""
    return wanted.model_dump(mode="json", exclude_unset=True)


def _shown(key: KeyRecord, spent: Spending | None) -> dict[str, Any]:
    status = "active"
    if key.revoked_at is not None:
        status = "revoked"
    elif key.expires_at is not None and key.expires_at <= time():
        status = "expired"
    return {
        "id": key.id,
        "object": "key",
        "name": key.name,
        "prefix": key.prefix,
        "status": status,
        "created_at": key.created_at,
        "models": key.models,
        **shown_limits(key.limits, spent),
        "expires_at": key.expires_at,
        "origins": key.origins,
        "networks": key.networks,
        "team": key.team_id or None,
        "keep_bodies": key.keep_bodies,
        "metadata": key.metadata,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
        "previous_until": key.previous_until,
    }
