"""The flags are a copy of the settings; these tests keep it one."""

from typing import Any

import pytest

from cli.program import Program
from relay.cli.flags import FLAGS, option, settings_flags
from relay.settings import leaves

TABLES = {"upstreams", "models", "prices", "keys", "teams", "issuers"}  # in relay.toml only
TABLES |= {"local_models", "local_map", "local_options"}
ALL = {flag.path: flag for flags in FLAGS.values() for flag in flags}
SETTINGS = {path: info for path, info in leaves().items() if path not in TABLES}


def as_typed(default: Any) -> str:
    if default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_every_setting_is_a_flag_and_every_flag_a_setting() -> None:
    assert set(ALL) == set(SETTINGS)


@pytest.mark.parametrize("path", sorted(SETTINGS))
def test_a_flag_says_what_its_setting_says(path: str) -> None:
    info = SETTINGS[path]

    assert ALL[path].help == info.description
    assert ALL[path].default == as_typed(info.get_default(call_default_factory=True))


@pytest.mark.parametrize("command", ["serve", "check"])
def test_the_help_shows_every_flag_under_its_heading(relay: Program, command: str) -> None:
    shown = relay(command, "--help").stdout

    sections = shown.split("\n\n")
    for heading, flags in FLAGS.items():
        (section,) = (text for text in sections if text.startswith(f"{heading}:"))
        for flag in flags:
            assert f"  {option(flag.path)} " in section


def test_given_flags_have_the_shape_of_the_configuration_file() -> None:
    received: list[Any] = []
    command = settings_flags(lambda flags, config: received.extend([flags, config]))

    command(config="my.toml", port="9", retries=None, timeouts__idle_s="3", allow_anonymous=False)

    assert received == [
        {"port": "9", "timeouts": {"idle_s": "3"}, "allow_anonymous": False},
        "my.toml",
    ]


def test_an_unknown_flag_names_the_nearest(relay: Program) -> None:
    shown = relay("serve", "--upstream-ur", "http://127.0.0.1:1/v1")

    assert shown.returncode == 2
    assert "--upstream-url" in shown.stderr
