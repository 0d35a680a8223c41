"""Budgets outlive a process that is killed: what is in no ledger counts as spent."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from counting import BEGIN, Clock, ask, holder

from relay.stores.counters import Granted, Recorded, Refused, Unseeded
from relay.stores.counters import journal as journals
from relay.stores.counters.journal import Journal
from relay.stores.counters.memory import MemoryCounters

KEY = ("key_a", 0)
KILLED = """
import os, signal, sys
from pathlib import Path
from relay.stores.counters import Ask
from relay.stores.counters.journal import Journal
from relay.stores.counters.memory import MemoryCounters
from relay.types import Holder, Limits

counters = MemoryCounters(journal=Journal(Path(sys.argv[1])))
key = Holder("key_a", Limits(budget_nano=1000))
call = Ask("g", (key,), cost_nano=100, least_cost_nano=100, unseeded=True)
ended = [counters.reserve(call) for _ in range(4)]
for one in ended:
    counters.settle(one, tokens=0, cost_nano=70)
running = [counters.reserve(call) for _ in range(3)]
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def counters(path: Path, clock: Clock | None = None) -> MemoryCounters:
    clock = clock or Clock()
    return MemoryCounters(journal=Journal(path, wall=clock), clock=clock, wall=clock)


def seeded(counters: MemoryCounters, nano: int, *, spent: int = 0, budget: int = 1000) -> object:
    call = ask(holder(budget_nano=budget), cost_nano=nano)
    outcome = counters.reserve(call)
    if isinstance(outcome, Unseeded):
        counters.seed(outcome.spans[0], spent)
        outcome = counters.reserve(call)
    return outcome


def left(path: Path, *, spent: int = 0) -> int:
    """How much of 1000 somebody who starts now may spend, when the ledger knows that much."""
    found = counters(path)
    return next(
        n for n in range(1000, -1, -1) if isinstance(seeded(found, n, spent=spent), Granted)
    )


async def test_money_of_a_killed_process_counts_as_spent(path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    # Four calls cost 70 each, three that cost up to 100 were running; 100 is in the ledger.
    left_now = left(path, spent=100)
    assert 1000 - 100 - 700 <= left_now <= 1000 - 100 - 580


async def test_what_is_in_the_ledger_does_not_count_twice(path: Path) -> None:
    first = counters(path)
    for _ in range(3):
        held = seeded(first, 100)
        assert isinstance(held, Granted)
        first.settle(held, tokens=0, cost_nano=80)
    first.recorded([Recorded("key_a", BEGIN, 80)] * 2)
    assert path.read_bytes() != b""
    first.recorded([Recorded("key_a", BEGIN, 80), Recorded("nobody", BEGIN, 5)])
    await first.aclose()
    assert path.read_bytes() == b""
    assert left(path, spent=240) == 760


async def test_what_is_running_when_it_is_closed_stays_noted(path: Path) -> None:
    first = counters(path)
    assert isinstance(seeded(first, 300), Granted)
    await first.aclose()
    second = counters(path)
    assert isinstance(seeded(second, 701), Refused)
    assert isinstance(seeded(second, 700), Granted)


async def test_a_call_that_costs_more_than_was_reserved_is_noted_at_once(path: Path) -> None:
    first = counters(path)
    held = seeded(first, 10)
    assert isinstance(held, Granted)
    first.settle(held, tokens=0, cost_nano=600)
    assert journals._sums(path.read_bytes()) == {KEY: 600}


def test_a_large_budget_is_noted_ahead(path: Path) -> None:
    journal = Journal(path)
    ahead = journals.CALLS_AHEAD
    for _ in range(3 * ahead):
        journal.line(KEY).more(10, ahead_nano=10**6)
    assert len(path.read_bytes().splitlines()) < 5
    assert 30 * ahead <= journals._sums(path.read_bytes())[KEY] <= 40 * ahead
    journal.write()
    assert journals._sums(path.read_bytes()) == {KEY: 30 * ahead}


def test_a_window_has_one_line_whoever_asks_for_it(path: Path) -> None:
    journal = Journal(path)
    line = journal.line(KEY)
    line.more(10)
    line.less(10)
    journal.write()  # nothing is left of it
    journal.line(KEY).more(7)
    line.less(2)
    journal.write()
    assert journals._sums(path.read_bytes()) == {KEY: 5}


def test_a_long_file_is_written_anew_and_windows_past_are_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "MAX_BYTES", 500)
    journal = Journal(path)
    later = ("key_b", 4_000_000_000)
    journal.line(("key_old", 1)).more(7)
    journal.line(later).more(5)
    for _ in range(200):
        journal.line(KEY).more(1)
        assert path.stat().st_size < 600
    assert journals._sums(path.read_bytes()) == {KEY: 200, later: 5}
    journal.close()
    assert {**journals._sums(path.read_bytes())} == {KEY: 200, later: 5}
    assert not list(path.parent.glob("*.new"))


def test_a_torn_line_says_nothing_and_the_rest_counts(path: Path) -> None:
    path.write_bytes(b'["key_a",0,5]\n["key_a",0,\n\xff\n{}\n["key_a",0,"x"]\n["key_a",0,2]\n["ke')
    assert Journal(path).line(KEY).sum == 7


def test_windows_are_told_apart(path: Path) -> None:
    clock = Clock()
    first = counters(path, clock)
    day = holder(budget_nano=100, budget_window="day")
    call = ask(day, cost_nano=60)._replace(unseeded=True)
    assert isinstance(first.reserve(call), Granted)
    first._journal.close()  # type: ignore[union-attr]
    assert isinstance(counters(path, Clock()).reserve(call), Refused)
    tomorrow = Clock(BEGIN + 86_400)  # then the file is of no use any more
    assert isinstance(counters(path, tomorrow).reserve(call), Granted)


def test_two_relays_do_not_share_a_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, other = Journal(path), Journal(path)
    one.line(KEY).more(5)
    other.line(KEY).more(7)
    other.line(KEY).more(7)
    assert journals._sums(path.read_bytes()) == {KEY: 5}
    [record] = caplog.records
    assert record.__dict__["fields"] == {"file": str(path), "reason": "another relay uses it"}
    one.close()
    other._try_at = -math.inf
    other.line(KEY).more(7)
    assert journals._sums(path.read_bytes()) == {KEY: 26}, "5 of before, and all of its own"


def test_a_file_that_cannot_be_written_is_told_once_and_tried_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir()
    journal = Journal(path)
    assert journal.line(KEY).sum == 0
    for _ in range(3):
        journal._try_at = -math.inf
        journal.line(KEY).more(5)
    assert [record.message for record in caplog.records] == ["budget_journal_off"]
    path.rmdir()
    journal._try_at = -math.inf
    journal.line(KEY).more(5)
    assert journals._sums(path.read_bytes()) == {KEY: 20}


def test_a_full_disk_is_noted_and_mended(path: Path) -> None:
    journal = Journal(path)
    journal.line(KEY).more(5)
    before = journal._file
    journal._file = os.open("/dev/full", os.O_WRONLY)
    journal.line(KEY).more(5)
    assert journal._file is None
    assert before is not None
    os.close(before)
    journal._try_at = -math.inf
    journal.line(KEY).more(5)
    assert journals._sums(path.read_bytes()) == {KEY: 15}
