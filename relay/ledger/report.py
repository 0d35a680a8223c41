"""What is asked of the ledger, read from words, and what it answers, as JSON has it.

group_by=key,day&from=2026-01-01&to=1769904000&model=gpt-4o     UsageQuery
UsageSum                                                        {"key": …, "requests": …}
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, Literal, cast, get_args

from relay.errors import InvalidRequest
from relay.stores import LedgerRow, RowPage, RowQuery, Store, UsageQuery, UsageSum
from relay.stores.histograms import quantile
from relay.stores.records import NANO_PER_USD, GroupBy

GROUPS: tuple[GroupBy, ...] = get_args(GroupBy)
FILTERS = {"key": "key_id", "team": "team_id", "model": "model", "upstream": "upstream"}
"""What may be asked for alone, and its name in a `UsageQuery`."""
PAGE_FILTERS = {word: name for word, name in FILTERS.items() if word != "team"}

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
"""The percentiles of a report."""

USUAL_DAYS = 30
MOST_ROWS = 1000
HOUR_S = 3600
_LATEST_S = 253_402_300_799  # the last second of the year 9999

_SUMS = (
    "requests",
    "errors",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "audio_tokens",
)
_NO_SUM = UsageSum(
    group={},
    requests=0,
    errors=0,
    prompt_tokens=0,
    completion_tokens=0,
    cached_tokens=0,
    reasoning_tokens=0,
    audio_tokens=0,
    cost_nano=0,
    unpriced=0,
    duration_s=0.0,
)


def read_query(given: Mapping[str, str], *, now: float | None = None) -> UsageQuery:
    """The question that parameters ask; without a time, about the last 30 days.

    Raises:
        InvalidRequest: one of them is unknown or wrong, which `param` names.
    """
    _check_names(given, ("group_by", "from", "to", "percentiles", *FILTERS))
    ends_at = read_time(given["to"], "to") if "to" in given else now or time.time()
    begins_at = (ends_at - USUAL_DAYS * 24 * HOUR_S) // HOUR_S * HOUR_S
    if "from" in given:
        begins_at = read_time(given["from"], "from")
    if begins_at >= ends_at:
        raise InvalidRequest("'from' must be earlier than 'to'.", param="from")
    words = [word.strip() for word in given.get("group_by", "").split(",") if word.strip()]
    for word in words:
        if word not in GROUPS:
            raise InvalidRequest(
                f"Usage cannot be grouped by '{word}', but by {', '.join(GROUPS)}.",
                param="group_by",
            )
    return UsageQuery(
        begins_at=begins_at,
        ends_at=ends_at,
        group_by=cast(list[GroupBy], list(dict.fromkeys(words))),
        percentiles=_read_flag(given, "percentiles"),
        **{FILTERS[name]: value for name, value in given.items() if name in FILTERS},
    )


def read_page(given: Mapping[str, str]) -> RowQuery:
    """The requests that parameters ask for; without one, the latest 100.

    Raises:
        InvalidRequest: a parameter is unknown or wrong, which `param` names.
    """
    _check_names(given, ("limit", "before", "status", *PAGE_FILTERS))
    limit = given.get("limit", "100")
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_ROWS):
        raise InvalidRequest(f"'limit' must be between 1 and {MOST_ROWS}.", param="limit")
    return RowQuery(
        limit=int(limit),
        before=read_time(given["before"], "before") if "before" in given else None,
        status=_read_status(given["status"]) if "status" in given else None,
        **{name: given[word] for word, name in PAGE_FILTERS.items() if word in given},
    )


def read_time(text: str, param: str) -> float:
    """Seconds since the epoch, given so, or as an ISO date or time; UTC where no zone is told.

    Raises:
        InvalidRequest: it is neither.
    """
    try:
        at = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None:
            raise _no_time(param) from None
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not 0 <= at <= _LATEST_S:  # which is false for NaN, too
        raise _no_time(param)
    return at


async def key_names(store: Store, query: UsageQuery) -> dict[str, str]:
    """The names of keys and teams by their ids, as far as that question needs them."""
    names = {key.id: key.name for key in await store.keys()} if "key" in query.group_by else {}
    if "team" in query.group_by:
        names |= {team.id: team.name for team in await store.teams()}
    return names


def usage_report(
    query: UsageQuery, sums: Iterable[UsageSum], names: Mapping[str, str]
) -> dict[str, Any]:
    """The answer: a line for each group, and one for all. `names` are those of keys and teams."""
    lines = list(sums)
    return {
        "from": iso(query.begins_at),
        "to": iso(query.ends_at),
        "group_by": list(query.group_by),
        "data": [_line(one, names, query) for one in lines],
        "total": _line(_total(lines), {}, query),
    }


def requests_report(page: RowPage) -> dict[str, Any]:
    """A page of requests, the latest first; `next_before` is where the next page begins."""
    return {"data": [_request(row) for row in page.rows], "next_before": page.next_before}


def iso(at: float) -> str:
    """A time as ISO writes it, in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _line(one: UsageSum, names: Mapping[str, str], query: UsageQuery) -> dict[str, Any]:
    group: dict[str, Any] = {}
    for word, value in one.group.items():
        group[word] = value
        if word in ("key", "team"):
            group[f"{word}_name"] = names.get(value)
    times = {"latency_s": one.latency, "first_token_s": one.first_token}
    return {
        **group,
        **{name: getattr(one, name) for name in _SUMS},
        "cost_usd": one.cost_nano / NANO_PER_USD,
        "unpriced_requests": one.unpriced,
        "mean_s": round(one.duration_s / one.requests, 6) if one.requests else 0.0,
        **(
            {name: _percentiles(counts) for name, counts in times.items()}
            if query.percentiles
            else {}
        ),
    }


