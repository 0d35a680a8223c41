"""The `relay` command.

    relay serve     flags.py  outline.py  serve.py      start the server
    relay check     flags.py  outline.py  check.py      is all right, is everything there?
    relay reload    endpoint.py  outline.py  reload.py
    relay chat      endpoint.py  conversation.py  prompt.py  chat.py
    relay models    endpoint.py  models.py
    relay mode      admin.py  mode.py
    relay keys      key_commands.py  admin.py  policy.py  keys.py; relay teams likewise
    relay usage     admin.py  usage.py
    relay db        db.py
    relay local     local_commands.py, and what is named there
    all of them     terminal.py, and here.py: which relay is meant

Here is only what `relay --help` needs. The command bodies load pydantic and the network client, so
each is imported when it runs: the help is there at once.
"""

from enum import StrEnum
from typing import Annotated, Any

import typer

from relay import __version__
from relay.cli import key_commands
from relay.cli.flags import GroupedHelp, settings_flags
from relay.cli.local_commands import commands as local_commands

__all__ = ["app", "main"]

ADMIN_KEY = "RELAY_ADMIN_KEY"


class Mode(StrEnum):
    """What `relay mode` can set; the settings' own type would cost the help pydantic."""

    AUTO = "auto"
    REMOTE = "remote"
    LOCAL = "local"


class Chart(StrEnum):
    """What `relay usage` can show as bars."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    COST = "cost"


app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # rich would more than double the time of `relay --help`
    # A traceback of typer's would show a program's variables, and so keys.
    pretty_exceptions_enable=False,
    help="An OpenAI-format relay to remote and local models.",
)

app.add_typer(local_commands, name="local")
app.add_typer(key_commands.keys, name="keys")
app.add_typer(key_commands.teams, name="teams")

Url = Annotated[
    str | None,
    typer.Option(
        help="Base URL of a relay, or of any OpenAI-format server. Default: the relay that the"
        " settings here describe.",
        envvar="OPENAI_BASE_URL",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(help="Its key: a value, env:NAME or file:PATH.", envvar="OPENAI_API_KEY"),
]


def main() -> None:
    """The console script."""
    app(prog_name="relay")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"relay {__version__}")
        raise typer.Exit


@app.callback()
def _relay(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    del version


@app.command("serve", cls=GroupedHelp)
@settings_flags
def _serve(flags: dict[str, Any], config: str | None) -> None:
    """Start the server.

    Every setting is a flag here, RELAY_NAME in the environment and a name in relay.toml. A flag
    wins over the environment, the environment over .env, and .env over relay.toml.
    """
    from relay.cli.serve import run  # noqa: PLC0415 - see the module docstring

    run(flags, config)


@app.command("check", cls=GroupedHelp)
@settings_flags
def _check(flags: dict[str, Any], config: str | None) -> None:
    """Check the configuration and reach every upstream.

    Takes the flags of `relay serve`. The exit status is 1 when something is wrong.
    """
    from relay.cli.check import run  # noqa: PLC0415 - see the module docstring

    run(flags, config)


@app.command("reload")
def _reload(
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="The TOML file that names it.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Where the relay is. Default: as the settings here say.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Its admin key: a value, env:NAME or file:PATH.", envvar=ADMIN_KEY),
    ] = None,
    pid: Annotated[
        int | None, typer.Option(help="Send SIGHUP to that process, and do not wait.")
    ] = None,
) -> None:
    """Have a running relay read its configuration again.

    Open requests end as they began. The exit status is 1 when the configuration is wrong: then
    nothing has changed.
    """
    from relay.cli.reload import run  # noqa: PLC0415 - see the module docstring

    run(config=config, url=url, key=key, pid=pid)


@app.command("chat")
def _chat(
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="One question: it is answered, and that is all. Also taken from a pipe."
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    model: Annotated[str | None, typer.Option(help="Default: the first one it has.")] = None,
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
) -> None:
    """Talk to a relay, or to any OpenAI-format server.

    Ctrl-C stops an answer; twice at the prompt, or Ctrl-D, it ends the chat. Only answers go to
    standard output.
    """
    from relay.cli.chat import run  # noqa: PLC0415 - see the module docstring

    run(prompt, url=url, key=key, model=model, system=system)


@app.command("models")
def _models(
    url: Url = None,
    key: Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models of a relay, or of any OpenAI-format server."""
    from relay.cli.models import run  # noqa: PLC0415 - see the module docstring

    run(url=url, key=key, as_json=as_json)


