"""What `GET /metrics` tells: what was counted, and how the relay stands at this moment."""

import asyncio
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING

from relay import __version__
from relay.errors import Overloaded
from relay.ledger import Ledger
from relay.switch import LOCAL, REMOTE
from relay.telemetry.counting import Snapshot
from relay.telemetry.gathering import Gathered, ParentGone
from relay.telemetry.metrics import Metrics

if TYPE_CHECKING:  # it makes the scraping, so it has to be imported first
    from relay.app import Relay

BREAKER_STATES = ("closed", "open", "half-open")
SIDES = (REMOTE, LOCAL)


class Scraping:
    """Of one relay; a worker's answer is that of all, whose parent is met in `folder`."""

    def __init__(self, relay: "Relay", metrics: Metrics, folder: Path | None) -> None:
        self._relay = relay
        self._metrics = metrics
        self._gathered = None if folder is None else Gathered(folder, self._own)

    def start(self) -> None:
        """Begin to tell the parent; to be called in the event loop."""
        if self._gathered is not None:
            self._gathered.start()

    async def aclose(self) -> None:
        """Tell it a last time."""
        if self._gathered is not None:
            await self._gathered.aclose()

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """All of it, and its content type.

        Raises:
            Overloaded: the parent of the workers does not answer.
        """
        snapshot = await self._own(besides=1)  # who scrapes is being answered as well
        if self._gathered is not None:
            try:
                snapshot = await self._gathered.sum(snapshot)
            except ParentGone:
                raise Overloaded(
                    "The process that adds up the numbers of all workers does not answer.",
                    headers=[(b"retry-after", b"5")],
                ) from None
        return await asyncio.to_thread(_exposed, snapshot, accept)

    async def _own(self, besides: int = 0) -> Snapshot:
        process = await asyncio.to_thread(_of_process)
        return {**self._metrics.snapshot(), **vitals(self._relay, besides), **process}


def scraping_of(relay: "Relay", folder: Path | None) -> Scraping | None:
    """That of a relay which counts, else None."""
    return Scraping(relay, relay.metrics, folder) if isinstance(relay.metrics, Metrics) else None


def vitals(relay: "Relay", besides: int = 0) -> Snapshot:
    """How a relay stands; so many requests in flight are not told of."""
    built, ledger = relay.now, relay.ledger
    upstreams, health, switch = built.backends.upstreams, built.router.health, built.switch
    waiting, lost = (len(ledger), ledger.lost) if isinstance(ledger, Ledger) else (0, 0)
    return {
        "relay_requests_in_flight": [((), relay.in_flight - besides)],
        "relay_websockets_open": [((), len(relay.crowd))],
        "relay_upstream_breaker": [
            ((name, state), int(health[name].state == state))
            for name in upstreams
            for state in BREAKER_STATES
        ],
        "relay_upstream_in_flight": [((name,), health[name].in_flight) for name in upstreams],
        "relay_upstream_waiting": [((name,), one.waiting()) for name, one in upstreams.items()],
        "relay_serving": [((side,), int(switch.serving == side)) for side in SIDES],
        "relay_moves_total": [((side,), switch.moves[side]) for side in SIDES],
        "relay_ledger_rows_waiting": [((), waiting)],
        "relay_ledger_rows_lost_total": [((), lost)],
        "relay_build_info": [((__version__, python_version()), 1)],
        "relay_processes": [((), 1)],
    }


def _of_process() -> Snapshot:
    from relay.telemetry.exposition import of_process  # noqa: PLC0415 - 30 ms, for scrapes only

    return of_process()


def _exposed(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    from relay.telemetry.exposition import exposed  # noqa: PLC0415 - likewise

    return exposed(snapshot, accept)
