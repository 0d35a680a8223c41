"""Which upstreams are within reach, as far as is known: from calls, and from probes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from relay.errors import BackendError, UpstreamTimeout, UpstreamUnreachable

PROBE_LIMIT_S = 1.0
"""What one probe may take. A connection that takes longer is none that anybody wants to wait for,
and together with the patience for silent attempts it makes the delay of the first local answer."""

Probe = Callable[[float], Awaitable[None]]
"""Sees within so many seconds whether an upstream is within reach; raises a `BackendError` if not.

An answer of the upstream, such as an error status, is within reach as well.
"""

State = Literal["reachable", "unreachable", "unknown"]


class Reach:
    """What is known of each upstream."""

    def __init__(self, probes: Mapping[str, Probe], *, limit_s: float = PROBE_LIMIT_S) -> None:
        self.states: dict[str, State] = dict.fromkeys(probes, "unknown")
        self._probes = probes
        self._limit_s = limit_s

    def sees(self, other: "Reach") -> bool:
        """Whether that one looks at the very same upstreams."""
        return self._probes == other._probes

    def forget(self) -> None:
        """Nobody looks any more, so nothing is known."""
        self.states = dict.fromkeys(self._probes, "unknown")

    async def look(self) -> bool:
        """Probe all of them at once; whether any is within reach, as soon as that is known."""
        probing = [asyncio.create_task(self._probe(name)) for name in self._probes]
        try:
            for found in asyncio.as_completed(probing):
                if await found:
                    return True
            return False
        finally:
            for probe in probing:
                probe.cancel()

    async def _probe(self, name: str) -> bool:
        self.states[name] = "reachable" if await self._reached(name) else "unreachable"
        return self.states[name] == "reachable"

    async def _reached(self, name: str) -> bool:
        try:
            async with asyncio.timeout(self._limit_s):
                await self._probes[name](self._limit_s)
        except (UpstreamUnreachable, UpstreamTimeout, OSError):  # a TimeoutError is the last
            return False
        except BackendError:
            pass  # it is there to complain
        return True
