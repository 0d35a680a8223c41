"""The end of each request: its tokens, its price, and who is told of it.

Visit or turn of a socket, its Trail --> RequestEnded --> observer (logs), ledger; limits
"""

import time
from dataclasses import dataclass
from time import perf_counter

from relay.attempts import Trail
from relay.events import Observer, RequestEnded
from relay.ledger import Book
from relay.prices import Prices
from relay.stores import Bodies
from relay.types import Identity

MAX_TEXT = 256
"""Characters that are noted of what a client chose: the name of a model, a path."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """Who is told."""

    observe: Observer
    ledger: Book
    prices: Prices

    def close(
        self,
        trail: Trail,
        *,
        identity: Identity,
        request_id: str,
        method: str,
        path: str,
        status: int,
        began: float,
        kept: bool,
        bodies: tuple[bytes, bytes] | None = None,
    ) -> None:
        """A request is over that began at `began` (`perf_counter`); `kept` puts it into the ledger.

        `bodies` are those of the request and of the answer, for keys whose policy wants them kept.
        """
        duration_s = perf_counter() - began
        usage, estimated = trail.used(status)
        if usage is None:
            cost_nano = None if trail.attempts and status < 400 else 0
        elif trail.shared:
            cost_nano = 0
        else:
            cost_nano = self.prices.cost(trail.served, trail.target, usage)
        streamed = trail.stream and trail.first_byte_at
        ended = RequestEnded(
            request_id,
            method,
            path[:MAX_TEXT],
            status,
            duration_s,
            identity.name,
            trail.target,
            0 if trail.shared else trail.attempts,
            usage,
            time.time() - duration_s,
            identity.key_id,
            identity.team_id,
            trail.model[:MAX_TEXT],
            trail.served[:MAX_TEXT],
            trail.stream,
            trail.lost_attempts,
            estimated,
            cost_nano,
            trail.first_byte_at - began if streamed else None,
            trail.error,
        )
        if trail.reservation is not None:
            trail.reservation.end(usage, cost_nano)
        self.observe(ended)
        if kept:
            self.ledger.add(
                ended,
                None
                if bodies is None
                else Bodies(ended.at, request_id, identity.key_id, bodies[0], bodies[1]),
            )
