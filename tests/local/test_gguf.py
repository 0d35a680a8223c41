"""The head of a GGUF file, byte by byte, and every way in which it can be none."""

import struct
from pathlib import Path
from typing import Any

import pytest

from relay.local.gguf import CACHE_BYTES, GgufHead, NotGguf, read_head
from relay.local.opening import find_smollm2

TEXT, LIST, U32, F32 = 8, 9, 4, 6


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def entry(name: str, kind: int, value: Any) -> bytes:
    return text(name) + struct.pack("<I", kind) + packed(kind, value)


def packed(kind: int, value: Any) -> bytes:
    if kind == TEXT:
        return text(value)
    if kind == LIST:
        inner, items = value
        head = struct.pack("<IQ", inner, len(items))
        return head + b"".join(packed(inner, item) for item in items)
    return struct.pack({U32: "<I", F32: "<f"}[kind], value)


def head(*entries: bytes, version: int = 3, tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, len(entries)) + b"".join(entries)


def tensor(name: str, *sizes: int, offset: int) -> bytes:
    counted = struct.pack("<I", len(sizes))
    return text(name) + counted + struct.pack(f"<{len(sizes)}QIQ", *sizes, 0, offset)


ARCHITECTURE = entry("general.architecture", TEXT, "llama")
WHOLE = head(
    ARCHITECTURE,
    entry("tokenizer.ggml.tokens", LIST, (TEXT, ["a", "bc"])),
    entry("tokenizer.ggml.scores", LIST, (F32, [0.5, 1.5])),
    entry("llama.context_length", U32, 8192),
    entry("llama.block_count", U32, 30),
    entry("llama.embedding_length", U32, 576),
    entry("llama.attention.head_count", U32, 9),
    entry("llama.attention.head_count_kv", LIST, (U32, [2, 3])),
)


def read(tmp_path: Path, content: bytes) -> GgufHead:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    return read_head(path)


def test_a_file_tells_its_context_and_what_each_token_takes(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    assert found == GgufHead(
        "llama", len(WHOLE), trained_tokens=8192, layers=30, values_per_token=3 * (64 + 64)
    )
    assert found.needed_bytes(10) == len(WHOLE) + 30 * 384 * 10 * CACHE_BYTES


def test_a_file_for_embeddings_says_how_they_are_made(tmp_path: Path) -> None:
    pooled = entry("llama.pooling_type", U32, 1)
    assert read(tmp_path, head(ARCHITECTURE, pooled)).pooled
    assert not read(tmp_path, head(ARCHITECTURE)).pooled


def test_the_small_models_file_is_read() -> None:
    path = find_smollm2()
    assert path is not None
    found = read_head(path)
    assert (found.architecture, found.trained_tokens, found.layers) == ("llama", 8192, 30)


def test_a_file_that_ends_anywhere_too_early_is_damaged(tmp_path: Path) -> None:
    for end in range(len(WHOLE)):
        with pytest.raises(NotGguf):
            read(tmp_path, WHOLE[:end])


@pytest.mark.parametrize("step", [32, 64])
def test_weights_that_were_not_copied_are_missed(tmp_path: Path, step: int) -> None:
    said = [ARCHITECTURE, entry("general.alignment", U32, step)]
    names = head(*said, tensors=2) + tensor("a", 8, offset=0) + tensor("b", 2, 4, offset=step)
    until_last = names + bytes(-len(names) % step + step)
    assert read(tmp_path, until_last + bytes(1)).architecture == "llama"
    for content in (until_last, names, names[:-1]):
        with pytest.raises(NotGguf, match="not copied to its end"):
            read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "damaged"),
        (b"no model at all", "no GGUF file"),
        (head(version=1), "version is 1"),
        (head(entry("x", U32, 1)), "which kind of model"),
        (head(text("x") + struct.pack("<I", 77)), "damaged"),
        (head(text("x") + struct.pack("<IIQ", LIST, LIST, 1)), "damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "damaged"),
        (head(struct.pack("<Q", 2**60)), "damaged"),
        (head(ARCHITECTURE, tensors=2**40), "damaged"),
        (head(ARCHITECTURE, tensors=1) + tensor("a", *[1] * 5, offset=0), "damaged"),
    ],
)
def test_what_is_no_model_says_in_what_way(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(NotGguf, match=said):
        read(tmp_path, content)
