"""What `relay check` found: a row each, in one table."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from rich.text import Text

from relay.cli.terminal import print_table, printable


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the answer."""

    what: str
    where: str
    state: Literal["ok", "note", "wrong"]
    detail: str


_STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}


def print_findings(findings: Iterable[Finding]) -> None:
    """Print them on standard output."""
    rows = [
        [
            Text(printable(finding.what)),
            Text(printable(finding.where), overflow="fold"),
            Text(finding.state, style=_STYLES[finding.state]),
            Text(printable(finding.detail), overflow="fold"),
        ]
        for finding in findings
    ]
    print_table(["what", "where", "state", "detail"], rows)
