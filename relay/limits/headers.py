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

_LEFT_REQUESTS = b"x-ratelimit-remaining-requests"
_LEFT_TOKENS = b"x-ratelimit-remaining-tokens"
_NAME = itemgetter(0)
_UPSTREAM = (b"x-ratelimit-", b"anthropic-ratelimit-")


def rate_limit_headers(holders: Sequence[Holder], used: Sequence[Used]) -> RawHeaders:
    """The limits and counts of these holders; nothing where there are no limits a minute."""
    (requests, rpm, requests_reset_s), (tokens, tpm, tokens_reset_s) = _least(holders, used)
    told: list[tuple[bytes, bytes]] = []
    if rpm is not None:
        most, _ = _limits(rpm)
        reset, _ = _resets(requests_reset_s if requests < rpm else 0.0)
        told += (most, (_LEFT_REQUESTS, b"%d" % requests if requests > 0 else b"0"), reset)
    if tpm is not None:
        _, most = _limits(tpm)
        _, reset = _resets(tokens_reset_s if tokens < tpm else 0.0)
        told += (most, (_LEFT_TOKENS, b"%d" % tokens if tokens > 0 else b"0"), reset)
    return told


def without_upstreams(headers: RawHeaders) -> RawHeaders:
    """An answer's headers, less what the upstream tells of its own limits."""
    if b"ratelimit-" not in b"".join(map(_NAME, headers)):
        return headers
    return [pair for pair in headers if not pair[0].startswith(_UPSTREAM)]


def retry_after(wait_s: float) -> tuple[bytes, bytes]:
    """In whole seconds, and never too early; at least one, as nobody knows when a call ends."""
    return RETRY_AFTER, b"%d" % max(1, math.ceil(wait_s))


_Left = tuple[int, int | None, float]
"""What is left of a limit a minute, that limit (None: there is none), seconds until all is."""


def _least(holders: Sequence[Holder], used: Sequence[Used]) -> tuple[_Left, _Left]:
    """Of requests and of tokens, at the holder that has least of them."""
    requests: _Left = 0, None, 0.0
    tokens: _Left = 0, None, 0.0
    for holder, (asked, spent, reset_s) in zip(holders, used, strict=True):
        rpm, tpm = holder.limits.rpm, holder.limits.tpm
        if rpm is not None and (requests[1] is None or rpm - asked < requests[0]):
            requests = rpm - asked, rpm, reset_s
        if tpm is not None and (tokens[1] is None or tpm - spent < tokens[0]):
            tokens = tpm - spent, tpm, reset_s
    return requests, tokens


@lru_cache(maxsize=1024)
def _limits(limit: int) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    """The header that tells a limit of requests, and the one of tokens."""
    value = b"%d" % limit
    return (b"x-ratelimit-limit-requests", value), (b"x-ratelimit-limit-tokens", value)


@lru_cache(maxsize=1024)
def _resets(seconds: float) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    """The header that tells when all requests are there again, and the one of tokens."""
    value = duration(round(seconds * 1000))
    return (b"x-ratelimit-reset-requests", value), (b"x-ratelimit-reset-tokens", value)
