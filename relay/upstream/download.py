"""A large file from a URL, which may be fetched in several goes.

    first go              GET                                200, written from the start
    after a break-off     GET, Range, If-Range (its ETag)    206, the rest is added
                                                             200, it has changed: from the start
                                                             416, it was whole already

What has come stays, so whoever asks again later goes on there. Nothing of ours is sent along, so
redirects are followed.
"""

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

ATTEMPTS = 5
"""Break-offs in a row without a single byte between them, after which it is given up."""

FIRST_PAUSE_S = 0.5
TIMEOUT = httpx.Timeout(60.0, connect=10.0)
HEAD_BYTES = 64
"""What has to be there before the beginning of a file is judged."""

_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class DownloadFailed(Exception):
    """The file could not be fetched; the text says why, and what has come stays."""


@dataclass
class _Known:
    """What was said of the file when its first bytes came."""

    url: str
    validator: str = ""
    total: int = 0


class Download:
    """One file, from `url` to `path`.

    `on_progress(done, total)` is called for each piece, with a total of 0 where that is not known;
    `check` gets the first bytes, and may raise.
    """

    def __init__(
        self,
        url: str,
        path: Path,
        *,
        on_progress: Callable[[int, int], None],
        check: Callable[[bytes], None],
        pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        self._url = url
        self._path = path
        self._note = path.with_name(path.name + ".json")
        self._on_progress = on_progress
        self._check = check
        self._pause_s = pause_s

    def run(self) -> None:
        """Fetch what is missing.

        Raises:
            DownloadFailed: the server refuses, is not there, or keeps breaking off.
            OSError: the file cannot be written.
        """
        failures = 0
        with httpx.Client(follow_redirects=True, timeout=TIMEOUT) as client:
            while True:
                before = self._size()
                try:
                    if self._go_on(client):
                        self._note.unlink(missing_ok=True)
                        return
                except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as exc:
                    raise DownloadFailed(f"that URL cannot be fetched: {exc}") from exc
                except httpx.TransportError as exc:
                    failures = 0 if self._size() > before else failures + 1
                    if isinstance(exc, httpx.ConnectError) and not self._size():
                        raise DownloadFailed(
                            f"{_shown(self._url)} cannot be reached ({type(exc).__name__})"
                        ) from exc
                    if failures == ATTEMPTS:
                        raise DownloadFailed(
                            f"the download keeps breaking off ({type(exc).__name__}); "
                            "what has come stays: say it again to go on"
                        ) from exc
                    time.sleep(self._pause_s * 2**failures)

    def forget(self) -> None:
        """Take away what has come."""
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _go_on(self, client: httpx.Client) -> bool:
        """One go; whether the file is whole. False: it has to be begun anew."""
        known, done = self._known(), self._size()
        headers = {"accept-encoding": "identity"}
        if known is None:
            done = 0
        if done and known is not None:
            headers |= {"range": f"bytes={done}-", "if-range": known.validator}
        with client.stream("GET", self._url, headers=headers) as answer:
            first, total = _extent(answer)
            if answer.status_code == 416:
                if done and done == total:
                    return True
                self.forget()
                return False
            if answer.status_code not in (200, 206):
                raise DownloadFailed(
                    f"{_shown(self._url)} answers {answer.status_code} {answer.reason_phrase}"
                )
            if answer.status_code == 206 and (known is None or first != done):
                self.forget()
                return False
            if answer.status_code == 200:
                done = 0
            self._make_room(total - done)
            self._write(answer, done, total)
        return True

    def _write(self, answer: httpx.Response, done: int, total: int) -> None:
        head = b""
        with self._path.open("ab" if done else "wb") as file:
            if not done:
                self._remember(answer, total)
            for piece in answer.iter_raw():
                if done < HEAD_BYTES and len(head) < HEAD_BYTES:
                    head += piece
                    if len(head) >= HEAD_BYTES:
                        self._check(head)
                file.write(piece)
                file.flush()
                done += len(piece)
                self._on_progress(done, total)
        if done < HEAD_BYTES:
            self._check(head)

    def _make_room(self, needed: int) -> None:
        free = shutil.disk_usage(self._path.parent).free
        if needed > free:
            raise DownloadFailed(
                f"{self._path.parent} has {free // 10**6} MB left, and the file needs "
                f"{needed // 10**6} MB more"
            )

    def _remember(self, answer: httpx.Response, total: int) -> None:
        etag = answer.headers.get("etag", "")
        # A weak one does not say that every byte is the same.
        validator = etag if etag.startswith('"') else answer.headers.get("last-modified", "")
        note = _Known(self._url, validator, total)
        self._note.write_text(json.dumps(asdict(note)), encoding="utf-8")

    def _known(self) -> _Known | None:
        """What was noted, when it is of this file and can be gone on with."""
        try:
            known = _Known(**json.loads(self._note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return known if known.url == self._url and known.validator else None

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


def _extent(answer: httpx.Response) -> tuple[int | None, int]:
    """Where the body begins, and how long the whole file is; 0 where that is not said."""
    if answer.status_code == 200:
        return 0, int(answer.headers.get("content-length", 0))
    found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
    if found is None:
        return None, 0
    first, total = found.groups()
    return None if first is None else int(first), 0 if total == "*" else int(total)


def _shown(url: str) -> str:
    """Without what may be a secret."""
    return str(httpx.URL(url).copy_with(query=None, userinfo=b"", fragment=None))
