"""Money that was promised or spent and is in no ledger yet, on the local disk.

    ["key_1", 1790000000, 5000]           more by a reservation
    ["key_1", 1790000000, -4200]          less: it cost less, or the ledger has it now

The sum of a holder's lines (in the window that ends then; 0: without end) counts as spent when the
process was killed. It is never less than what is not in the ledger: what grows is written before
the call goes out, by one write that outlives the process (not the machine: nobody waits for a
disk). What shrinks is written later, and some calls are noted ahead where a budget is large, since
to say too much errs on the safe side.
"""

import errno
import fcntl
import logging
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson

MAX_BYTES = 1024 * 1024
"""A longer file is written anew: one line for each sum."""

CALLS_AHEAD = 16
"""A line may say so many calls more than there were, so that not each needs a line."""

AGAIN_S = 1.0
"""How soon a file that could not be opened or written is tried again."""

Spent = tuple[str, int]
"""A holder, and the end of the window of its budget in seconds; 0 when it has none."""

_log = logging.getLogger(__name__)


class Journal:
    """One file, which one process writes. It is opened when there is something to remember."""

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._wall = wall
        self._file: int | None = None
        self._bytes = 0
        self._sums: dict[Spent, int] = {}
        self._noted: dict[Spent, int] = {}  # the sums that the file says, where it says another
        self._try_at = -math.inf
        self._read = False
        self._told = False

    def found(self, spent: Spent) -> int:
        """Nano-dollars of that window which a killed process has left here."""
        self._open()
        return max(0, self._sums.get(spent, 0))

    def more(self, spent: Spent, nano: int, *, ahead_nano: int = 0) -> None:
        """So much more may be spent; noted when this returns, with some such calls ahead.

        Those come to `ahead_nano` at most; to none where that is less than one.
        """
        before = self._sums.get(spent, 0)
        total = self._sums[spent] = before + nano
        noted = self._noted.get(spent, before)
        if total <= noted:
            return
        ahead = min(ahead_nano // nano, CALLS_AHEAD) * nano
        self._noted[spent] = total + ahead
        self._write([(spent, self._noted[spent] - noted)])

    def less(self, spent: Spent, nano: int) -> None:
        """So much was not spent, or is in the ledger now; noted by the next `write`."""
        before = self._sums.get(spent, 0)
        self._noted.setdefault(spent, before)
        self._sums[spent] = before - nano

    def write(self) -> None:
        """Note what is so, to the nano-dollar."""
        noted, self._noted = self._noted, {}
        changes = [(spent, self._sums[spent] - was) for spent, was in noted.items()]
        for spent in noted:
            if not self._sums[spent]:
                del self._sums[spent]
        self._write([change for change in changes if change[1]])

    def close(self) -> None:
        """Note what is so, and give the file back."""
        self.write()
        self._leave()

    def _write(self, changes: list[tuple[Spent, int]]) -> None:
        if not changes:
            return
        if self._file is None:
            self._open()  # which notes all that is known
            return
        try:
            if not self._sums:
                os.ftruncate(self._file, 0)
                self._bytes = 0
            elif self._bytes > MAX_BYTES:
                self._renew()
            else:
                lines = [b"%b\n" % orjson.dumps([*spent, nano]) for spent, nano in changes]
                self._append(b"".join(lines))
        except OSError as exc:
            self._fail(exc)

    def _open(self) -> bool:
        """Whether the file is open; then it holds what is remembered. It is tried now and then."""
        if self._file is not None:
            return True
        now = time.monotonic()
        if now < self._try_at:
            return False
        self._try_at = now + AGAIN_S
        try:
            self._file = _locked(self._path)
            if not self._read:
                for spent, nano in _sums(self._path.read_bytes()).items():
                    self._sums[spent] = self._sums.get(spent, 0) + nano
                self._read = True  # from here on it holds nothing that we do not know
            self._renew()
        except OSError as exc:
            self._fail(exc)
            return False
        self._told = False
        return True

    def _renew(self) -> None:
        """Put a file in its place that has one line for each sum, and none for windows past."""
        now = self._wall()
        self._sums = {
            spent: nano for spent, nano in self._sums.items() if nano and not 0 < spent[1] <= now
        }
        self._noted.clear()
        fresh = self._path.with_name(f"{self._path.name}.new")
        fresh.unlink(missing_ok=True)
        before, self._file, self._bytes = self._descriptor(), _locked(fresh), 0
        try:
            lines = [orjson.dumps([*spent, nano]) for spent, nano in self._sums.items()]
            self._append(b"".join(b"%b\n" % line for line in lines))
            fresh.replace(self._path)
        finally:
            os.close(before)

    def _append(self, text: bytes) -> None:
        written = os.write(self._descriptor(), text) if text else 0
        self._bytes += written
        if written < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _descriptor(self) -> int:
        assert self._file is not None  # noqa: S101  # asked only while it is open
        return self._file

    def _fail(self, exc: OSError) -> None:
        """Go on without; all is written when the file can be opened again."""
        self._leave()
        if not self._told:
            self._told = True
            why = "another relay uses it" if exc.errno == errno.EWOULDBLOCK else exc.strerror
            fields = {"file": str(self._path), "reason": why}
            _log.warning("budget_journal_off", extra={"fields": fields})

    def _leave(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _locked(path: Path) -> int:
    """The file, to be appended to, held by this process until it is closed or the process ends."""
    while True:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_ino == path.stat().st_ino:
                return file
        except FileNotFoundError:
            pass  # whoever had it has just put another in its place
        except OSError:
            os.close(file)
            raise
        os.close(file)


def _sums(text: bytes) -> dict[Spent, int]:
    """What a file's lines come to; one that was torn by a full disk says nothing."""
    sums: dict[Spent, int] = {}
    for line in text.splitlines():
        with suppress(ValueError, TypeError):
            holder_id, ends_at, nano = orjson.loads(line)
            spent = str(holder_id), int(ends_at)
            sums[spent] = sums.get(spent, 0) + int(nano)
    return sums
