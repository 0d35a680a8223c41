"""Models on disk that have a name."""

import struct
from pathlib import Path

import pytest

from relay.local.shelf import NotAModel, Shelf, check_head, checksum

GGUF = b"GGUF" + struct.pack("<IQ", 3, 1) + b"weights"


def put(shelf: Shelf, name: str) -> None:
    part = shelf.begin(name)
    part.write_bytes(GGUF)
    shelf.keep(name, part, source=f"from/{name}", sha256="ab")


def test_what_is_put_there_is_found_listed_and_removed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "models")
    assert shelf.all() == []
    for name in ("b", "a.1-Q4_0"):
        put(shelf, name)
    assert [(one.name, one.source, one.sha256, one.size_bytes) for one in shelf.all()] == [
        ("a.1-Q4_0", "from/a.1-Q4_0", "ab", len(GGUF)),
        ("b", "from/b", "ab", len(GGUF)),
    ]
    assert shelf.find("b") == shelf.path_of("b") == tmp_path / "models" / "b.gguf"
    assert shelf.remove("b").name == "b"
    assert shelf.find("b") is None
    assert {path.name for path in shelf.folder.iterdir()} == {"a.1-Q4_0.json", "a.1-Q4_0.gguf"}


def test_who_has_no_home_has_no_models_there() -> None:
    assert Shelf(Path("~no-such-user/models")).all() == []


def test_a_file_that_is_there_goes_before_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shelf = Shelf(tmp_path / "models")
    put(shelf, "one")
    assert shelf.path_of("one") == shelf.find("one")
    (tmp_path / "one").write_bytes(GGUF)
    assert shelf.path_of("one") == Path("one")
    assert shelf.path_of("none") == Path("none")


def test_files_that_somebody_put_there_are_listed_too(tmp_path: Path) -> None:
    (tmp_path / "own.gguf").write_bytes(GGUF)
    (tmp_path / "own.json").write_text("[]")
    (tmp_path / "half.gguf.part").write_bytes(GGUF)
    [own] = Shelf(tmp_path).all()
    assert (own.name, own.source, own.sha256) == ("own", "", "")


def test_what_a_broken_off_download_has_left_can_be_removed(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    part = shelf.begin("half")
    part.write_bytes(GGUF[:5])
    part.with_name("half.gguf.part.json").write_text("{}")
    gone = shelf.remove("half")
    assert (gone.name, gone.size_bytes) == ("half", 5)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotAModel, match="no model 'half'"):
        shelf.remove("half")


@pytest.mark.parametrize("name", ["", "..", "a/b", "../a", ".hidden", "a b"])
def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    shelf = Shelf(tmp_path / "models")
    (tmp_path / "a.gguf").write_bytes(GGUF)
    assert shelf.find(name) is None
    with pytest.raises(NotAModel):
        shelf.begin(name)
    with pytest.raises(NotAModel):
        shelf.remove(name)
    with pytest.raises(NotAModel, match="there is no model"):
        shelf.remove(name)


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    put(Shelf(tmp_path), "one")
    with pytest.raises(NotAModel, match="there is a model 'one' already"):
        Shelf(tmp_path).begin("one")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "no GGUF"),
        (b"GGUF", "no GGUF"),
        (b"\n<!doctype html><html>....", "a web page"),
        (b"PK\x03\x04" + bytes(20), "no GGUF"),
        (b"GGUF" + struct.pack("<IQ", 1, 1), "version is 1"),
        (b"GGUF" + struct.pack("<IQ", 3, 0), "no weights"),
    ],
)
def test_what_is_no_model_is_told_by_its_first_bytes(head: bytes, said: str) -> None:
    with pytest.raises(NotAModel, match=said):
        check_head(head)
    check_head(GGUF)


def test_a_checksum_tells_its_progress(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    told: list[int] = []
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert checksum(path, told.append) == expected
    assert told == [3]
