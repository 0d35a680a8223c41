"""The image: what its linter says, and that it is made of what is locked."""

import re
import subprocess
import sys
from pathlib import Path

from relay.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TEXT = (DEPLOY / "Dockerfile").read_text()


def tool(name: str) -> str:
    """A program that came with a package."""
    return str(Path(sys.executable).parent / name)


def test_its_linter_finds_nothing() -> None:
    command = [tool("hadolint"), "--failure-threshold", "style", str(DEPLOY / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_package_is_a_wheel_whose_hash_is_locked() -> None:
    installs = re.findall(r"pip(?: --python \S+)? install (.*?)(?: *&&|\n[A-Z]|$)", TEXT, re.DOTALL)
    assert len(installs) == 3
    for install in installs:
        locked = "--require-hashes" in install and "--only-binary :all:" in install
        assert locked or "--no-index /wheels/" in install, install
        assert "--no-deps" in install
    for name in re.findall(r"-r (\S+)", TEXT):
        assert (ROOT / name).exists()


def test_it_runs_as_nobody_special_and_writes_only_where_it_may() -> None:
    assert "\nUSER 10001:10001\n" in TEXT
    assert TEXT.index("\nUSER ") > TEXT.rindex("\nRUN ")
    assert "\nWORKDIR /data\nVOLUME /data\n" in TEXT
    assert "PYTHONDONTWRITEBYTECODE=1" in TEXT
    for name in ("state_file", "budget_journal", "database_url"):
        default = str(Settings.model_fields[name].default)
        assert not default.removeprefix("sqlite:///").startswith("/"), "in the working directory"


def test_nothing_reaches_it_that_it_is_not_made_of() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", TEXT, re.MULTILINE)
    assert kept == {name for line in copied for name in line.split()}
