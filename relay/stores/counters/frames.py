"""What the workers of one machine and the process that counts for them say to each other.

    worker    ["reserve", number, group, holders, tokens, …]     holders as lists
              ["settle", number, tokens, cost_nano]              a call that was granted
              ["seed", holder, begins_at, known, spent]          ["recorded", [[holder, at, cost]…]]
    parent    [number, "granted", used]                          one for each `reserve`, in order
              [number, "refused", limit, holder, wait_s, used]   wait_s: null for never
              [number, "unseeded", spans]

A frame is a line of JSON. Frames are gathered and written once a round of the event loop.
"""

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import orjson

from relay.stores.counters.values import Ask, Refused, Span, Unseeded, Used
from relay.types import Holder, Limits

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""The longest line that is taken: some ten thousand recorded rows."""


class Frames:
    """One end of a connection: frames from pieces of bytes, pieces of bytes from frames."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._unread = b""
        self._unsent: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def read(self, data: bytes) -> Iterator[list[Any]]:
        """The frames that are whole now."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        if len(self._unread) > MAX_FRAME_BYTES:
            self._transport.abort()
        return map(orjson.loads, lines)

    def write(self, *frame: Any) -> None:
        """Send a frame with those of this moment."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(orjson.dumps(frame, default=tuple))

    def _flush(self) -> None:
        lines, self._unsent = self._unsent, []
        self._transport.write(b"\n".join(lines) + b"\n")


def of_ask(ask: Ask) -> list[Any]:
    """An ask as it travels."""
    holders = [
        [
            holder.id,
            limits.rpm,
            limits.tpm,
            limits.parallel,
            limits.budget_nano,
            limits.budget_window,
            limits.requests,
            holder.begins_at,
            holder.ends_at,
        ]
        for holder in ask.holders
        for limits in (holder.limits,)
    ]
    return [ask.group, holders, *ask[2:]]


def to_ask(group: str, holders: list[list[Any]], *rest: Any) -> Ask:
    """The same, arrived."""
    found = [
        Holder(name, Limits(*limits), begins_at, ends_at)
        for name, *limits, begins_at, ends_at in holders
    ]
    return Ask(group, tuple(found), *rest)


def of_answer(outcome: Refused | Unseeded) -> list[Any]:
    """What is not granted, as it travels."""
    if isinstance(outcome, Unseeded):
        return ["unseeded", outcome.spans]
    wait_s = None if outcome.never else outcome.wait_s
    return ["refused", outcome.limit, outcome.holder, wait_s, outcome.used]


def to_answer(kind: str, *rest: Any) -> Refused | Unseeded:
    """The same, arrived."""
    if kind == "unseeded":
        return Unseeded(tuple(Span(*span) for span in rest[0]))
    limit, holder, wait_s, used = rest
    return Refused(limit, holder, math.inf if wait_s is None else wait_s, to_used(used))


def to_used(used: list[list[Any]]) -> list[Used]:
    """The counts of holders, arrived."""
    return [Used(*one) for one in used]
