"""A bearer token that somebody else keeps in a file, and replaces before it expires."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from relay.errors import UpstreamAuth
from relay.types import RawHeaders
from relay.upstream.key import Key, state, token

LOOK_S = 1.0
"""The file is looked at once in this time, when there are calls."""


class FileToken:
    """The `Keys` of `token_file`: read anew as it changes.

    While it cannot be read or holds no token, as in the middle of being written, the last good one
    is used.
    """

    def __init__(
        self, upstream: str, path: Path, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        """`now` is a clock in seconds."""
        self._upstream = upstream
        self._path = path
        self._now = now
        self._key: Key | None = None
        self._seen: tuple[int, int, int] | None = None
        self._look_at = 0.0

    def take(self) -> Key | None:
        """The token; None when there was never one."""
        now = self._now()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            with contextlib.suppress(OSError, ValueError):
                self._look()
        return self._key

    async def fetch(self) -> Key:
        """The token, now. Raises: UpstreamAuth: the file cannot be read, or holds none."""
        try:
            key = self._look()
        except OSError as exc:
            raise self._wrong(f"cannot be read ({exc.strerror})") from exc
        except ValueError:
            raise self._wrong("holds no token") from None  # the cause would show what it holds
        return key

    def refused(self, key: Key, status: int, _: RawHeaders, /) -> bool:
        """The upstream answered 401, 403 or 429; returns whether there is another token now."""
        if status != 401:
            return False
        with contextlib.suppress(OSError, ValueError):
            self._look()
        return self._key is not key

    def failed(self, key: Key) -> None:
        """There is no other one that could do better."""

    def accepted(self, key: Key) -> None:
        """Nothing is on trial."""

    def states(self) -> list[dict[str, object]]:
        """The token, if there was one."""
        return [state(self._key, "ok")] if self._key else []

    async def aclose(self) -> None:
        """Nothing runs."""

    def _look(self) -> Key:
        found = self._path.stat()
        seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        if self._key is None or seen != self._seen:
            text = self._path.read_bytes()
            made = token("token_file", text)
            if self._key is None or made.header != self._key.header:
                self._key = made
            self._seen = seen
        return self._key

    def _wrong(self, what: str) -> UpstreamAuth:
        return UpstreamAuth(f"The upstream '{self._upstream}' has no token: its token_file {what}.")
