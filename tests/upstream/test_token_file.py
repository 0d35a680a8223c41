"""A token in a file is read as the file changes."""

from pathlib import Path

import pytest
from upstream.clock import Clock

from relay.errors import UpstreamAuth
from relay.upstream.token_file import FileToken


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("one\n")
    return file


@pytest.fixture
def tokens(file: Path, clock: Clock) -> FileToken:
    return FileToken("u", file, now=clock)


def sent(tokens: FileToken) -> bytes:
    key = tokens.take()
    assert key is not None
    assert key.header is not None
    return key.header[1]


def rewrite(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def test_a_change_is_seen_within_a_second(tokens: FileToken, file: Path, clock: Clock):
    assert sent(tokens) == b"Bearer one"
    rewrite(file, "two")
    clock.time += 0.9
    assert sent(tokens) == b"Bearer one"
    clock.time += 0.2
    assert sent(tokens) == b"Bearer two"


def test_the_same_token_written_again_is_the_same_key(tokens: FileToken, file: Path, clock: Clock):
    key = tokens.take()
    rewrite(file, "one")
    clock.time += 2
    assert tokens.take() is key


def test_while_the_file_is_gone_or_empty_the_last_token_is_used(
    tokens: FileToken, file: Path, clock: Clock
):
    key = tokens.take()
    assert key is not None
    for change in (lambda: rewrite(file, ""), file.unlink):
        change()
        clock.time += 2
        assert tokens.take() is key
        assert not tokens.refused(key, 401, ())
    rewrite(file, "two")
    assert tokens.refused(key, 401, ())
    assert sent(tokens) == b"Bearer two"


def test_only_a_refusal_has_the_file_read_at_once(tokens: FileToken, file: Path):
    key = tokens.take()
    assert key is not None
    rewrite(file, "two")
    tokens.accepted(key)
    assert not tokens.refused(key, 429, ())
    assert tokens.take() is key


@pytest.mark.parametrize("text", ["", "two words", "caf\xe9", "one\ntwo", "a\x00b"])
async def test_what_is_no_token_is_not_sent_and_not_shown(tokens: FileToken, file: Path, text: str):
    file.write_text(text, encoding="latin-1")
    assert tokens.take() is None
    with pytest.raises(UpstreamAuth, match="token_file holds no token") as caught:
        await tokens.fetch()
    assert caught.value.__cause__ is None
    assert tokens.states() == []


async def test_a_file_that_is_gone_is_named_as_the_reason(tokens: FileToken, file: Path):
    file.unlink()
    assert tokens.take() is None
    with pytest.raises(UpstreamAuth, match=r"cannot be read \(No such file"):
        await tokens.fetch()


async def test_a_token_that_comes_late_is_fetched(tokens: FileToken, file: Path):
    file.unlink()
    assert tokens.take() is None
    rewrite(file, "late")
    key = await tokens.fetch()
    assert key is tokens.take()
    [row] = tokens.states()
    assert row["key"] == key.which
    assert "late" not in key.which
    await tokens.aclose()
