"""The memory that local models share: who is in it, and who goes when another needs the room.

make_room(need)    enough is free -> go on
                   it could not fit even alone -> one sentence
                   else unload whoever has been idle longest, and look again
                   nobody is idle -> wait until somebody is, for a while
"""

import asyncio
import sys
from pathlib import Path
from typing import Protocol

from relay.errors import NoUpstream, Overloaded
from relay.local.feed import CLOSED

MIB = 1024 * 1024

WAITING_LIMIT_S = 30.0
"""How long a model waits for the memory of those that are answering."""

RETRY_AFTER_S = 5
"""When who has waited in vain should come back."""

_MEMINFO = Path("/proc/meminfo")
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
"""What a container may use and uses: version 2 of control groups, and version 1."""


class Tenant(Protocol):
    """A model that may be in memory."""

    name: str
    need_bytes: int
    idle_since: float | None
    """Since when nobody uses it, by the event loop's clock; None while somebody does."""

    @property
    def loaded(self) -> bool: ...

    async def unload(self, reason: str) -> None: ...


class Memory:
    """Gives out memory to models, one at a time; `limit_mib` 0 is what the machine has."""

    def __init__(self, limit_mib: int = 0) -> None:
        self._limit_bytes = limit_mib * MIB
        self._tenants: list[Tenant] = []
        self.turn = asyncio.Lock()
        """Held from `make_room` until the model is loaded: two would be given the same room."""
        self._changed = asyncio.Event()

    def enter(self, tenant: Tenant) -> None:
        """From now on it may be asked to leave."""
        self._tenants.append(tenant)

    def leave(self, tenant: Tenant) -> None:
        """It will not come back."""
        if tenant in self._tenants:
            self._tenants.remove(tenant)
        self._changed.set()

    def rested(self) -> None:
        """Somebody is idle now, and could be unloaded."""
        self._changed.set()

    async def make_room(self, tenant: Tenant) -> None:
        """Unload idle models until that one fits; waits for those that are answering.

        Raises:
            NoUpstream: it does not fit, or has left meanwhile.
            Overloaded: nobody became idle in `WAITING_LIMIT_S`.
        """
        until = asyncio.get_running_loop().time() + WAITING_LIMIT_S
        while tenant.need_bytes > (free := self._free()):
            await self._one_leaves(tenant, free, until)

    async def _one_leaves(self, tenant: Tenant, free: float, until: float) -> None:
        """Unload whoever is idle longest, or wait until somebody is idle, by the loop's clock."""
        others = [one for one in self._tenants if one.loaded]
        if tenant.need_bytes > free + sum(one.need_bytes for one in others):
            raise NoUpstream(
                f"The local model '{tenant.name}' needs about {_mb(tenant.need_bytes)} MB of "
                f"memory, but only {_mb(free)} MB are free: take a smaller model or context, "
                "or raise local_memory_mb if that is set."
            )
        idle = [(one.idle_since, one) for one in others if one.idle_since is not None]
        if idle:
            await min(idle, key=lambda pair: pair[0])[1].unload("memory")
            return
        if tenant not in self._tenants:
            raise NoUpstream(CLOSED)
        self._changed.clear()
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            raise Overloaded(
                f"The local model '{tenant.name}' has no room while the others are answering; "
                "try again later.",
                headers=[(b"retry-after", b"%d" % RETRY_AFTER_S)],
            ) from None

    def _free(self) -> float:
        if not self._limit_bytes:
            return free_bytes()
        used = sum(one.need_bytes for one in self._tenants if one.loaded)
        return max(0, self._limit_bytes - used)


def free_bytes() -> float:
    """What this machine, or the container on it, can still give; infinite when it does not say."""
    free = float("inf")
    if sys.platform != "linux":
        return free
    for line in _lines(_MEMINFO):
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            free = int(amount.split()[0]) * 1024
    for limit, used in _GROUPS:
        allowed, taken = (next(iter(_lines(Path(path))), "max") for path in (limit, used))
        if allowed.isdigit() and taken.isdigit():
            free = min(free, max(0, int(allowed) - int(taken)))
    return free


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def _mb(count: float) -> int:
    return round(count / MIB)
