"""The compose file: its schema, its style, and that what it says is true of the relay."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.serving import SHUTDOWN_MARGIN_S
from relay.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
FILE = DEPLOY / "compose.yaml"
STYLE = "{extends: default, rules: {line-length: disable, document-start: disable}}"
SERVICES: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]


@pytest.mark.parametrize(
    "command",
    [
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec"],
        ["yamllint", "--strict", "-d", STYLE],
    ],
    ids=lambda command: str(command[0]),
)
def test_its_linters_find_nothing(command: list[str]) -> None:
    program = str(Path(sys.executable).parent / command[0])
    done = subprocess.run(
        [program, *command[1:], str(FILE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_relays_share_a_database_and_counters_and_nginx_knows_both() -> None:
    assert set(SERVICES) == {"relay-1", "relay-2", "nginx", "postgres", "redis"}
    assert SERVICES["relay-1"] == SERVICES["relay-2"]
    told = SERVICES["relay-1"]["environment"]
    assert {"RELAY_DATABASE_URL", "RELAY_REDIS_URL", "RELAY_TOKEN_SECRET"} <= set(told)
    front = (DEPLOY / "nginx" / "nginx.conf").read_text()
    assert re.findall(r"server (relay-\d):8000", front) == ["relay-1", "relay-2"]
    assert set(SERVICES["nginx"]["depends_on"]) == {"relay-1", "relay-2"}


def test_what_it_sets_are_settings_and_what_it_asks_for_is_in_the_example() -> None:
    for name in SERVICES["relay-1"]["environment"]:
        assert name.removeprefix("RELAY_").lower() in Settings.model_fields, name
    asked = set(re.findall(r"\$\{([A-Z_]+)", FILE.read_text()))
    example = (DEPLOY / "compose.env.example").read_text()
    assert asked == set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))


def test_a_relay_that_stops_is_waited_for() -> None:
    relay = SERVICES["relay-1"]
    grace_s = float(relay["environment"]["RELAY_SHUTDOWN_GRACE_S"])
    assert float(relay["stop_grace_period"].removesuffix("s")) >= grace_s + SHUTDOWN_MARGIN_S + 5


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_has_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert name.startswith("relay") or service["user"]
    assert "healthcheck" in service or name.startswith("relay")  # theirs is in the image
    assert ("ports" in service) is (name == "nginx")