def _percentiles(counts: Sequence[int]) -> dict[str, float | None]:
    found = {name: quantile(counts, share) for name, share in SHARES.items()}
    return {name: at if at is None else float(f"{at:.3g}") for name, at in found.items()}


def _total(lines: Iterable[UsageSum]) -> UsageSum:
    total = _NO_SUM
    for one in lines:
        names = (*_SUMS, "cost_nano", "unpriced", "duration_s")
        total = replace(
            total,
            **{name: getattr(total, name) + getattr(one, name) for name in names},
            latency=_plus(total.latency, one.latency),
            first_token=_plus(total.first_token, one.first_token),
        )
    return total


def _plus(counts: Sequence[int], others: Sequence[int]) -> Sequence[int]:
    return [one + other for one, other in zip_longest(counts, others, fillvalue=0)]


def _request(row: LedgerRow) -> dict[str, Any]:
    fields = row._asdict()
    cost_nano = fields.pop("cost_nano")
    return {
        "time": iso(row.at),
        **fields,
        "stream": bool(row.stream),
        "estimated": bool(row.estimated),
        "cost_usd": None if cost_nano is None else cost_nano / NANO_PER_USD,
    }


def _read_flag(given: Mapping[str, str], name: str) -> bool:
    if (said := given.get(name, "false")) not in ("true", "false"):
        raise InvalidRequest(f"'{name}' must be true or false.", param=name)
    return said == "true"


def _read_status(text: str) -> int | Literal["ok", "failed"]:
    if text in ("ok", "failed"):
        return cast(Literal["ok", "failed"], text)
    if not (text.isascii() and text.isdigit() and 100 <= int(text[:9]) <= 599):
        raise InvalidRequest(
            "'status' must be ok, failed, or a status of HTTP, as 429.", param="status"
        )
    return int(text)


def _check_names(given: Mapping[str, str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise InvalidRequest(
                f"There is no parameter '{name}' here, but {', '.join(known)}.", param=name
            )


def _no_time(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{param}' must be a date (2026-01-31), a time (2026-01-31T12:00:00Z) or Unix seconds.",
        param=param,
    )
