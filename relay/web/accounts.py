"""The end of each request: its tokens, its price, and who is told of it.

Visit or turn of a socket, its Trail --> RequestEnded --> observer (logs), ledger; limits
"""

from collections.abc import Callable
from functools import partial
from time import perf_counter, time

from relay.attempts import Trail
from relay.events import Observer, RequestEnded, ignore
from relay.ledger import NO_LEDGER, Book
from relay.prices import Prices
from relay.stores import Bodies, LedgerRow
from relay.types import Identity

_NOTED = slice(256)
"""Characters that are noted of what a client chose: the name of a model, a path."""


_row: Callable[[tuple[object, ...]], LedgerRow] = partial(tuple.__new__, LedgerRow)
"""`LedgerRow`, without a function in Python that takes all of this apart once more."""


class Accounts:
    """Who is told; `told` is whether anybody is."""

    __slots__ = ("ledger", "observe", "prices", "told")

    def __init__(self, observe: Observer, ledger: Book, prices: Prices) -> None:
        self.observe = observe
        self.ledger = ledger
        self.prices = prices
        self.told = observe is not ignore or ledger is not NO_LEDGER

    def close(  # noqa: PLR0917  # keywords cost as much as what it does first
        self,
        trail: Trail,
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
        prompt = completion = cached = reasoning = audio = None
        if usage is None:
            cost_nano = None if trail.attempts and status < 400 else 0
        else:
            prompt, completion, cached, reasoning, audio, *_ = usage
            cost_nano = 0
            if not trail.shared:
                cost_nano = self.prices.cost(trail.served, trail.target, usage)
        if trail.reservation is not None:
            trail.reservation.end(usage, cost_nano)
        if not self.told:
            return
        streamed = trail.stream and trail.first_byte_at
        row = _row(
            (
                time() - duration_s,
                request_id,
                identity.key_id,
                identity.team_id,
                identity.name,
                path[_NOTED],
                trail.model[_NOTED],
                trail.served[_NOTED],
                trail.target,
                0 if trail.shared else trail.attempts,
                trail.lost_attempts,
                status,
                trail.error,
                trail.stream,
                prompt,
                completion,
                cached,
                reasoning,
                audio,
                estimated,
                cost_nano,
                trail.first_byte_at - began if streamed else None,
                duration_s,
            )
        )
        ended: LedgerRow | RequestEnded = row
        priced_later = cost_nano is None and usage is not None
        if priced_later or self.observe is not ignore:
            told = RequestEnded(*row, method, usage)
            self.observe(told)
            if priced_later:
                ended = told
        if kept:
            kept_bodies = None
            if bodies is not None:
                kept_bodies = Bodies(row.at, request_id, identity.key_id, bodies[0], bodies[1])
            self.ledger.add(ended, kept_bodies)
