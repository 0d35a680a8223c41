"""What a client is told of its limits, as OpenAI tells it.

    x-ratelimit-limit-requests       rpm              x-ratelimit-limit-tokens       tpm
    x-ratelimit-remaining-requests   of them          x-ratelimit-remaining-tokens
    x-ratelimit-reset-requests       until all are    x-ratelimit-reset-tokens       "59.2s", "1m0s"
                                     there again

Of several holders the one that has least left is told. Who has such limits sees these in place of
the upstream's, which are those of the hidden key; everybody else sees the upstream's.

Source: OpenAI guide, "Rate limits", section "Rate limits in headers".
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter

from relay.dialects.rate_limits import duration
from relay.stores.counters import Used
from relay.types import Holder, RawHeaders

RETRY_AFTER = b"retry-after"
NO_RETRY = (b"x-should-retry", b"false")
"""Keeps OpenAI's own clients from asking again where that is of no use."""

_REQUESTS, _TOKENS = (
    (b"x-ratelimit-limit-" + of, b"x-ratelimit-remaining-" + of, b"x-ratelimit-reset-" + of)
    for of in (b"requests", b"tokens")
)
_NAME = itemgetter(0)
_UPSTREAM = (b"x-ratelimit-", b"anthropic-ratelimit-")


def rate_limit_headers(holders: Sequence[Holder], used: Sequence[Used]) -> RawHeaders:
    """The limits and counts of these holders; nothing where there are no limits a minute."""
    requests = tokens = None
    for holder, (asked, spent, reset_s) in zip(holders, used, strict=True):
        rpm, tpm = holder.limits.rpm, holder.limits.tpm
        if rpm is not None:
            least = (rpm - asked, rpm, reset_s)
            requests = least if requests is None or least < requests else requests
        if tpm is not None:
            least = (tpm - spent, tpm, reset_s)
            tokens = least if tokens is None or least < tokens else tokens
    told: list[tuple[bytes, bytes]] = []
    if requests is not None:
        told += _told(_REQUESTS, requests)
    if tokens is not None:
        told += _told(_TOKENS, tokens)
    return told


def without_upstreams(headers: RawHeaders) -> RawHeaders:
    """An answer's headers, less what the upstream tells of its own limits."""
    if b"ratelimit-" not in b"".join(map(_NAME, headers)):
        return headers
    return [pair for pair in headers if not pair[0].startswith(_UPSTREAM)]


def retry_after(wait_s: float) -> tuple[bytes, bytes]:
    """In whole seconds, and never too early; at least one, as nobody knows when a call ends."""
    return RETRY_AFTER, b"%d" % max(1, math.ceil(wait_s))


def _told(
    names: tuple[bytes, bytes, bytes], least: tuple[int, int, float]
) -> tuple[tuple[bytes, bytes], ...]:
    most, remaining, reset = names
    left, limit, reset_s = least
    return (
        (most, _number(limit)),
        (remaining, b"%d" % left if left > 0 else b"0"),
        (reset, _duration(reset_s) if left < limit else b"0s"),
    )


@lru_cache(maxsize=1024)
def _number(limit: int) -> bytes:
    return b"%d" % limit


@lru_cache(maxsize=1024)
def _duration(seconds: float) -> bytes:
    return duration(round(seconds * 1000))
