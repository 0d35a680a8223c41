"""`/admin/teams`: teams of keys of the database; `/admin/audit`: what was done by the admin API.

POST   /admin/teams         201
GET    /admin/teams         ?limit=&after=&order= (admin_lists.py)
                            GET, PATCH, DELETE /admin/teams/{id}
GET    /admin/audit         the latest acts; ?limit=&before=
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response

from relay.errors import InvalidRequest
from relay.keys import Changes, Spending, limits_of
from relay.schema import ErrorResponse
from relay.settings import LimitSettings, Metadata, Models, Window
from relay.stores import Audit, PageQuery, Store, TeamRecord
from relay.types import Limits
from relay.web.acts import Acts
from relay.web.admin_keys import LIMITS, KeyName, changed_limits, shown_limits
from relay.web.admin_lists import MOST, PageAsked, PageList, Shown, answer_list

MOST_ACTS = 1000


class NewTeam(LimitSettings):
    """What a team is made of; what is not given is not limited."""

    name: KeyName
    models: Models | None = None
    metadata: Metadata = Field(default_factory=dict)


class TeamChange(LimitSettings):
    """What of it changes; null clears."""

    name: KeyName | None = None
    budget_window: Window | None = None  # type: ignore[assignment]  # null is "total"
    models: Models | None = None
    metadata: Metadata | None = None


class TeamState(BaseModel):
    """A team as it is shown. Times are in Unix seconds."""

    id: str
    object: Literal["team"] = "team"
    name: str
    created_at: float
    models: list[str] | None
    rpm: int | None
    tpm: int | None
    parallel: int | None
    budget_usd: float | None
    budget_window: Window
    spent_usd: float | None
    budget_resets_at: float | None
    metadata: Metadata
    keys: int | None
    """How many keys that are not revoked belong to it; null while that cannot be read."""


class TeamList(PageList):
    """Several teams."""

    data: list[TeamState]


class Act(BaseModel):
    """What was done, to what, from which address; `detail` says by which key, and what exactly."""

    at: float
    act: str
    subject: str
    source: str
    detail: dict[str, Any]


class ActList(BaseModel):
    """Several acts, the latest first; `next_before` is where the next page begins."""

    object: Literal["list"] = "list"
    data: list[Act]
    next_before: float | None


def teams_router(changes: Changes, acts: Acts) -> APIRouter:
    """The routes of teams; the door has checked the admin key."""
    router = APIRouter(
        prefix="/admin/teams",
        tags=["admin"],
        responses={404: {"model": ErrorResponse}, 503: {"model": ErrorResponse}},
    )

    async def state(team: TeamRecord) -> dict[str, Any]:
        spent, members = await changes.spending([team]), await changes.members()
        return _shown(team, spent.get(team.id), members)

    @router.post("", summary="Make a team", status_code=201, response_model=TeamState)
    async def create(request: Request) -> JSONResponse:
        """Keys join it by its id or name."""
        wanted = await acts.read(request, NewTeam)
        record = await changes.create_team(
            {
                "name": wanted.name,
                "models": wanted.models,
                "limits": limits_of(wanted),
                "metadata": wanted.metadata,
            }
        )
        await acts.note(request, "team.create", record.id, _told(wanted))
        return JSONResponse(await state(record), 201)

    @router.get(
        "",
        summary="List the teams",
        response_model=TeamList,
        responses={400: {"model": ErrorResponse}},
    )
    async def list_teams(asked: Annotated[PageAsked, Query()]) -> Response:
        """Those that are there, the oldest first; without a `limit` all of them."""
        query = PageQuery(limit=asked.limit or MOST, newest_first=asked.order == "desc")
        members = await changes.members()

        async def read(after: str | None) -> tuple[Shown, bool]:
            teams, more = await changes.list_teams(query, after=after)
            spent = await changes.spending(teams)
            return [_shown(team, spent.get(team.id), members) for team in teams], more

        return await answer_list(asked, read)

    @router.get("/{team_id}", summary="Show a team", response_model=TeamState)
    async def show(team_id: str) -> JSONResponse:
        """One of them."""
        return JSONResponse(await state(await changes.team(team_id)))

    @router.patch("/{team_id}", summary="Change a team", response_model=TeamState)
    async def change(request: Request, team_id: str) -> JSONResponse:
        """Fields that are given change, those that are null are cleared."""
        wanted = await acts.read(request, TeamChange)
        if wanted.name is None and "name" in wanted.model_fields_set:
            raise InvalidRequest("A team has a name.", param="name")
        record = await changes.change_team(team_id, lambda team: _changed(team.limits, wanted))
        await acts.note(request, "team.update", record.id, _told(wanted))
        return JSONResponse(await state(record))

    @router.delete("/{team_id}", summary="Delete a team", response_model=TeamState)
    async def delete(request: Request, team_id: str) -> JSONResponse:
        """Only when no key is in it: its limits would go with it."""
        record = await changes.delete_team(team_id)
        await acts.note(request, "team.delete", record.id, {"name": record.name})
        return JSONResponse(await state(record))

    return router


def audit_router(store: Store) -> APIRouter:
    """The route of the audit log; the door has checked the admin key."""
    router = APIRouter(tags=["admin"])

    @router.get("/admin/audit", summary="What was done by the admin API", response_model=ActList)
    async def list_acts(
        limit: Annotated[int, Query(ge=1, le=MOST_ACTS)] = 100, before: float | None = None
    ) -> JSONResponse:
        """The latest acts first; `before` goes on from a page's `next_before`."""
        found = await store.acts(limit=limit + 1, before=before)
        acts = [_act(one) for one in found[:limit]]
        next_before = found[limit - 1].at if len(found) > limit else None
        return JSONResponse({"object": "list", "data": acts, "next_before": next_before})

    return router


def _changed(limits: Limits, wanted: TeamChange) -> dict[str, Any]:
    given = wanted.model_fields_set
    fields: dict[str, Any] = {
        name: getattr(wanted, name) for name in ("name", "models") if name in given
    }
    if given & set(LIMITS):
        fields["limits"] = changed_limits(limits, wanted)
    if "metadata" in given:
        fields["metadata"] = wanted.metadata or {}
    return fields


def _told(wanted: BaseModel) -> dict[str, Any]:
    return wanted.model_dump(mode="json", exclude_unset=True)


def _shown(
    team: TeamRecord, spent: Spending | None, members: Mapping[str, int] | None
) -> dict[str, Any]:
    return {
        "id": team.id,
        "object": "team",
        "name": team.name,
        "created_at": team.created_at,
        "models": team.models,
        **shown_limits(team.limits, spent),
        "metadata": team.metadata,
        "keys": None if members is None else members.get(team.id, 0),
    }


def _act(act: Audit) -> dict[str, Any]:
    return {
        "at": act.at,
        "act": act.act,
        "subject": act.subject,
        "source": act.source,
        "detail": act.detail,
    }
