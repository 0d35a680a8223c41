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
from relay.header_lines import BREAK
from relay.stores.counters import Used
from relay.types import Holder, RawHeaders

RETRY_AFTER = b"retry-after"
NO_RETRY = (b"x-should-retry", b"false")
"""Keeps OpenAI's own clients from asking again where that is of no use."""

_LINES = BREAK.join(
    [
        b"x-ratelimit-limit-%b: %d",
        b"x-ratelimit-remaining-%b: %%d",
        b"x-ratelimit-reset-%b: %b",
    ]
)
_NAME = itemgetter(0)
_UPSTREAM = (b"x-ratelimit-", b"anthropic-ratelimit-")


def rate_limit_lines(holders: Sequence[Holder], used: Sequence[Used]) -> bytes:
    """The limits and counts of these holders; nothing where there are no limits a minute."""
    if len(holders) == 1:  # as most calls have
        limits, (asked, spent, reset_s) = holders[0].limits, used[0]
        rpm, tpm, requests_s, tokens_s = limits.rpm, limits.tpm, reset_s, reset_s
        if rpm is not None and tpm is not None and 0 < asked <= rpm and 0 < spent <= tpm:
            return _told(rpm, tpm, reset_s, reset_s) % (rpm - asked, tpm - spent)
    else:
        (rpm, asked, requests_s), (tpm, spent, tokens_s) = _fullest(holders, used)
    requests_left = 0 if rpm is None or asked > rpm else rpm - asked
    tokens_left = 0 if tpm is None or spent > tpm else tpm - spent
    told = _told(rpm, tpm, requests_s if asked else 0.0, tokens_s if spent else 0.0)
    if tpm is None:
        return told if rpm is None else told % requests_left
    return told % tokens_left if rpm is None else told % (requests_left, tokens_left)


def without_upstreams(headers: RawHeaders) -> RawHeaders:
    """An answer's headers, less what the upstream tells of its own limits."""
    if b"ratelimit-" not in b"".join(map(_NAME, headers)):
        return headers
    return [pair for pair in headers if not pair[0].startswith(_UPSTREAM)]


def retry_after(wait_s: float) -> tuple[bytes, bytes]:
    """In whole seconds, and never too early; at least one, as nobody knows when a call ends."""
    return RETRY_AFTER, b"%d" % max(1, math.ceil(wait_s))


_Counted = tuple[int | None, int, float]
"""A limit a minute (None: there is none), what counts at it, seconds until nothing does."""


def _fullest(holders: Sequence[Holder], used: Sequence[Used]) -> tuple[_Counted, _Counted]:
    """Of requests and of tokens, at the holder that has least left of them."""
    requests: _Counted = None, 0, 0.0
    tokens: _Counted = None, 0, 0.0
    for holder, (asked, spent, reset_s) in zip(holders, used, strict=True):
        rpm, tpm = holder.limits.rpm, holder.limits.tpm
        if rpm is not None and (requests[0] is None or rpm - asked < requests[0] - requests[1]):
            requests = rpm, asked, reset_s
        if tpm is not None and (tokens[0] is None or tpm - spent < tokens[0] - tokens[1]):
            tokens = tpm, spent, reset_s
    return requests, tokens


@lru_cache(maxsize=1024)
def _told(rpm: int | None, tpm: int | None, requests_s: float, tokens_s: float) -> bytes:
    """The lines of such limits, with places for what is left of each."""
    limits = ((b"requests", rpm, requests_s), (b"tokens", tpm, tokens_s))
    return BREAK.join(
        _LINES % (what, limit, what, what, duration(round(reset_s * 1000)))
        for what, limit, reset_s in limits
        if limit is not None
    )
