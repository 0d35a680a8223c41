"""The queue and its task: what has ended is written once, when the store can be written."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import ledger_file
import pytest

from relay.events import RequestEnded
from relay.ledger import NO_LEDGER, Ledger
from relay.ledger import ledger as ledger_module
from relay.stores import Bodies, LedgerRow, open_store, prepare
from relay.stores.sqlite import SqliteStore
from relay.types import Usage

BEGAN = time.time()
ENDED = RequestEnded(
    *(BEGAN, "r-0", "", "", "caller", "/v1/x", "", "", "a", 1, 0, 200, "", False),
    *(None, None, None, None, None, False, 7, None, 0.5, "POST"),
)


class Tariff:
    """One nano-dollar for a token, from the moment that somebody waits for it."""

    def __init__(self) -> None:
        self.known = False

    async def ready(self) -> None:
        self.known = True

    def cost(self, model: str, upstream: str, usage: Usage) -> int | None:
        return usage.prompt_tokens if self.known and model == "known" else None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in a folder that is not there yet, so that the store is away."""
    return tmp_path / "later" / "relay.db"


@pytest.fixture
async def ledgers(path: Path) -> AsyncIterator[Callable[..., Ledger]]:
    store = open_store(ledger_file.url(path))
    made: list[Ledger] = []

    def make(**more: object) -> Ledger:
        ready = partial(prepare, ledger_file.url(path))
        usual = {"pricing": Tariff, "prepare": ready, "flush_s": 0.01}
        made.append(Ledger(**{"store": store, **usual, **more}))  # type: ignore[arg-type]
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        await one.aclose()
    await store.aclose()


def ended(number: int, **more: object) -> RequestEnded:
    return ENDED._replace(request_id=f"r-{number}", **{"at": BEGAN + number, **more})


async def written(ledger: Ledger) -> None:
    async with asyncio.timeout(20):
        while len(ledger):
            await asyncio.sleep(0.005)  # the store's thread rings no bell


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


