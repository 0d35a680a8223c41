"""The examples run as their README says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import RunningRelay

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(relay: RunningRelay, *command: str) -> str:
    done = subprocess.run(
        command,
        env=os.environ | {"OPENAI_BASE_URL": relay.url, "OPENAI_API_KEY": "none"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("target", ["echo", "remote"])
def test_curl(request: pytest.FixtureRequest, target: str) -> None:
    printed = run(request.getfixturevalue(target), "sh", str(EXAMPLES / "curl.sh"))
    assert '"object":"list"' in printed.replace(" ", "")
    assert "data: [DONE]" in printed
    assert '"param": "messages"' in printed


@pytest.mark.parametrize("target", ["echo", "remote"])
def test_the_openai_package(request: pytest.FixtureRequest, target: str) -> None:
    printed = run(
        request.getfixturevalue(target), sys.executable, str(EXAMPLES / "openai_client.py")
    )
    assert "# plain\nSay hello.\n" in printed
    assert "# streamed\nCount to five.\n" in printed
    assert "# tools\n" in printed


def test_every_example_is_in_the_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.name not in ("README.md", "__pycache__"):
            assert f"`{path.name}" in readme
