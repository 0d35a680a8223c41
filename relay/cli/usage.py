"""`relay usage`: what was used and what it cost, from a running relay or from its database."""

import asyncio
import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from rich.text import Text

from relay.cli.admin import ask_admin
from relay.cli.terminal import fail, print_table, printable, say
from relay.errors import InvalidRequest
from relay.ledger import key_names, read_query, usage_report
from relay.stores import StoreUnavailable, open_store
from relay.stores.url import parse_store_url

BAR_CELLS = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"
"""Parts of a cell, so that short bars differ, too."""

NUMBERS = (
    "requests",
    "errors",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "audio_tokens",
    "cost_usd",
    "unpriced_requests",
    "mean_s",
)
"""What stands behind the group in a line of a report, in the order of the table."""


def run(
    asked: Mapping[str, str | None],
    *,
    url: str | None,
    admin_key: str | None,
    database: str | None,
    form: str,
    chart: str | None,
) -> None:
    """Print what `asked` (the parameters of the admin API) asks for as `table`, `csv` or `json`."""
    given = {name: value for name, value in asked.items() if value is not None}
    if database is not None:
        report = _read(database, given)
    else:
        report = ask_admin(url, admin_key, "GET", f"usage?{urlencode(given)}")
    if form == "json":
        say(json.dumps(report, indent=2) + "\n")
    elif form == "csv":
        say(_csv(report))
    elif chart is not None:
        _print_chart(report, chart)
    else:
        _print_table(report)


def _read(database: str, given: Mapping[str, str]) -> dict[str, Any]:
    try:
        query = read_query(given)
        where = parse_store_url(database)
        if where.kind == "sqlite" and not Path(where.path).is_file():
            fail(f"--database: there is no file {where.path}")
        store = open_store(database)
    except InvalidRequest as exc:
        fail(exc.message, code=2)
    except ValueError as exc:
        fail(f"--database: {exc}", code=2)

    async def read() -> dict[str, Any]:
        try:
            return usage_report(query, await store.usage(query), await key_names(store, query))
        finally:
            await store.aclose()

    try:
        return asyncio.run(read())
    except StoreUnavailable as exc:
        fail(str(exc))


def _csv(report: Mapping[str, Any]) -> str:
    names = [*_group_columns(report), *NUMBERS]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for line in report["data"]:
        writer.writerow(line | {"cost_usd": _usd(line["cost_usd"])})
    return text.getvalue()


def _print_table(report: Mapping[str, Any]) -> None:
    groups = report["group_by"]
    rows = [[*_names(line, groups), *_figures(line)] for line in report["data"]]
    if groups:
        total = ["total", *[""] * (len(groups) - 1)]
        rows.append([*total, *_figures(report["total"])])
    shown = [number for number in NUMBERS if number in _ALWAYS or report["total"].get(number)]
    headings = [*groups, *(_HEADINGS[number] for number in shown)]
    places = [*range(len(groups)), *(len(groups) + NUMBERS.index(number) for number in shown)]
    cells = [[_cell(row[place], right=place >= len(groups)) for place in places] for row in rows]
    say(f"{report['from']} to {report['to']}\n")
    print_table(headings, cells)


def _print_chart(report: Mapping[str, Any], what: str) -> None:
    lines = [(" ".join(_names(line, report["group_by"])), line) for line in report["data"]]
    amounts = [_amount(line, what) for _, line in lines]
    most = max(amounts, default=0)
    rows = [
        [
            Text(name),
            Text(_shown(amount, what), justify="right"),
            Text(_bar(amount / most if most else 0.0)),
        ]
        for (name, _), amount in zip(lines, amounts, strict=True)
    ]
    say(f"{report['from']} to {report['to']}\n")
    print_table([", ".join(report["group_by"]), what, ""], rows)


_ALWAYS = ("requests", "errors", "prompt_tokens", "completion_tokens", "cost_usd")
_HEADINGS = {
    "requests": "requests",
    "errors": "errors",
    "prompt_tokens": "prompt",
    "completion_tokens": "completion",
    "cached_tokens": "cached",
    "reasoning_tokens": "reasoning",
    "audio_tokens": "audio",
    "cost_usd": "USD",
    "unpriced_requests": "unpriced",
    "mean_s": "mean s",
}


def _group_columns(report: Mapping[str, Any]) -> list[str]:
    columns: list[str] = []
    for word in report["group_by"]:
        columns += [word, f"{word}_name"] if word in ("key", "team") else [word]
    return columns


def _names(line: Mapping[str, Any], groups: list[str]) -> list[str]:
    """What a line is about: a key by its name, what has none with a dash."""
    names = [str(line.get(f"{word}_name") or line[word] or "-") for word in groups]
    return [" ".join(printable(name).split()) for name in names]


def _figures(line: Mapping[str, Any]) -> list[str]:
    texts = {name: f"{line[name]:,}" for name in NUMBERS if name not in ("cost_usd", "mean_s")}
    texts |= {"cost_usd": _usd(line["cost_usd"]), "mean_s": f"{line['mean_s']:.2f}"}
    return [texts[name] for name in NUMBERS]


def _usd(cost: float) -> str:
    """Cents where that says enough, as many places as are needed where it does not."""
    return f"{cost:.2f}" if cost >= 1 or not cost else f"{cost:.9f}".rstrip("0")


def _amount(line: Mapping[str, Any], what: str) -> float:
    if what == "tokens":
        return float(line["prompt_tokens"] + line["completion_tokens"])
    return float(line["cost_usd" if what == "cost" else "requests"])


def _shown(amount: float, what: str) -> str:
    return _usd(amount) if what == "cost" else f"{amount:,.0f}"


def _bar(share: float) -> str:
    eighths = round(share * BAR_CELLS * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _cell(text: str, *, right: bool) -> Text:
    return Text(text, justify="right" if right else "left")
