"""How long requests took, as counts: how many of an hour or a day were that fast.

    < 20 ms | < 30 ms | < 45 ms | … | < 150 s | longer         each 1.5 times the one before

Percentiles cannot be added up, counts can: so each sum of requests keeps two histograms, of the
whole time and of the time to the first token, of the requests that did not fail. A percentile is
read from them by where it lies between two bounds; so it is never off by more than a factor of
1.5, and mostly by a few percent. No count is NULL: that costs neither database any room.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial

BOUNDS_S = tuple(0.02 * 1.5**step for step in range(23))
"""Where one bucket ends and the next begins, in seconds."""

BUCKETS = len(BOUNDS_S) + 1

MEASURES = {"latency": "duration_s", "first_token": "first_token_s"}
"""Each histogram, and the column of the ledger that it counts."""

COLUMNS = tuple(f"{name}_{number:02}" for name in MEASURES for number in range(BUCKETS))

ANSWERED = "status < 400 AND error = ''"
"""The rows that count: a refusal is quick, a time limit is not, and neither says how fast
answers are."""


bucket_of: Callable[[float], int] = partial(bisect_right, BOUNDS_S)
"""The number of the bucket for a time, in seconds."""


def conditions() -> list[str]:
    """For each of `COLUMNS` the SQL that says whether a row of the ledger counts in it."""
    wanted = []
    for column in MEASURES.values():
        lows = ["", *(f" AND {column} >= {bound!r}" for bound in BOUNDS_S)]
        highs = [*(f" AND {column} < {bound!r}" for bound in BOUNDS_S), ""]
        wanted += [
            f"{ANSWERED} AND {column} IS NOT NULL{low}{high}"
            for low, high in zip(lows, highs, strict=True)
        ]
    return wanted


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The time that this share (0 to 1) of the counted requests stayed below; None of nothing.

    Within a bucket times are taken to lie evenly by their logarithm. The last one has no end, so
    nothing is told to be longer than its beginning.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below = share * total, 0
    number = count = 0
    for number, count in enumerate(counts):  # noqa: B007 - where it stops is what is asked
        if count and below + count >= rank:
            break
        below += count
    if number == len(BOUNDS_S):
        return BOUNDS_S[-1]
    high = BOUNDS_S[number]
    low = BOUNDS_S[number - 1] if number else high / 1.5
    return float(low * (high / low) ** ((rank - below) / count))
