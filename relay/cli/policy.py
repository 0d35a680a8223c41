"""What a key or a team may, as one types it: `--models a,b --rpm 60 --expires 30d --team none`."""

import re
from collections.abc import Mapping
from datetime import datetime
from time import time
from typing import Any

from relay.cli.terminal import fail

NONE = "none"
"""What is typed to take something away."""

COUNTS = ("rpm", "tpm", "parallel")
LISTS = ("models", "origins", "networks")

_SPAN = re.compile(r"(\d+)([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """What of it was given, as the admin API takes it; leaves the program when it is malformed."""
    return {name: _field(name, value) for name, value in given.items() if value not in (None, [])}


def seconds(option: str, text: str) -> int:
    """A span of time: `90`, `15m`, `24h`, `30d`; leaves the program when it is none."""
    found = _SPAN.fullmatch(text)
    if found is None:
        fail(f"{option}: write seconds, or a span such as 15m, 24h or 30d", code=2)
    return int(found[1]) * _SECONDS[found[2]]


def _field(name: str, value: Any) -> Any:
    option = "--" + name.replace("_", "-")
    if value == NONE:
        return None
    if name == "metadata":
        return {} if value == [NONE] else dict(_pair(option, one) for one in value)
    if name in LISTS:
        return [part for one in value.split(",") if (part := one.strip())]
    if name == "expires_at":
        return _moment(value)
    if name in (*COUNTS, "budget_usd"):
        return _number(option, value, whole=name in COUNTS)
    return value


def _pair(option: str, text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        fail(f"{option}: write NAME=VALUE", code=2)
    return name, value


def _number(option: str, text: str, *, whole: bool) -> int | float:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        fail(f"{option}: write a number, or none", code=2)


def _moment(text: str) -> float | str:
    if _SPAN.fullmatch(text):
        return time() + seconds("--expires", text)
    try:
        datetime.fromisoformat(text)
    except ValueError:
        fail("--expires: write a date such as 2027-01-31, a span such as 30d, or none", code=2)
    return text if "T" in text else f"{text}T00:00:00Z"
