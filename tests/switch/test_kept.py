"""A mode in a file: whole, private, and never a reason not to start."""

import logging
import stat
from pathlib import Path

import pytest

from relay.switch import KeptMode


def test_a_mode_is_kept_and_taken_away(tmp_path: Path) -> None:
    kept = KeptMode(tmp_path / "state.json")
    assert kept.read() is None
    assert kept.write("local")
    assert KeptMode(tmp_path / "state.json").read() == "local"
    assert kept.write(None)
    assert kept.write(None)
    assert kept.read() is None
    assert list(tmp_path.iterdir()) == []


def test_only_the_owner_may_read_it_and_what_was_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("{}")
    path.chmod(0o644)
    with path.open() as before:
        assert KeptMode(path).write("remote")
        assert before.read() == "{}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_change_is_seen_once(tmp_path: Path) -> None:
    ours, theirs = KeptMode(tmp_path / "state.json"), KeptMode(tmp_path / "state.json")
    assert not ours.changed()
    for mode in ("local", "remote", None):
        theirs.write(mode)  # type: ignore[arg-type]  # the tuple has no narrower type
        assert ours.changed()
        assert not ours.changed()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"mode": "away"}', '{"mode": ["local"]}', "\x00"]
)
def test_a_broken_file_is_a_warning(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with caplog.at_level(logging.WARNING, "relay"):
        assert KeptMode(path).read() is None
    assert [record.message for record in caplog.records] == ["mode_unreadable"]


def test_a_file_that_cannot_be_read_or_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.json"
    path.mkdir()  # even root cannot read this as a file, or put a file into its place
    kept = KeptMode(path)
    with caplog.at_level(logging.WARNING, "relay"):
        assert kept.read() is None
        assert not kept.write("local")
        assert not kept.write(None)
    assert [record.message for record in caplog.records] == [
        "mode_unreadable",
        "mode_not_kept",
        "mode_not_kept",
    ]


def test_what_a_dead_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    import os

    path = tmp_path / "state.json"
    path.with_name(f"state.json.{os.getpid()}").write_text("half")
    assert KeptMode(path).write("local")
    assert [found.name for found in tmp_path.iterdir()] == ["state.json"]
