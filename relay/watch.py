"""Files that tell when they have changed, by looking at them again and again.

Looking costs a few microseconds and works on every file system and through the links that
orchestrators swap; the kernel's own notices (inotify) do neither, or need another package.
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

LOOK_S = 0.5
"""Between two looks. A file that has changed since the last is let rest until the next: it may be
written in pieces."""

Stamps = list[tuple[int, int, int] | None]


class FileWatch:
    """Calls `changed` after any of the files did; in the event loop that it is started in."""

    def __init__(self, files: Callable[[], Iterable[Path]], changed: Callable[[], object]) -> None:
        self._files = files
        self._changed = changed
        self._seen: Stamps = []
        self._restless = False
        self._timer: asyncio.TimerHandle | None = None

    def switch(self, on: bool) -> None:
        """Look from now on, or no longer."""
        if on and self._timer is None:
            self._seen = self._look()
            self._restless = False
            self._again()
        elif not on and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._round)

    def _round(self) -> None:
        self._again()
        before, self._seen = self._seen, self._look()
        if self._seen != before:
            self._restless = True
        elif self._restless:
            self._restless = False
            self._changed()

    def _look(self) -> Stamps:
        return [_stamp(path) for path in self._files()]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:  # not there, which is a state like any other
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)
