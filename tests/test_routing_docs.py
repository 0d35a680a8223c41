"""docs/routing.md and the README: their configurations load, their tables say what is so."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from relay.settings import (
    BreakerSettings,
    ModelSettings,
    OfflineSettings,
    Settings,
    TargetSettings,
    Timeouts,
    UpstreamSettings,
    load_settings,
)

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "routing.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

BLOCKS = [
    pytest.param(text, id=f"{name} {number}")
    for name, page in (("routing.md", GUIDE), ("README.md", README))
    for number, text in enumerate(re.findall(r"^```toml\n(.*?)^```", page, re.M | re.S), start=1)
]
TABLES = {
    "`[[models]]`": ModelSettings,
    "A target": TargetSettings,
    "`[[upstreams]]`": UpstreamSettings,
    "`timeouts`": Timeouts,
    "`breaker`": BreakerSettings,
    "`[offline]`": OfflineSettings,
}
ELSEWHERE = "see below"
"""What stands in place of a default that is a table of its own."""


def rows(heading: str) -> dict[str, str]:
    """The names of the table below a heading, with their defaults."""
    [section] = re.findall(rf"^### {re.escape(heading)}\n(.*?)(?=^##|\Z)", GUIDE, re.M | re.S)
    return dict(re.findall(r"^\| `(\w+)` \| `?(.*?)`? \|", section, re.M))


def defaults(settings: type[BaseModel]) -> dict[str, str]:
    """The same from the settings themselves."""
    return {
        name: "required"
        if field.is_required()
        else as_text(field.get_default(call_default_factory=True))
        for name, field in settings.model_fields.items()
    }


def as_text(value: object) -> str:
    if isinstance(value, BaseModel):
        return ELSEWHERE if value.model_dump(exclude_none=True) else "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value or value == 0 else "none"


def anchor(heading: str) -> str:
    """The address of a heading within its page, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("block", BLOCKS)
def test_every_configuration_loads(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "relay.toml").write_text(block)
    for name in re.findall(r'"env:(\w+)"', block):
        monkeypatch.setenv(name, "sk-from-the-environment")

    settings = load_settings(directory=tmp_path)

    assert settings.all_upstreams()
    assert all(upstream.api_keys for upstream in settings.all_upstreams())


def test_there_are_five_recipes_and_each_has_its_configuration() -> None:
    recipes = GUIDE.partition("## Recipes")[2].split("\n### ")[1:]
    assert len(recipes) == 5
    assert [recipe.count("```toml") for recipe in recipes] == [1] * 5


@pytest.mark.parametrize("heading", TABLES)
def test_every_setting_is_told_with_its_default(heading: str) -> None:
    assert rows(heading) == defaults(TABLES[heading])


def test_what_stands_at_the_top_of_the_file_is_told_with_its_default() -> None:
    told = rows("At the top")
    assert told
    assert told == {name: defaults(Settings)[name] for name in told}


def test_the_time_limits_are_told_with_their_defaults() -> None:
    told = re.findall(r"^\| `(\w+)` \| [^|]* \| (\d+) s \|", GUIDE, re.M)
    assert dict(told) == defaults(Timeouts)


def test_every_link_within_the_page_leads_somewhere() -> None:
    headings = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", GUIDE, re.M)}
    links = re.findall(r"\]\(#(.*?)\)", GUIDE)
    assert links
    assert set(links) <= headings
    assert "(docs/routing.md)" in README
