"""Room for models: whoever is idle longest goes first, and who does not fit hears why."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relay.errors import NoUpstream, Overloaded
from relay.local import memory
from relay.local.memory import MIB, Memory, free_bytes


@dataclass(eq=False)
class Sized:
    """A model of some size."""

    name: str
    need_bytes: int
    idle_since: float | None = None
    loaded: bool = True
    reasons: list[str] = field(default_factory=list)

    async def unload(self, reason: str) -> None:
        self.loaded = False
        self.reasons.append(reason)


def room(limit_mib: int, *tenants: Sized) -> Memory:
    made = Memory(limit_mib)
    for tenant in tenants:
        made.enter(tenant)
    return made


async def test_who_was_idle_longest_goes_and_no_more_than_needed() -> None:
    old, young = Sized("old", 40 * MIB, 1.0), Sized("young", 40 * MIB, 2.0)
    await room(100, young, old).make_room(Sized("new", 50 * MIB, loaded=False))
    assert (old.reasons, young.reasons) == (["memory"], [])


async def test_who_is_in_use_stays_and_who_never_fits_is_refused_with_both_numbers() -> None:
    busy = Sized("busy", 80 * MIB)
    with pytest.raises(NoUpstream) as refused:
        await room(100, busy).make_room(Sized("new", 150 * MIB, loaded=False))
    assert "'new' needs about 150 MB of memory, but only 20 MB are free" in refused.value.message
    assert busy.loaded


async def test_for_who_never_fits_nobody_has_to_go() -> None:
    idle = Sized("idle", 80 * MIB, 1.0)
    with pytest.raises(NoUpstream):
        await room(100, idle).make_room(Sized("new", 150 * MIB, loaded=False))
    assert idle.loaded


async def test_who_would_fit_waits_until_somebody_is_idle() -> None:
    busy, new = Sized("busy", 80 * MIB), Sized("new", 50 * MIB, loaded=False)
    made = room(100, busy, new)
    waiting = asyncio.create_task(made.make_room(new))
    await asyncio.sleep(0)
    assert not waiting.done()
    busy.idle_since = 1.0
    made.rested()
    await waiting
    assert busy.reasons == ["memory"]


async def test_who_waits_for_too_long_is_told_when_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "WAITING_LIMIT_S", 0.01)
    busy, new = Sized("busy", 80 * MIB), Sized("new", 50 * MIB, loaded=False)
    with pytest.raises(Overloaded, match="'new' has no room while") as refused:
        await room(100, busy, new).make_room(new)
    assert dict(refused.value.headers) == {b"retry-after": b"5"}


async def test_who_leaves_waits_no_longer() -> None:
    busy, new = Sized("busy", 80 * MIB), Sized("new", 50 * MIB, loaded=False)
    made = room(100, busy, new)
    waiting = asyncio.create_task(made.make_room(new))
    await asyncio.sleep(0)
    made.leave(new)
    with pytest.raises(NoUpstream, match="closed"):
        await waiting


async def test_who_has_left_does_not_count() -> None:
    gone = Sized("gone", 80 * MIB)
    memory = room(100, gone)
    memory.leave(gone)
    memory.leave(gone)
    await memory.make_room(Sized("new", 50 * MIB, loaded=False))
    assert gone.loaded


async def test_without_a_limit_it_is_the_machine_that_counts() -> None:
    await Memory().make_room(Sized("small", 1))
    with pytest.raises(NoUpstream, match="MB are free"):
        await Memory().make_room(Sized("huge", 2**60))


def test_the_smaller_of_machine_and_container_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    monkeypatch.setattr(memory.sys, "platform", "linux")
    machine = Path(told("meminfo", "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n"))
    monkeypatch.setattr(memory, "_MEMINFO", machine)
    monkeypatch.setattr(memory, "_GROUPS", ((told("max", "max\n"), told("now", "5\n")),))
    assert free_bytes() == 4000 * 1024
    monkeypatch.setattr(memory, "_GROUPS", ((told("max", "3000\n"), told("now", "1000\n")),))
    assert free_bytes() == 2000
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "_GROUPS", ())
    assert free_bytes() == float("inf")
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert free_bytes() == float("inf")
