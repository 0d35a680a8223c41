"""What the command says before any of its parts runs."""

import subprocess
import sys
import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest

from cli.program import Program, environment
from relay import __version__
from relay.cli import main

COMMANDS = ("serve", "check", "reload", "chat", "models", "mode", "keys", "teams", "db")


def test_help_names_every_command(relay: Program) -> None:
    shown = relay("--help")

    assert shown.returncode == 0
    for command in COMMANDS:
        assert f"\n  {command}" in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(relay: Program, command: str) -> None:
    shown = relay(command, "--help")

    assert shown.returncode == 0
    assert shown.stdout.startswith(f"Usage: relay {command}")


def test_the_version_is_the_packages(relay: Program) -> None:
    assert relay("--version").stdout == f"relay {__version__}\n"


def test_the_console_script_is_this_program() -> None:
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)

    assert resolve_name(project["project"]["scripts"]["relay"]) is main


def test_an_unknown_command_names_the_nearest(relay: Program) -> None:
    shown = relay("chek")

    assert shown.returncode == 2
    assert "check" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"pydantic", "rich", "fastapi", "starlette", "uvicorn", "httpx"}),
        # typer itself reads the arguments of a command with pydantic.
        (["serve", "--help"], {"rich", "fastapi", "starlette", "uvicorn", "httpx"}),
    ],
)
def test_help_loads_nothing_heavy(arguments: list[str], heavy: set[str]) -> None:
    program = f"""
import sys
from relay.cli import main
sys.argv = ["relay", *{arguments}]
try:
    main()
finally:
    print("loaded:", sorted({heavy} & set(sys.modules)))
"""
    shown = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert shown.stdout.splitlines()[-1] == "loaded: []"
