"""A mode that was set by hand, in a file: `{"mode": "local"}`. All workers of a machine share it.

The file is there only while the mode differs from the configured one. It is replaced as a whole, so
a reader sees the old one or the new one; and one that cannot be read or written is a warning, as a
relay must serve without it.
"""

import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import get_args

from relay.settings import Mode

MODES: tuple[Mode, ...] = get_args(Mode)

Stamp = tuple[int, int]
_log = logging.getLogger("relay.switch")


class KeptMode:
    """The file, and what was last seen of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: Stamp | None = None

    def changed(self) -> bool:
        """Whether the file is another one than when this was last asked; costs one look at it."""
        before, self._seen = self._seen, self._stamp()
        return self._seen != before

    def read(self) -> Mode | None:
        """The mode that is kept, or None: none, or the file cannot be understood (a warning)."""
        try:
            mode = json.loads(self._path.read_bytes())["mode"]
            return MODES[MODES.index(mode)]
        except FileNotFoundError:
            return None
        except OSError as exc:
            self._warn("mode_unreadable", exc.strerror)
        except (ValueError, LookupError, TypeError):
            self._warn("mode_unreadable", 'it does not say {"mode": "auto", "remote" or "local"}')
        return None

    def write(self, mode: Mode | None) -> bool:
        """Keep that mode, or none; whether that could be done (if not, a warning)."""
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            if mode is None:
                self._path.unlink(missing_ok=True)
                return True
            with suppress(FileNotFoundError):
                new.unlink()  # of an earlier process of that id, which died in the middle
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps({"mode": mode}) + "\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except OSError as exc:
            self._warn("mode_not_kept", exc.strerror)
            return False
        return True

    def _stamp(self) -> Stamp | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def _warn(self, event: str, reason: str | None) -> None:
        _log.warning(event, extra={"fields": {"file": str(self._path), "reason": reason}})
