"""How much those may use who let calls in: reserved before a call, settled after it.

    Limiter.reserve(call, …) --> Reservation     at the key, its team and its token, or at none
    Reservation.lines()                          x-ratelimit-…, on the answer
    Reservation.end(usage, cost)                 what it was in truth, when the accounts are closed

    estimate.py   what a call may use           headers.py   what a client is told of its limits

Where it is counted is a matter of `stores/counters/`.
"""

from relay.limits.headers import without_upstreams
from relay.limits.limiter import Limiter, Prices, SpentSince, nothing_spent, tell_recorded
from relay.limits.reservation import Reservation

__all__ = [
    "Limiter",
    "Prices",
    "Reservation",
    "SpentSince",
    "nothing_spent",
    "tell_recorded",
    "without_upstreams",
]
