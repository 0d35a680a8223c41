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
from weakref import WeakValueDictionary

import orjson

MAX_BYTES = 1024 * 1024
"""A longer file is written anew: one line for each sum."""

CALLS_AHEAD = 128
"""A line may say so many calls more than there were, so that not each needs a line."""

AGAIN_S = 1.0
"""How soon a file that could not be opened or written is tried again."""

Spent = tuple[str, int]
"""A holder, and the end of the window of its budget in seconds; 0 when it has none."""

_log = logging.getLogger(__name__)


class Line:
    """What is remembered of one holder's window, in nano-dollars: what is so, and what is said.

    Whoever spends has it at hand. `kept`: the journal looks at it when it writes, and does so until
    both are nothing.
    """

    __slots__ = ("__weakref__", "_journal", "kept", "said", "spent", "sum")

    def __init__(self, journal: "Journal", spent: Spent) -> None:
        self._journal = journal
        self.spent = spent
        self.sum = 0
        self.said = 0
        self.kept = False

    def more(self, nano: int, ahead_nano: int = 0) -> None:
        """So much more may be spent; noted when this returns, with some such calls ahead.

        Those come to `ahead_nano` at most; to none where that is less than one.
        """
        self.sum += nano
        if self.sum > self.said:
            self._journal.say(self, self.sum + min(ahead_nano // nano, CALLS_AHEAD) * nano)

    def less(self, nano: int) -> None:
        """So much was not spent, or is in the ledger now; noted by the next `write`."""
        self.sum -= nano
        if not self.kept:
            self._journal.keep(self)


class Journal:
    """One file, which one process writes. It is opened when there is something to remember."""

    def __init__(self, path: Path, *, wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._wall = wall
        self._file: int | None = None
        self._bytes = 0
        self._lines: dict[Spent, Line] = {}
        # Those, and whatever else somebody has: of a window there is never more than one.
        self._given: WeakValueDictionary[Spent, Line] = WeakValueDictionary()
        self._try_at = -math.inf
        self._read = False
        self._told = False

    def line(self, spent: Spent) -> Line:
        """That of a window, with what a killed process has left in it."""
        self._open()
        return self._line(spent)

    def say(self, line: Line, nano: int) -> None:
        """Note that it may be so much, at once."""
        before, line.said = line.said, nano
        self.keep(line)
        self._write([(line.spent, nano - before)])

    def keep(self, line: Line) -> None:
        """Look at it when the next `write` comes."""
        line.kept = True
        self._lines[line.spent] = line

    def write(self) -> None:
        """Note what is so, to the nano-dollar."""
        changes = []
        for line in list(self._lines.values()):
            if line.sum != line.said:
                changes.append((line.spent, line.sum - line.said))
                line.said = line.sum
            if not line.sum:
                self._drop(line)
        self._write(changes)

    def close(self) -> None:
        """Note what is so, and give the file back."""
        self.write()
        self._leave()

    def _line(self, spent: Spent) -> Line:
        line = self._given.get(spent)
        if line is None:
            line = self._given[spent] = Line(self, spent)
        return line

    def _drop(self, line: Line) -> None:
        line.kept = False
        line.sum = line.said = 0
        del self._lines[line.spent]

    def _write(self, changes: list[tuple[Spent, int]]) -> None:
        if not changes:
            return
        if self._file is None:
            self._open()  # which notes all that is known
            return
        try:
            if not self._lines:
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
                    line = self._line(spent)
                    line.sum += nano
                    self.keep(line)
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
        for line in list(self._lines.values()):
            if not line.sum or 0 < line.spent[1] <= now:
                self._drop(line)
        fresh = self._path.with_name(f"{self._path.name}.new")
        fresh.unlink(missing_ok=True)
        before, self._file, self._bytes = self._descriptor(), _locked(fresh), 0
        try:
            lines = []
            for line in self._lines.values():
                lines.append(b"%b\n" % orjson.dumps([*line.spent, line.sum]))
                line.said = line.sum
            self._append(b"".join(lines))
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
