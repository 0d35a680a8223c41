"""`relay local ...`: models on disk.

relay local list, remove     models_on_disk.py
relay local add              models_on_disk.py  adding.py  small_model.py
relay local bench            local_bench.py
"""

from typing import Annotated

import typer

commands = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Models on disk: list, add, remove and measure them.",
)

Config = Annotated[
    str | None, typer.Option(metavar="FILE", help="The TOML file that names local_folder.")
]


@commands.command("list")
def _list(
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that `llama:NAME` finds."""
    from relay.cli.models_on_disk import show  # noqa: PLC0415 - see relay.cli

    show(config=config, as_json=as_json)


@commands.command("add")
def _add(
    source: Annotated[
        str, typer.Argument(metavar="PATH|URL|smollm2", help="A GGUF file, or the small model.")
    ],
    name: Annotated[str | None, typer.Option(help="Default: the name of the file.")] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="What its SHA-256 has to be.")
    ] = None,
    config: Config = None,
) -> None:
    """Add a model, from a file or a URL.

    A download that was broken off goes on where it was when the same is said again.
    """
    from relay.cli.models_on_disk import add  # noqa: PLC0415 - see relay.cli

    add(source, name=name, sha256=sha256, config=config)


@commands.command("remove")
def _remove(
    name: Annotated[str, typer.Argument(help="As `relay local list` has it.")],
    config: Config = None,
) -> None:
    """Delete a model that was added."""
    from relay.cli.models_on_disk import remove  # noqa: PLC0415 - see relay.cli

    remove(name, config=config)


@commands.command("bench")
def _bench(
    model: Annotated[
        str | None,
        typer.Argument(help="A model's name, or what RELAY_LOCAL may be. Default: that."),
    ] = None,
    tokens: Annotated[int, typer.Option(min=2, help="Longest answer.")] = 128,
    runs: Annotated[int, typer.Option(min=1, help="Answers, one after the other.")] = 3,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a local model: time to first token, tokens per second, alone and several at once."""
    from relay.cli.local_bench import run  # noqa: PLC0415 - see relay.cli

    run(model, tokens=tokens, runs=runs, config=config, as_json=as_json)