@app.command("mode")
def _mode(
    mode: Annotated[Mode | None, typer.Argument(help="What to change to.")] = None,
    # Not from OPENAI_BASE_URL: the admin key must not go to a provider.
    url: key_commands.Url = None,
    admin_key: Annotated[
        str | None,
        typer.Option(
            help="Its admin key: a value, env:NAME or file:PATH.", envvar="RELAY_ADMIN_KEY"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a relay serves from, or change it.

    auto: the upstreams, or the local model while the network is away. It stays as it was set, over
    restarts and for all workers.
    """
    from relay.cli.mode import run  # noqa: PLC0415 - see the module docstring

    run(mode, url=url, admin_key=admin_key, as_json=as_json)


@app.command("usage")
def _usage(  # noqa: PLR0917 - typer gives them by name
    group_by: Annotated[
        str,
        typer.Option(help="key, team, model, upstream, day, hour; several with commas between."),
    ] = "model",
    begin: Annotated[
        str | None,
        typer.Option(
            "--from", help="A date, a time or Unix seconds (UTC). Default: 30 days before --to."
        ),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="The same; not counted any more. Default: now.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Only of the key with that id.")] = None,
    team: Annotated[str | None, typer.Option(help="Only of the team with that id.")] = None,
    model: Annotated[str | None, typer.Option(help="Only of that model.")] = None,
    upstream: Annotated[str | None, typer.Option(help="Only of that upstream.")] = None,
    chart: Annotated[Chart | None, typer.Option(help="Draw bars of that.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    # Not from OPENAI_BASE_URL: the admin key must not go to a provider.
    url: key_commands.Url = None,
    admin_key: Annotated[
        str | None,
        typer.Option(help="Its admin key: a value, env:NAME or file:PATH.", envvar=ADMIN_KEY),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(help="Read that database instead, such as sqlite:///relay.db."),
    ] = None,
) -> None:
    """Show what was used and what it cost."""
    from relay.cli.usage import run  # noqa: PLC0415 - see the module docstring

    asked = {"group_by": group_by, "from": begin, "to": end}
    run(
        asked | {"key": key, "team": team, "model": model, "upstream": upstream},
        url=url,
        admin_key=admin_key,
        database=database,
        form="json" if as_json else "csv" if as_csv else "table",
        chart=chart,
    )


database = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Bring the database up to date, or move it.",
)
app.add_typer(database, name="db")


@database.command("upgrade")
def _db_upgrade(
    database_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The database: a URL, env:NAME or file:PATH. Default: as the settings here say.",
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="The TOML file that names it.")
    ] = None,
) -> None:
    """Make the tables, or bring those of an older version up to date.

    A relay does so itself when it starts. Any number may try at the same time.
    """
    from relay.cli.db import upgrade  # noqa: PLC0415 - see the module docstring

    upgrade(database_url, config)


@database.command("copy")
def _db_copy(
    source: Annotated[str, typer.Argument(help="A URL, env:NAME or file:PATH.")],
    target: Annotated[str, typer.Argument(help="Likewise; a new database, or half a copy.")],
) -> None:
    """Copy keys, teams, usage, everything into another database.

    From sqlite:///relay.db to postgresql://USER:PASSWORD@HOST/NAME or back. Stop the relay before:
    what it writes meanwhile is not copied. What broke off goes on when it is run again, and until
    it is complete no relay uses the target.
    """
    from relay.cli.db import copy_all  # noqa: PLC0415 - see the module docstring

    copy_all(source, target)
