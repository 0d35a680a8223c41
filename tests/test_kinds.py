"""The end of a run: how many tests of each kind, and no skips in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

QUICK = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
PASSING = "def test_it(): pass\n"
SKIPPING = "import pytest\n@pytest.mark.skip\ndef test_it(): pass\n"
SKIPPED_FILE = "import pytest\npytest.skip('not here', allow_module_level=True)\n"


@pytest.fixture
def run(tmp_path: Path):
    """Runs pytest on the files given by path and text; returns its exit status and its output."""

    def run_pytest(files: dict[str, str], **variables: str) -> tuple[int, str]:
        for name, text in files.items():
            path = tmp_path / "tests" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
        environment = {name: value for name, value in os.environ.items() if name != "CI"}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "kinds", "-p", "no:cacheprovider", "tests"],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(HERE), **QUICK, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    return run_pytest


def test_the_kind_of_a_test_is_its_folder(run):
    names = ("test_a.py", "web/test_b.py", "conformance/test_c.py", "e2e/test_d.py")
    status, output = run(dict.fromkeys((*names, "browser/test_e.py"), PASSING))
    assert status == 0
    assert "tests that ran: unit 2, conformance 1, e2e 1, browser 1; skipped: 0" in output


@pytest.mark.parametrize("text", [SKIPPING, SKIPPED_FILE])
def test_a_skipped_test_fails_the_run_in_ci_and_is_named(run, text):
    files = {"test_a.py": PASSING, "e2e/test_b.py": text}
    status, output = run(files, CI="true")
    assert status == 1
    assert "these were: tests/e2e/test_b.py" in output


def test_a_skipped_test_is_only_counted_elsewhere(run):
    status, output = run({"test_a.py": PASSING, "test_b.py": SKIPPING}, CI="")
    assert status == 0
    assert "unit 1, conformance 0, e2e 0, browser 0; skipped: 1" in output


def test_an_expected_failure_is_a_test_that_ran(run):
    text = "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False\n"
    status, output = run({"test_a.py": text}, CI="true")
    assert status == 0
    assert "unit 1, conformance 0, e2e 0, browser 0; skipped: 0" in output
