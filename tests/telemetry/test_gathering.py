"""Workers that tell their parent, over a real socket."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from relay.telemetry import gathering
from relay.telemetry.counting import Snapshot
from relay.telemetry.gathering import Gathered, Gathering, ParentGone


def counted(number: int) -> Snapshot:
    return {"relay_ledger_rows_lost_total": [((), number)], "relay_processes": [((), 1)]}


def worker(folder: Path, number: int) -> Gathered:
    async def own() -> Snapshot:
        return counted(number)

    return Gathered(folder, own)


def shown(snapshot: Snapshot) -> list[object]:
    return [value for rows in snapshot.values() for _, value in rows]


async def test_the_sum_is_of_all_who_have_told_also_after_their_end() -> None:
    with TemporaryDirectory() as name:  # a short path: a socket's may have 108 bytes
        folder = Path(name)
        async with Gathering(folder):
            one, two = worker(folder, 5), worker(folder, 7)
            assert shown(await one.sum(counted(5))) == [5, 1]
            assert shown(await two.sum(counted(7))) == [12, 2]
            assert shown(await one.sum(counted(6))) == [13, 2]
            await two.aclose()  # tells 7 again: a sum is told, not a difference
            while shown(summed := await one.sum(counted(6))) != [13, 1]:
                await asyncio.sleep(0)
            assert summed["relay_ledger_rows_lost_total"][0][1] == 13
            await one.aclose()


async def test_each_tells_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "TELL_S", 0.01)
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with Gathering(folder):
            one, two = worker(folder, 5), worker(folder, 7)
            two.start()
            while shown(await one.sum(counted(5))) != [12, 2]:
                await asyncio.sleep(0)
            await two.aclose()
            await one.aclose()


async def test_without_a_parent_there_is_no_sum_and_its_own_is_not_taken_for_it() -> None:
    with TemporaryDirectory() as name:
        lonely = worker(Path(name), 1)
        with pytest.raises(ParentGone):
            await lonely.sum(counted(1))
        await lonely.aclose()


async def test_a_late_answer_is_not_taken_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathering, "ANSWER_S", 0.05)
    late = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        await late.wait()
        await reader.readline()
        writer.write(b'[1,{"relay_processes":[[[],1]]}]\n[2,{"relay_processes":[[[],2]]}]\n')
        await reader.read()
        writer.close()

    with TemporaryDirectory() as name:
        path = Path(name) / gathering.SOCKET
        async with await asyncio.start_unix_server(slow, path):
            one = worker(Path(name), 1)
            with pytest.raises(ParentGone):
                await one.sum(counted(1))
            late.set()
            monkeypatch.setattr(gathering, "ANSWER_S", 20)
            assert shown(await one.sum(counted(1))) == [2]
            await one.aclose()
