"""Models on disk that have a name: GGUF files in one folder, brought by `relay local add`.

NAME.gguf        the file
NAME.json        where it came from, and its checksum
NAME.gguf.part   one that is still being fetched
"""

import hashlib
import json
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from relay.local.gguf import MAGIC, VERSIONS, NotGguf, read_head

SUFFIX = ".gguf"
HEAD_BYTES = 16
"""Magic, version, number of tensors."""

PART = ".part"
"""What follows the name of a file that is still being fetched."""

PIECE_BYTES = 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class NotAModel(Exception):
    """A file or a name is not what it should be; the text says in what way."""


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A model that was added. `source` and `sha256` are empty where nobody wrote them down."""

    name: str
    path: Path
    size_bytes: int
    source: str = ""
    sha256: str = ""


class Shelf:
    """The models of one folder, which need not be there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with suppress(RuntimeError):  # who has no home has no models there
            self.folder = folder.expanduser()

    def all(self) -> list[OnDisk]:
        """Every model, by name."""
        return [self._look(path) for path in sorted(self.folder.glob(f"*{SUFFIX}"))]

    def find(self, name: str) -> Path | None:
        """The file of that name, if it was added."""
        path = self.folder / f"{name}{SUFFIX}"
        return path if _NAME.fullmatch(name) and path.is_file() else None

    def path_of(self, said: str) -> Path:
        """The file that is meant: one that is there, or one that was added under that name."""
        path = Path(said).expanduser()
        return path if path.is_file() else self.find(said) or path

    def begin(self, name: str) -> Path:
        """Where a file of that name is put together. Raises: NotAModel, OSError."""
        if not _NAME.fullmatch(name):
            raise NotAModel(
                f"'{name}' is no name for a model: letters, digits, dots, dashes and underscores"
            )
        if self.find(name):
            raise NotAModel(f"there is a model '{name}' already: remove it, or take another --name")
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{name}{SUFFIX}{PART}"

    def keep(self, name: str, part: Path, *, source: str, sha256: str) -> OnDisk:
        """The file is whole: from now on it has its name."""
        path = self.folder / f"{name}{SUFFIX}"
        record = {"source": source, "sha256": sha256}
        (self.folder / f"{name}.json").write_text(json.dumps(record), encoding="utf-8")
        part.replace(path)
        return self._look(path)

    def remove(self, name: str) -> OnDisk:
        """Delete it, also what a broken-off download has left. Raises: NotAModel: there is none."""
        part = self.folder / f"{name}{SUFFIX}{PART}"
        path = self.find(name)
        if path is None and _NAME.fullmatch(name) and part.is_file():
            path = part
        if path is None:
            raise NotAModel(f"there is no model '{name}' in {self.folder}")
        gone = replace(self._look(path), name=name)
        for one in (path, part, part.with_name(f"{part.name}.json")):
            one.unlink(missing_ok=True)
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        return gone

    def _look(self, path: Path) -> OnDisk:
        name = path.name.removesuffix(SUFFIX)
        try:
            record = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            source, sha256 = str(record["source"]), str(record["sha256"])
        except (OSError, ValueError, KeyError, TypeError):  # put there by hand
            source = sha256 = ""
        return OnDisk(name, path, path.stat().st_size, source, sha256)


def check_head(head: bytes) -> None:
    """See whether a file that begins so can be a model. Raises: NotAModel."""
    if head.lstrip()[:1] == b"<":
        raise NotAModel("it is a web page, no GGUF file: is this the address of the file itself?")
    if head[:4] != MAGIC or len(head) < HEAD_BYTES:
        raise NotAModel("it is no GGUF file")
    version, tensors = struct.unpack("<IQ", head[4:HEAD_BYTES])
    if version not in VERSIONS:
        raise NotAModel(f"its GGUF version is {version}; relay takes 2 and 3")
    if not tensors:
        raise NotAModel("it holds no weights")


def check_file(path: Path) -> None:
    """See whether a whole file says what it has to. Raises: NotAModel, OSError."""
    try:
        read_head(path)
    except NotGguf as exc:
        raise NotAModel(str(exc)) from exc


def checksum(path: Path, on_bytes: Callable[[int], None]) -> str:
    """The SHA-256 of a file, in hexadecimal digits; tells how much was read, piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            on_bytes(len(piece))
    return digest.hexdigest()
