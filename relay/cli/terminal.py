"""The terminal: what is asked for goes to standard output, everything else to standard error."""

import re
import sys
from typing import NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 200
"""Columns of a table that goes to a file or a program: room for an address on one line."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Without control characters but newline and tab: a server must not steer the terminal."""
    return _CONTROLS.sub("", text)


def note(message: str, *, style: str = "dim") -> None:
    """Tell the user something, on standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(printable(message), style=style))


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Say what went wrong, and leave with that exit status."""
    note("\n".join(f"relay: {line}" for line in message.splitlines()), style="red")
    raise typer.Exit(code)


def print_table(headings: list[str], rows: list[list[Text]]) -> None:
    """Print a table on standard output."""
    table = Table(*headings, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(width=width, highlight=False).print(table)


def say(text: str) -> None:
    """Write a piece of an answer to standard output, now."""
    if sys.stdout.isatty():
        text = printable(text)
    encoding = sys.stdout.encoding
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()
