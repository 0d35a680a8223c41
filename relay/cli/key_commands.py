"""The commands `relay keys …` and `relay teams …`; keys.py does the work, loaded when they run."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from relay.cli.keys import Desk


class Status(StrEnum):
    """Whether a key may still be used."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Window(StrEnum):
    """How long a budget lasts."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


keys = typer.Typer(no_args_is_help=True, help="Make, list, change and revoke client keys.")
teams = typer.Typer(no_args_is_help=True, help="Keys that share limits and a budget.")

# Not from OPENAI_BASE_URL: the admin key must not go to a provider.
Url = Annotated[
    str | None, typer.Option(help="Base URL of the relay. Default: as the settings here say.")
]
AdminKey = Annotated[
    str | None,
    typer.Option(help="Its admin key: a value, env:NAME or file:PATH.", envvar="RELAY_ADMIN_KEY"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="As the list shows it.")]
Models = Annotated[str | None, typer.Option(help="Models it may use: names, patterns, commas.")]
Count = Annotated[str | None, typer.Option(metavar="NUMBER")]
Budget = Annotated[str | None, typer.Option(metavar="USD", help="What may be spent.")]
BudgetWindow = Annotated[Window | None, typer.Option(help="In how long: day, week, month, total.")]
Expires = Annotated[str | None, typer.Option(help="A date, or a span such as 30d.")]
Origins = Annotated[str | None, typer.Option(help="Web origins it may be used from.")]
Networks = Annotated[str | None, typer.Option(help="Addresses it may be used from: 10.0.0.0/8.")]
Team = Annotated[str | None, typer.Option(help="Its team, by id or name.")]
Metadata = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")]
Keep = Annotated[
    bool | None, typer.Option("--keep-bodies/--no-keep-bodies", help="Keep requests and answers.")
]
Most = Annotated[
    int | None, typer.Option(metavar="NUMBER", min=1, help="How many at most. Default: all.")
]
NewName = Annotated[str | None, typer.Option(help="What to call it from now on.")]


@keys.command("create")
def _create_key(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    *,
    models: Models = None,
    rpm: Count = None,
    tpm: Count = None,
    parallel: Count = None,
    budget_usd: Budget = None,
    budget_window: BudgetWindow = None,
    expires: Expires = None,
    origins: Origins = None,
    networks: Networks = None,
    team: Team = None,
    metadata: Metadata = None,
    keep_bodies: Keep = None,
    url: Url = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print it: it is shown this once."""
    given = {
        **_limits(rpm, tpm, parallel, budget_usd, budget_window),
        **_policy(models, expires, origins, networks, team),
        "metadata": metadata,
        "keep_bodies": keep_bodies,
    }
    _desk(url, admin_key, as_json=as_json).create("keys", name, given)


@keys.command("list")
def _list_keys(
    *,
    revoked: Annotated[bool, typer.Option("--revoked", help="Revoked ones as well.")] = False,
    status: Annotated[Status | None, typer.Option(help="Only such.")] = None,
    team: Annotated[str | None, typer.Option(help="Only those of a team, by id or name.")] = None,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only those with that in name, id or key.")
    ] = None,
    limit: Most = None,
    newest: Annotated[bool, typer.Option("--newest", help="The newest first.")] = False,
    url: Url = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """List the keys, without the keys themselves."""
    wanted = {
        "revoked": "true" if revoked else None,
        "status": status,
        "team": team,
        "q": search,
        "order": "desc" if newest else None,
    }
    _desk(url, admin_key, as_json=as_json).list("keys", wanted, limit=limit)


@keys.command("show")
def _show_key(
    id_: Id, url: Url = None, admin_key: AdminKey = None, as_json: AsJson = False
) -> None:
    """Show all of a key but itself."""
    _desk(url, admin_key, as_json=as_json).show("keys", id_)


@keys.command("update")
def _update_key(
    id_: Id,
    *,
    name: NewName = None,
    models: Models = None,
    rpm: Count = None,
    tpm: Count = None,
    parallel: Count = None,
    budget_usd: Budget = None,
    budget_window: BudgetWindow = None,
    expires: Expires = None,
    origins: Origins = None,
    networks: Networks = None,
    team: Team = None,
    metadata: Metadata = None,
    keep_bodies: Keep = None,
    url: Url = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given of a key; `none` takes a limit away."""
    given = {
        "name": name,
        **_limits(rpm, tpm, parallel, budget_usd, budget_window),
        **_policy(models, expires, origins, networks, team),
        "metadata": metadata,
        "keep_bodies": keep_bodies,
    }
    _desk(url, admin_key, as_json=as_json).update("keys", id_, given)


@keys.command("rotate")
def _rotate_key(
    id_: Id,
    *,
    grace: Annotated[str, typer.Option(help="How long the old key still holds: 15m, 24h.")] = "0",
    url: Url = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Put another key in its place, with the same id and limits, and print that."""
    _desk(url, admin_key, as_json=as_json).rotate(id_, grace)


@keys.command("revoke")
def _revoke_key(
    id_: Id, url: Url = None, admin_key: AdminKey = None, as_json: AsJson = False
) -> None:
    """End a key for ever, with all tokens made from it."""
    _desk(url, admin_key, as_json=as_json).remove("keys", id_)


@teams.command("create")
def _create_team(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    *,
    models: Models = None,
    rpm: Count = None,
    tpm: Count = None,
    parallel: Count = None,
    budget_usd: Budget = None,
    budget_window: BudgetWindow = None,
    url: Url = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Make a team, and print its id."""
    given = {"models": models, **_limits(rpm, tpm, parallel, budget_usd, budget_window)}
    _desk(url, admin_key, as_json=as_json).create("teams", name, given)


@teams.command("list")
def _list_teams(
    *,
    limit: Most = None,
    url: Url = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """List the teams."""
    _desk(url, admin_key, as_json=as_json).list("teams", limit=limit)


@teams.command("update")
def _update_team(
    id_: Id,
    *,
    name: NewName = None,
    models: Models = None,
    rpm: Count = None,
    tpm: Count = None,
    parallel: Count = None,
    budget_usd: Budget = None,
    budget_window: BudgetWindow = None,
    url: Url = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given of a team; `none` takes a limit away."""
    limits = _limits(rpm, tpm, parallel, budget_usd, budget_window)
    given = {"name": name, "models": models, **limits}
    _desk(url, admin_key, as_json=as_json).update("teams", id_, given)


@teams.command("delete")
def _delete_team(
    id_: Id, url: Url = None, admin_key: AdminKey = None, as_json: AsJson = False
) -> None:
    """Delete a team that has no keys."""
    _desk(url, admin_key, as_json=as_json).remove("teams", id_)


def _limits(
    rpm: str | None,
    tpm: str | None,
    parallel: str | None,
    budget_usd: str | None,
    budget_window: Window | None,
) -> dict[str, Any]:
    return {
        "rpm": rpm,
        "tpm": tpm,
        "parallel": parallel,
        "budget_usd": budget_usd,
        "budget_window": budget_window,
    }


def _policy(
    models: str | None,
    expires: str | None,
    origins: str | None,
    networks: str | None,
    team: str | None,
) -> dict[str, Any]:
    return {
        "models": models,
        "expires_at": expires,
        "origins": origins,
        "networks": networks,
        "team": team,
    }


def _desk(url: str | None, admin_key: str | None, *, as_json: bool) -> "Desk":
    from relay.cli.keys import Desk  # noqa: PLC0415 - the help must not pay for what it loads

    return Desk(url, admin_key, as_json=as_json)
