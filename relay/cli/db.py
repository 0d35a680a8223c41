"""`relay db`: bring the database up to date, or move everything into another one."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from relay.cli.terminal import fail, note, print_table
from relay.settings import SettingsError, load_settings
from relay.settings.values import Address
from relay.stores import StoreUnavailable, prepare
from relay.stores.copying import CannotCopy, copy
from relay.stores.url import parse_store_url

T = TypeVar("T")

_DONE = {
    "empty": "its tables have been made",
    "older": "it has been brought up to date",
    "current": "it was up to date already",
}


def upgrade(url: str | None, config: str | None) -> None:
    """Bring the database of the settings, or that one, to this version."""
    if url is None:
        try:
            url = load_settings(config=config).database_url
        except SettingsError as exc:
            fail(str(exc))
    else:
        url = _resolved(url, "--database-url")
    if url == "none":
        fail("nothing is kept here: RELAY_DATABASE_URL is none")
    state = _run(prepare(url))
    note(f"{parse_store_url(url).shown}: {_DONE[state]}", style="")


def copy_all(source: str, target: str) -> None:
    """Copy everything from one database into another."""
    source, target = _resolved(source, "SOURCE"), _resolved(target, "TARGET")
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    tasks: dict[str, Any] = {}

    def show(table: str, done: int, total: int) -> None:
        if table not in tasks:
            tasks[table] = bars.add_task(_plain(table), total=total)
        bars.update(tasks[table], completed=done)

    with bars:
        counts = _run(copy(source, target, show))
    rows = [[Text(_plain(table)), Text(f"{count:,}")] for table, count in counts.items()]
    print_table(["table", "rows"], rows)


def _plain(table: str) -> str:
    return table.removeprefix("relay_")


def _resolved(url: str, option: str) -> str:
    """A URL that may be given like a secret: others see what is typed."""
    try:
        return TypeAdapter(Address).validate_python(url)
    except ValidationError as exc:
        message = exc.errors(include_input=False)[0]["msg"]
        fail(f"{option}: {message.removeprefix('Value error, ')}", code=2)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except ValueError as exc:
        fail(str(exc), code=2)
    except (StoreUnavailable, CannotCopy) as exc:
        fail(str(exc))
