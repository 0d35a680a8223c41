"""What the head of a GGUF file tells, without loading it.

    "GGUF" version tensors entries   name type value, entries times   the place of each tensor

The weights themselves, which follow, are not read; whether they are all there is seen from that.

Source: the GGUF specification of the ggml project (little-endian; strings are counted bytes).
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_ENTRIES = 100_000
MAX_TEXT_BYTES = 64 * 1024 * 1024
"""What no honest file exceeds: a damaged one must not make us read for ever."""

USUAL_HEAD_SIZE = 128
"""Numbers in one attention head, where a file does not say it."""

CACHE_BYTES = 2
"""Of each number that is kept per token: 16-bit floats."""

_NUMBERS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip  # a table of the specification
_TEXT, _LIST = 8, 9
_ALIGNMENT_BYTES = 32
"""Where the weights begin, unless the file says otherwise: at the next multiple of it."""
_MAX_DIMENSIONS = 4


class NotGguf(Exception):
    """The file is not what its name says; the text says in what way."""


@dataclass(frozen=True, slots=True)
class GgufHead:
    """What a file says of its model. `trained_tokens` 0: it does not say."""

    architecture: str
    size_bytes: int
    trained_tokens: int = 0
    layers: int = 0
    values_per_token: int = 0
    """Numbers that each layer keeps of each token."""
    pooled: bool = False
    """It says how an embedding is made of its tokens, as models for embeddings do."""

    def needed_bytes(self, context_tokens: int) -> int:
        """About the memory that it takes with room for so many tokens: weights, and their cache."""
        return self.size_bytes + self.layers * self.values_per_token * context_tokens * CACHE_BYTES


def read_head(path: Path) -> GgufHead:
    """Read what a GGUF file says of itself.

    Raises:
        NotGguf: it is none, damaged, or cut short.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        try:
            said, tensors = _entries(file)
            _check_weights(file, tensors, said.get("general.alignment"), size)
        except (struct.error, EOFError, UnicodeDecodeError, MemoryError) as exc:
            raise NotGguf("it is damaged, or was not copied to its end") from exc
    return _head(said, size)


def _head(said: dict[str, Any], size: int) -> GgufHead:
    kind = said.get("general.architecture")
    if not isinstance(kind, str):
        raise NotGguf("it does not say which kind of model it is")

    def number(name: str, default: int) -> int:
        value = said.get(f"{kind}.{name}")
        if isinstance(value, list):  # one a layer
            value = max((one for one in value if isinstance(one, int)), default=default)
        return value if isinstance(value, int) else default

    heads = number("attention.head_count", 0)
    width = number("embedding_length", 0)
    head_size = width // heads if heads else USUAL_HEAD_SIZE
    kept = number("attention.head_count_kv", heads)
    return GgufHead(
        kind,
        size,
        trained_tokens=number("context_length", 0),
        layers=number("block_count", 0),
        values_per_token=kept
        * (number("attention.key_length", head_size) + number("attention.value_length", head_size)),
        pooled=number("pooling_type", 0) > 0,
    )


def _entries(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """What it says of itself, and how many tensors it has."""
    if _take(file, 4) != MAGIC:
        raise NotGguf("it is no GGUF file")
    version, tensors, count = struct.unpack("<IQQ", _take(file, 20))
    if version not in VERSIONS:
        raise NotGguf(f"its GGUF version is {version}; relay reads 2 and 3")
    if count > MAX_ENTRIES:
        raise EOFError
    said = {_text(file): _value(file, *struct.unpack("<I", _take(file, 4))) for _ in range(count)}
    return said, tensors


def _check_weights(file: BinaryIO, tensors: int, alignment: Any, size: int) -> None:
    """Raises: EOFError: the last tensor would begin behind the end of the file."""
    if tensors > MAX_ENTRIES:
        raise EOFError
    last = -1
    for _ in range(tensors):
        _text(file)
        (dimensions,) = struct.unpack("<I", _take(file, 4))
        if dimensions > _MAX_DIMENSIONS:
            raise EOFError
        *_, offset = struct.unpack(f"<{dimensions}QIQ", _take(file, 8 * dimensions + 12))
        last = max(last, offset)
    step = alignment if isinstance(alignment, int) and alignment > 0 else _ALIGNMENT_BYTES
    begin = -(-file.tell() // step) * step
    if tensors and begin + last >= size:
        raise EOFError


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return _text(file)
    if kind == _LIST:
        inner, count = struct.unpack("<IQ", _take(file, 12))
        if inner in _NUMBERS:
            size = struct.calcsize(_NUMBERS[inner])
            raw = _take(file, size * count)
            return [one for (one,) in struct.iter_unpack(_NUMBERS[inner], raw)]
        if inner != _TEXT:
            raise EOFError
        for _ in range(count):  # the words of a vocabulary: nobody wants them
            _text(file)
        return None
    if kind not in _NUMBERS:
        raise EOFError
    return struct.unpack(_NUMBERS[kind], _take(file, struct.calcsize(_NUMBERS[kind])))[0]


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", _take(file, 8))
    return _take(file, length).decode("utf-8", "replace")


def _take(file: BinaryIO, count: int) -> bytes:
    if count > MAX_TEXT_BYTES:
        raise EOFError
    taken = file.read(count)
    if len(taken) < count:
        raise EOFError
    return taken
