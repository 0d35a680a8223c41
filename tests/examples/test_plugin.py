"""The example of a plug-in: built and installed as a package, found, configured, tested, served."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin"

ASK = """
import asyncio, json, sys
from relay.local import open_locals
from relay.settings import load_settings
from relay.types import Call

async def main():
    backend = open_locals(load_settings())
    messages = [{"role": "user", "content": "When are your hours?"}]
    payload = {"model": "m", "messages": messages}
    call = Call(path="chat/completions", payload=payload)
    answer = json.loads((await backend.complete(call)).body)
    print(answer["choices"][0]["message"]["content"], answer["usage"]["completion_tokens"])

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the example in it, put there by its wheel."""
    dist, target = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("target")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)]
    built = subprocess.run(command, cwd=PLUGIN, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    [wheel] = dist.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "answers.txt").write_text("hours => Nine to five.\n")
    (tmp_path / "relay.toml").write_text(
        'local = "canned"\n[local_options]\nanswers = "answers.txt"\n'
    )
    return tmp_path


def run(installed: Path, here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RELAY_", "OPENAI_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=here,
        env=kept | {"PYTHONPATH": f"{installed}{os.pathsep}{ROOT}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_answers_from_its_file_under_its_entry_point(installed: Path, here: Path) -> None:
    done = run(installed, here, "-c", ASK)
    assert (done.stdout, done.stderr) == ("Nine to five. 3\n", "")


def test_the_check_lists_it(installed: Path, here: Path) -> None:
    done = run(installed, here, "-m", "relay", "check")
    assert done.returncode == 0, done.stdout
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "plug-in canned ok installed; RELAY_LOCAL=canned takes it" in lines
    assert "local canned ok canned; not loaded" in lines


def test_a_wrong_option_is_one_sentence(installed: Path, here: Path) -> None:
    (here / "relay.toml").write_text('local = "canned"\n[local_options]\nanswer = "a.txt"\n')
    done = run(installed, here, "-m", "relay", "serve")
    assert done.returncode == 2
    assert done.stderr.endswith(
        "RELAY_LOCAL: there is no option 'answer'; did you mean answers?\n"
    ), done.stderr


def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    done = run(
        installed, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PLUGIN / "tests")
    )
    assert done.returncode == 0, done.stdout