async def test_rows_wait_for_a_store_that_is_away_and_are_written_once(
    ledgers: Callable[..., Ledger], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    ledger = ledgers()
    for number in range(10):
        ledger.add(ended(number))
    ledger.add(ended(3))  # as after a failure that came behind the writing
    while "ledger_unavailable" not in logged(caplog):
        await asyncio.sleep(0.005)  # likewise
    assert len(ledger) == 11
    path.parent.mkdir()
    await written(ledger)
    assert [row.request_id for row in ledger_file.rows(path)] == [f"r-{n}" for n in range(10)]
    assert logged(caplog) == ["ledger_unavailable", "ledger_available"]


async def test_a_full_queue_pushes_back_and_then_loses_loudly(
    ledgers: Callable[..., Ledger],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("WARNING")
    monkeypatch.setattr(ledger_module, "ROOM_S", 0.01)
    ledger = ledgers(max_rows=3)
    for number in range(3):
        assert not ledger.full
        ledger.add(ended(number))
    assert ledger.full
    await ledger.room()  # not for ever
    assert ledger.full
    for number in range(3, 8):
        ledger.add(ended(number))
    assert (len(ledger), ledger.lost) == (3, 5)
    monkeypatch.setattr(ledger_module, "ROOM_S", 20)
    waiting = asyncio.create_task(ledger.room())
    path.parent.mkdir()
    await waiting
    assert not ledger.full
    await written(ledger)
    assert len(ledger_file.rows(path)) == 3
    lost = [record for record in caplog.records if record.message == "ledger_rows_lost"]
    assert lost[-1].__dict__["fields"]["rows"] == 5


async def test_the_end_writes_what_is_left_at_once(
    ledgers: Callable[..., Ledger], path: Path
) -> None:
    path.parent.mkdir()
    ledger = ledgers(flush_s=60)
    for number in range(9000):  # more than one batch
        ledger.add(ended(number))
    await ledger.aclose()
    assert len(ledger_file.rows(path)) == 9000


async def test_what_cannot_be_written_at_the_end_is_lost_and_said(
    ledgers: Callable[..., Ledger],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(ledger_module, "CLOSE_S", 0.05)
    ledger = ledgers()
    ledger.add(ended(1))
    await ledger.aclose()
    assert ledger.lost == 1
    assert logged(caplog)[-1] == "ledger_rows_lost"


async def test_a_relay_that_ends_with_nothing_to_write_does_not_wait(
    ledgers: Callable[..., Ledger], caplog: pytest.LogCaptureFixture
) -> None:
    ledger = ledgers()
    while "ledger_unavailable" not in logged(caplog):
        await asyncio.sleep(0.005)  # likewise
    await ledger.aclose()
    assert ledger.lost == 0


async def test_a_price_that_came_late_is_still_in_the_row(
    ledgers: Callable[..., Ledger], path: Path
) -> None:
    path.parent.mkdir()
    tariff = Tariff()
    ledger = ledgers(pricing=lambda: tariff)
    usage = Usage(12, 1)
    ledger.add(ended(1, cost_nano=None, usage=usage, served="known"))
    ledger.add(ended(2, cost_nano=None, usage=usage, served="unknown"))
    ledger.add(ended(3, cost_nano=5, usage=usage, served="known"))
    ledger.add(ended(4, cost_nano=None, usage=None))
    await written(ledger)
    assert [row.cost_nano for row in ledger_file.rows(path)] == [12, None, 5, None]


class Slow(Tariff):
    """Prices that never come."""

    async def ready(self) -> None:
        await asyncio.Event().wait()


async def test_rows_do_not_wait_for_prices_when_the_relay_ends(
    ledgers: Callable[..., Ledger], path: Path
) -> None:
    path.parent.mkdir()
    ledger = ledgers(pricing=Slow)
    ledger.add(ended(1, cost_nano=None, usage=Usage(12, 1), served="known"))
    await ledger.aclose()
    [row] = ledger_file.rows(path)
    assert row.cost_nano is None


class Choking(SqliteStore):
    """Cannot swallow the first batch, for a reason that is nobody's disk."""

    choked = False

    async def append(self, rows: Sequence[LedgerRow], bodies: Sequence[Bodies] = ()) -> None:
        if not self.choked:
            self.choked = True
            raise TypeError("what is this?")
        await super().append(rows, bodies)


async def test_a_batch_that_nobody_can_keep_does_not_stop_the_others(
    ledgers: Callable[..., Ledger], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    store = Choking(str(path))
    ledger = ledgers(store=store)
    ledger.add(ended(1))
    await written(ledger)
    ledger.add(ended(2))
    await ledger.aclose()
    await store.aclose()
    assert [row.request_id for row in ledger_file.rows(path)] == ["r-2"]
    assert ledger.lost == 1
    assert "ledger_failed" in logged(caplog)


def kept_bodies(path: Path) -> list[tuple[bytes, bytes]]:
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT request, response FROM relay_bodies ORDER BY at")
        return found.fetchall()


async def test_bodies_are_kept_as_the_redactor_leaves_them(
    ledgers: Callable[..., Ledger], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()

    def redact(body: bytes, kind: str) -> bytes | None:
        if body == b"none":
            return None
        if body == b"bad":
            raise LookupError("bad")
        return kind.encode() + b":" + body

    ledger = ledgers(redact=redact)
    for number, body in enumerate((b"x", b"none", b"bad", b"y")):
        ledger.add(ended(number), Bodies(BEGAN + number, f"r-{number}", "k", body, body))
    await written(ledger)
    await ledger.aclose()
    assert kept_bodies(path) == [(b"request:x", b"response:x"), (b"request:y", b"response:y")]
    assert len(ledger_file.rows(path)) == 4
    assert "redaction_failed" in logged(caplog)


async def test_bodies_that_are_too_many_are_left_out_and_their_rows_are_not(
    ledgers: Callable[..., Ledger],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path.parent.mkdir()
    monkeypatch.setattr(ledger_module, "MAX_BODIES_BYTES", 20)
    ledger = ledgers()
    for number in range(3):
        ledger.add(ended(number), Bodies(BEGAN + number, f"r-{number}", "k", b"12345", b"12345"))
    await ledger.aclose()
    assert len(kept_bodies(path)) == 2
    assert len(ledger_file.rows(path)) == 3
    assert "ledger_rows_lost" in logged(caplog)


async def test_what_is_older_than_it_may_be_goes(
    ledgers: Callable[..., Ledger], path: Path
) -> None:
    path.parent.mkdir()
    ledger = ledgers(keep_days=1, bodies_keep_days=1)
    ledger.add(ended(1, at=1000.0), Bodies(1000.0, "r-1", "k", b"x", b"y"))  # of 1970
    async with asyncio.timeout(20):
        while not path.exists() or len(ledger) or ledger_file.rows(path) or kept_bodies(path):
            await asyncio.sleep(0.005)  # likewise


async def test_no_ledger_takes_everything_and_keeps_nothing() -> None:
    NO_LEDGER.start()
    NO_LEDGER.add(ENDED)
    await NO_LEDGER.room()
    await NO_LEDGER.aclose()
    assert not NO_LEDGER.full
