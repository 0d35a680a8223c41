"""docs/deploy.md: what it has one type is there, and what it has one write is taken."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from relay.cli import app
from relay.settings import Settings

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
CHART = ROOT / "deploy" / "helm" / "relay"


def test_its_values_make_objects_of_the_chart() -> None:
    helm: Any = pytest.importorskip("helm_python")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.M | re.S)
    with helm.Chart.load(CHART) as chart:
        files = chart.render(yaml.safe_load(block), name="relay", namespace="prod")
    found = [one for text in files.values() for one in yaml.safe_load_all(text) if one]
    deployment = next(one for one in found if isinstance(one, dict) and one["kind"] == "Deployment")
    # So that `kubectl exec deploy/relay` finds it.
    assert deployment["metadata"]["name"] == "relay"
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "relay-secrets"}}]
    names = {one["name"] for one in container["env"]}
    assert {"RELAY_UPSTREAM_URL", "RELAY_TRUSTED_PROXIES"} <= names


def test_its_settings_exist() -> None:
    named = set(re.findall(r"RELAY_([A-Z_]+[A-Z])", GUIDE)) - {"LISTEN", "CONFIG"}
    assert named
    assert {name.lower() for name in named} <= set(Settings.model_fields)
    example = (ROOT / "deploy" / "compose.env.example").read_text(encoding="utf-8")
    assert "RELAY_LISTEN=" in example


def test_its_files_and_commands_are_there() -> None:
    for path in re.findall(r"(?<![\w/.])deploy/[\w./-]+\w", GUIDE):
        assert path == "deploy/.env" or path == "deploy/relay" or (ROOT / path).exists(), path
    commands = get_command(app)
    for line in re.findall(r"(?:relay-1|--) relay ([a-z]+)", GUIDE):
        assert line in commands.commands  # type: ignore[attr-defined]
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    assert set(re.findall(r"exec (relay-\d|postgres)", GUIDE)) <= set(services)
