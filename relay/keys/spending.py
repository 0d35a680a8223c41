"""What those with budgets have spent in the window that runs, as the ledger knows it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from time import time

from relay.stores import KeyRecord, Store, TeamRecord
from relay.stores.counters import calendar
from relay.types import Holder


@dataclass(frozen=True, slots=True)
class Spending:
    """Nano-dollars, and when it begins anew in seconds since the epoch; None: never."""

    nano: int
    resets_at: float | None


async def spending(store: Store, records: Iterable[KeyRecord | TeamRecord]) -> dict[str, Spending]:
    """That of each which has a budget, by its id.

    Raises:
        StoreUnavailable: the ledger cannot be read.
    """
    now = time()
    windows = {
        one.id: calendar.window(Holder(one.id, one.limits, one.created_at), now)
        for one in records
        if one.limits.budget_nano is not None
    }
    spent = await store.spent({id_: begin for id_, (begin, _) in windows.items()})
    return {
        id_: Spending(spent.get(id_, 0), None if end == math.inf else end)
        for id_, (_, end) in windows.items()
    }
