"""When the window of a budget begins and ends: days, weeks and months of UTC.

Source: weeks begin on Monday, as in ISO 8601.
"""

import math
from datetime import UTC, datetime
from typing import Literal

from relay.types import Holder

DAY_S = 86_400
_MONDAYS_BEFORE_EPOCH = 3
"""The epoch began on a Thursday."""

Kind = Literal["day", "week", "month", "total"]


def window(holder: Holder, at: float) -> tuple[float, float]:
    """Begin (inside) and end (outside) of the budget window of a holder at that time.

    A total has no end, and begins with the holder.
    """
    kind: Kind = holder.limits.budget_window
    if kind == "total":
        return holder.begins_at, math.inf
    day = int(at // DAY_S)
    if kind == "day":
        first, after = day, day + 1
    elif kind == "week":
        first = day - (day + _MONDAYS_BEFORE_EPOCH) % 7
        after = first + 7
    else:
        now = datetime.fromtimestamp(at, UTC)
        begin = datetime(now.year, now.month, 1, tzinfo=UTC)
        end = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
        return begin.timestamp(), end.timestamp()
    return float(first * DAY_S), float(after * DAY_S)
