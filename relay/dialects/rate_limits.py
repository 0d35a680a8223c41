"""Headers of one dialect as headers of the other: rate limits and the request id.

    anthropic-ratelimit-requests-limit       x-ratelimit-limit-requests
    anthropic-ratelimit-requests-remaining   x-ratelimit-remaining-requests
    anthropic-ratelimit-requests-reset       x-ratelimit-reset-requests
    … tokens …                               … tokens …

A reset is a moment (RFC 3339) at Anthropic's and a duration (`6m0s`) at OpenAI's. What has no
counterpart (limits of input and output tokens) and what cannot be read stays as it is, and so does
`retry-after`, which both know. The organisation stays here: it tells whose account it is. The
upstream's request id comes under the name that upstreams' ids have here, as the other is ours.

Source: Claude API reference, "Rate limits"; OpenAI guide, "Rate limits".
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal

from relay.types import RawHeaders

_WHAT = (b"requests", b"tokens")
_TO_OPENAI = {
    b"anthropic-ratelimit-%s-%s" % (what, kind): b"x-ratelimit-%s-%s" % (kind, what)
    for what in _WHAT
    for kind in (b"limit", b"remaining")
}
_RESET_TO_OPENAI = {
    b"anthropic-ratelimit-%s-reset" % what: b"x-ratelimit-reset-%s" % what for what in _WHAT
}
_TO_ANTHROPIC = {openai: anthropic for anthropic, openai in _TO_OPENAI.items()}
_RESET_TO_ANTHROPIC = {openai: anthropic for anthropic, openai in _RESET_TO_OPENAI.items()}

_ACCOUNT = b"anthropic-organization-id"
_REQUEST_ID = b"request-id"
_UPSTREAM_REQUEST_ID = b"x-upstream-request-id"
"""The name under which an upstream's own request id reaches clients."""

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_STEP = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_LONGEST = 40
_LATEST_S = 253_402_300_799
"""The end of the year 9999, behind which there is no date to write."""


def to_openai(headers: Iterable[tuple[bytes, bytes]], *, now: float) -> RawHeaders:
    """Headers of Anthropic's in OpenAI's form; `now` is Unix time in seconds."""
    result: list[tuple[bytes, bytes]] = []
    for name, value in from_anthropic(headers):
        if name in _RESET_TO_OPENAI and (duration := _until(value, now)) is not None:
            result.append((_RESET_TO_OPENAI[name], duration))
        else:
            result.append((_TO_OPENAI.get(name, name), value))
    return result


def from_anthropic(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """Headers of Anthropic's for a client of its own."""
    return [
        (_UPSTREAM_REQUEST_ID if name == _REQUEST_ID else name, value)
        for name, value in headers
        if name != _ACCOUNT
    ]


def to_anthropic(headers: Iterable[tuple[bytes, bytes]], *, now: float) -> RawHeaders:
    """Headers of OpenAI's in Anthropic's form; `now` is Unix time in seconds."""
    result: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name in _RESET_TO_ANTHROPIC and (moment := _after(value, now)) is not None:
            result.append((_RESET_TO_ANTHROPIC[name], moment))
        else:
            result.append((_TO_ANTHROPIC.get(name, name), value))
    return result


def _until(value: bytes, now: float) -> bytes | None:
    """The time left until a moment, as OpenAI writes it."""
    try:
        moment = datetime.fromisoformat(value.decode("ascii"))
    except ValueError:  # UnicodeDecodeError is one
        return None
    if moment.tzinfo is None:
        return None
    return duration(max(0, round((moment.timestamp() - now) * 1000)))


def duration(milliseconds: int) -> bytes:
    """A time as OpenAI writes it: `6m0s`, `1.5s`, `20ms`."""
    if milliseconds < 1000:
        return b"%dms" % milliseconds if milliseconds else b"0s"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{milliseconds / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}".encode()
    return (f"{minutes}m{seconds}" if minutes else seconds).encode()


def _after(value: bytes, now: float) -> bytes | None:
    """The moment after a duration, in whole seconds and never too early."""
    text = value.decode("latin-1")
    if len(text) > _LONGEST or not (text.isascii() and _DURATION.fullmatch(text)):
        return None
    left = sum((Decimal(n) * _SECONDS[unit] for n, unit in _STEP.findall(text)), Decimal(0))
    moment = (Decimal(str(now)) + left).to_integral_value(ROUND_CEILING)
    if moment > _LATEST_S:
        return None
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
