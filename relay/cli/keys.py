"""`relay keys` and `relay teams`: those of the database, through the admin API.

A new key goes to standard output, alone; everything around it does not.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from rich.text import Text

from relay.cli.admin import ask_admin
from relay.cli.here import admin_here
from relay.cli.policy import fields, seconds
from relay.cli.terminal import note, print_table, say

LIMITS = ("rpm", "tpm", "parallel")

PAGE = 1000
"""As many as a relay gives at once."""


class Desk:
    """One relay's admin API, and how its answers are shown."""

    def __init__(self, url: str | None, admin_key: str | None, *, as_json: bool) -> None:
        self._url, self._admin_key = admin_here(url, admin_key)
        self._as_json = as_json

    def create(self, kind: str, name: str, given: Mapping[str, Any]) -> None:
        """Make a key or a team (`kind` is `keys` or `teams`)."""
        made = self._ask("POST", kind, {"name": name, **fields(given)})
        self._made(made, "made")

    def list(
        self, kind: str, wanted: Mapping[str, str | None] | None = None, *, limit: int | None = None
    ) -> None:
        """Print all of them that are wanted (parameters of the admin API), or the first `limit`."""
        page = {"limit": str(min(limit or PAGE, PAGE))}
        found = [*islice(self._each(kind, {**page, **(wanted or {})}), limit)]
        if self._as_json:
            say(json.dumps(found, indent=2) + "\n")
        elif kind == "keys":
            headings = ["id", "name", "key", "status", "models", "limits", "expires", "last used"]
            print_table(headings, [_key_row(key) for key in found])
        else:
            headings = ["id", "name", "models", "limits", "keys"]
            print_table(headings, [_team_row(team) for team in found])

    def show(self, kind: str, id_: str) -> None:
        """Print one of them."""
        self._print(self._ask("GET", f"{kind}/{id_}"))

    def update(self, kind: str, id_: str, given: Mapping[str, Any]) -> None:
        """Change what is given of it."""
        self._print(self._ask("PATCH", f"{kind}/{id_}", fields(given)))

    def remove(self, kind: str, id_: str) -> None:
        """Revoke a key, delete a team."""
        gone = self._ask("DELETE", f"{kind}/{id_}")
        if self._as_json:
            self._print(gone)
        else:
            done = "revoked" if kind == "keys" else "deleted"
            note(f"{done}: {gone['id']} ({gone['name']})", style="")

    def rotate(self, id_: str, grace: str) -> None:
        """Replace a key; the old one holds for `grace` more."""
        grace_s = seconds("--grace", grace)
        self._made(self._ask("POST", f"keys/{id_}/rotate", {"grace_s": grace_s}), "replaced")

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return ask_admin(self._url, self._admin_key, method, path, body)

    def _each(self, kind: str, wanted: Mapping[str, str | None]) -> Iterator[dict[str, Any]]:
        """All of a list, page by page."""
        given = {name: value for name, value in wanted.items() if value is not None}
        while True:
            page = self._ask("GET", f"{kind}?{urlencode(given)}")
            yield from page["data"]
            if not page.get("has_more"):  # as a relay of an older version does not say
                return
            given["after"] = page["last_id"]

    def _made(self, made: dict[str, Any], done: str) -> None:
        if self._as_json:
            self._print(made)
        elif "key" in made:
            say(made["key"] + "\n")
            note(f"{done}: {made['id']} ({made['name']}); the key is shown this once", style="")
        else:
            say(made["id"] + "\n")

    def _print(self, one: dict[str, Any]) -> None:
        if self._as_json:
            say(json.dumps(one, indent=2) + "\n")
            return
        for name, value in one.items():
            if value not in (None, {}, "key", "team") or name == "name":
                shown = _moment(value) if name.endswith(("_at", "_until")) else _said(value)
                say(f"{name:<18}{shown}\n")


def _key_row(key: Mapping[str, Any]) -> list[Text]:
    colour = {"active": "green", "expired": "yellow"}.get(key["status"], "red")
    return [
        Text(key["id"]),
        Text(key["name"]),
        Text(key["prefix"] + "…"),
        Text(key["status"], style=colour),
        Text(_said(key["models"] or "all")),
        Text(_limits(key)),
        Text(_moment(key["expires_at"])),
        Text(_moment(key["last_used_at"])),
    ]


def _team_row(team: Mapping[str, Any]) -> list[Text]:
    return [
        Text(team["id"]),
        Text(team["name"]),
        Text(_said(team["models"] or "all")),
        Text(_limits(team)),
        Text(str(team.get("keys", ""))),
    ]


def _limits(one: Mapping[str, Any]) -> str:
    limits = [f"{name} {one[name]}" for name in LIMITS if one[name] is not None]
    if one["budget_usd"] is not None:
        window = "" if one["budget_window"] == "total" else f" a {one['budget_window']}"
        spent = one.get("spent_usd")  # which a relay of an older version does not tell
        of = "" if spent is None else f"${spent:.2f} of "
        limits.append(f"{of}${_said(one['budget_usd'])}{window}")
    return ", ".join(limits) or "none"


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.9f}".rstrip("0").rstrip(".")  # nano-dollars
    return json.dumps(value) if isinstance(value, dict | bool) else str(value)


def _moment(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
