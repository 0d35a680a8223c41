"""Where a request stands in its trace: `traceparent` and `tracestate`, read strictly and written.

    traceparent: 00-<trace, 32 hex>-<parent's span, 16 hex>-<flags, 2 hex>
    tracestate:  up to 32 members `key=value`; passed on as it came, it is for others to read

What is malformed is as if it had not come: then the request begins a trace of its own.

Source: W3C, "Trace Context", level 2.
"""

import re
from typing import NamedTuple

from relay.types import RawHeaders

PARENT, STATE = b"traceparent", b"tracestate"

SAMPLED, RANDOM = 0x01, 0x02

MAX_STATE_BYTES = 512
"""More of a `tracestate` need not be passed on, and is not."""

_MAX_MEMBERS = 32
_FUTURE_BYTES = 512
"""Of a `traceparent` of a later version, which may be longer than ours."""

_FORM = re.compile(
    rb"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})"
    rb"-(?P<span>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_MEMBER = re.compile(
    rb"[ \t]*(?:(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])?[ \t]*"
)


class Parent(NamedTuple):
    """The span of another program, in which a request was sent."""

    trace: int
    span: int
    flags: int
    state: bytes


def read(headers: RawHeaders) -> Parent | None:
    """What the headers of a request say, names in lower case; None where that is nothing sane."""
    given = [value for name, value in headers if name == PARENT]
    if len(given) != 1 or len(given[0]) > _FUTURE_BYTES:
        return None
    form = _FORM.fullmatch(given[0])
    if form is None or (form["version"] == b"00" and form["more"] is not None):
        return None
    state = b",".join(value for name, value in headers if name == STATE)
    return Parent(
        int(form["trace"], 16),
        int(form["span"], 16),
        int(form["flags"], 16) & (SAMPLED | RANDOM),
        state if _is_sane(state) else b"",
    )


def write(headers: RawHeaders, trace: int, span: int, flags: int, state: bytes) -> RawHeaders:
    """The same headers, and that in place of what they said of a trace."""
    others = [pair for pair in headers if pair[0] not in (PARENT, STATE)]
    others.append((PARENT, b"00-%032x-%016x-%02x" % (trace, span, flags)))
    if state:
        others.append((STATE, state))
    return others


def _is_sane(state: bytes) -> bool:
    members = state.split(b",")
    return (
        len(state) <= MAX_STATE_BYTES
        and len(members) <= _MAX_MEMBERS
        and all(map(_MEMBER.fullmatch, members))
    )
