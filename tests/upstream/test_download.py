"""Large files: whole, broken off and gone on with, changed meanwhile, refused."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from file_server import FileServer

from relay.upstream.download import ATTEMPTS, Download, DownloadFailed

CONTENT = os.urandom(3_000_000)


class Told(NamedTuple):
    done: int
    total: int


class NotThat(Exception):
    pass


def refuse(head: bytes) -> None:
    raise NotThat(len(head))


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(CONTENT).running() as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.part"


def fetch(url: str, path: Path, *, check: object = None) -> list[Told]:
    told: list[Told] = []
    Download(
        url,
        path,
        on_progress=lambda done, total: told.append(Told(done, total)),
        check=check or (lambda head: None),  # type: ignore[arg-type]  # a function, if any
        pause_s=0,
    ).run()
    return told


def only(path: Path) -> bool:
    """Whether nothing but the file is left in its folder."""
    return list(path.parent.iterdir()) == [path]


def test_a_file_comes_whole_and_the_progress_is_told(server: FileServer, path: Path) -> None:
    told = fetch(server.url, path)
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [one.done for one in told] == sorted({one.done for one in told})
    assert only(path)
    assert server.asked[0]["accept-encoding"] == "identity"


def test_break_offs_are_gone_on_with_where_they_were(server: FileServer, path: Path) -> None:
    server.breaks = [1_000_000, 1_000_000]
    told = fetch(server.url, path)
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    ranges = [asked.get("range") for asked in server.asked]
    assert ranges == [None, "bytes=1000000-", "bytes=2000000-"]
    assert {asked.get("if-range") for asked in server.asked[1:]} == {'"one"'}


def test_who_gives_up_may_go_on_later(server: FileServer, path: Path) -> None:
    server.breaks = [1_000_000, *[0] * ATTEMPTS]
    with pytest.raises(DownloadFailed, match="keeps breaking off"):
        fetch(server.url, path)
    assert path.stat().st_size == 1_000_000
    fetch(server.url, path)
    assert server.asked[-1]["range"] == "bytes=1000000-"
    assert path.read_bytes() == CONTENT
    assert only(path)


@pytest.mark.parametrize("change", ["etag", "ranges"])
def test_a_file_that_has_changed_or_comes_whole_only_begins_anew(
    server: FileServer, path: Path, change: str
) -> None:
    server.breaks = [1_000_000, *[0] * ATTEMPTS]
    with pytest.raises(DownloadFailed):
        fetch(server.url, path)
    server.content = CONTENT[::-1]
    if change == "etag":
        server.etag = '"two"'
    else:
        server.ranges = False
    fetch(server.url, path)
    assert path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    ("etag", "last_modified", "resumed"),
    [
        ('W/"one"', None, False),
        (None, None, False),
        ('W/"one"', "Wed, 21 Oct 2026 07:28:00 GMT", True),
    ],
)
def test_only_what_is_surely_the_same_is_gone_on_with(
    server: FileServer, path: Path, etag: str | None, last_modified: str | None, resumed: bool
) -> None:
    server.etag, server.last_modified, server.breaks = etag, last_modified, [1_000_000]
    fetch(server.url, path)
    assert path.read_bytes() == CONTENT
    assert ("range" in server.asked[1]) is resumed


def test_one_that_was_whole_already_is_seen(server: FileServer, path: Path) -> None:
    server.breaks = [1_000_000, *[0] * ATTEMPTS]
    with pytest.raises(DownloadFailed):
        fetch(server.url, path)
    path.write_bytes(CONTENT)  # as if the program had been killed at the very end
    assert fetch(server.url, path) == []
    assert path.read_bytes() == CONTENT


def test_one_that_is_too_long_begins_anew(server: FileServer, path: Path) -> None:
    server.breaks = [1_000_000, *[0] * ATTEMPTS]
    with pytest.raises(DownloadFailed):
        fetch(server.url, path)
    path.write_bytes(CONTENT + b"more")
    fetch(server.url, path)
    assert path.read_bytes() == CONTENT


def test_another_url_begins_anew(server: FileServer, path: Path) -> None:
    server.breaks = [1_000_000, *[0] * ATTEMPTS]
    with pytest.raises(DownloadFailed):
        fetch(server.url, path)
    fetch(server.url.replace("/models/", "/others/"), path)
    assert "range" not in server.asked[-1]


def test_a_length_need_not_be_told(server: FileServer, path: Path) -> None:
    server.lengths = False
    told = fetch(server.url, path)
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), 0)


def test_redirects_are_followed(server: FileServer, path: Path) -> None:
    fetch(server.url.replace("/models/", "/elsewhere/"), path)
    assert path.read_bytes() == CONTENT


def test_the_beginning_is_judged_before_the_rest_is_fetched(server: FileServer, path: Path) -> None:
    with pytest.raises(NotThat):
        fetch(server.url, path, check=refuse)
    assert path.stat().st_size < len(CONTENT)
    server.content = b"short"
    with pytest.raises(NotThat, match="5"):
        fetch(server.url, path.with_name("other.part"), check=refuse)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_names_the_address_without_its_secrets(
    server: FileServer, path: Path, status: int
) -> None:
    server.status = status
    url = server.url.replace("http://", "http://user:canary@") + "?token=canary"
    with pytest.raises(DownloadFailed, match=rf"/models/tiny\.gguf answers {status}") as failed:
        fetch(url, path)
    assert "canary" not in str(failed.value)
    assert not path.exists()


def test_nobody_there_is_a_failure(path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"cannot be reached \(ConnectError\)"):
        fetch("http://127.0.0.1:1/x.gguf", path)


@pytest.mark.parametrize("url", ["http://[::1/x.gguf", "ftp://127.0.0.1/x.gguf"])
def test_an_address_that_is_none_is_a_failure(path: Path, url: str) -> None:
    with pytest.raises(DownloadFailed, match="that URL cannot be fetched"):
        fetch(url, path)


def test_too_little_room_is_said_before_anything_is_written(
    server: FileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(path.parent)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=2_000_000))
    with pytest.raises(DownloadFailed, match="has 2 MB left, and the file needs 3 MB more"):
        fetch(server.url, path)
    assert not path.exists()
