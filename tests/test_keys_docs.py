"""docs/keys.md: its configurations load, its tables name what there is."""

import re
from pathlib import Path

import pytest

from relay.app import Relay
from relay.settings import env_example, load_settings
from relay.web.admin_keys import NewKey

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")


def test_its_configurations_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", GUIDE, re.M | re.S)
    assert len(blocks) == 2
    for block in blocks:
        (tmp_path / "relay.toml").write_text(block, encoding="utf-8")
        settings = load_settings(directory=tmp_path)
        assert settings.has_keys
        Relay(settings.model_copy(update={"local": "echo", "database_url": "none"}))


def test_its_table_has_every_field_of_a_key() -> None:
    table = GUIDE.partition("| field | meaning")[2].partition("\n\n")[0]
    named = {
        name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert named == set(NewKey.model_fields) - {"name"}


def test_its_settings_exist() -> None:
    named = set(re.findall(r"RELAY_[A-Z_]+[A-Z]", GUIDE))
    assert named
    assert all(f"#{name}=" in env_example() for name in named)


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md"])
def test_it_is_found(page: str) -> None:
    assert "docs/keys.md" in (ROOT / page).read_text(encoding="utf-8")
