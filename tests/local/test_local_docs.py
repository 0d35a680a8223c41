"""docs/local.md: its code runs, its tables are true, its configuration is one."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from running import StartRelay

from relay.local.echo import EchoOptions
from relay.local.llama import LlamaOptions
from relay.settings import Settings, leaves, variable

TEXT = (Path(__file__).parents[2] / "docs" / "local.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def defined(name: str) -> Any:
    for block in blocks("python"):
        found: dict[str, Any] = {}
        exec(compile(block, "docs/local.md", "exec", dont_inherit=True), found)
        if name in found:
            return found[name]
    raise AssertionError(name)


def test_the_model_of_the_documentation_answers(start_relay: StartRelay) -> None:
    parrot = start_relay(local=defined("Parrot"), local_options={"prefix": "Heard:"})
    answer = parrot.ask("a b").json()
    assert answer["choices"][0]["message"]["content"] == "Heard: a b"


def test_the_backend_of_the_documentation_answers(start_relay: StartRelay) -> None:
    engine = start_relay(local=defined("Engine")())
    assert engine.ask().json() == {"choices": []}
    assert engine.ask(stream=True).text.endswith("data: [DONE]\n\n")
    assert "[DONE]" in engine.http.post("/v1/embeddings", json={"model": "m"}).text
    assert engine.http.post("/v1/completions", json={"model": "m"}).status_code == 404


def test_the_configurations_are_valid() -> None:
    several, echo, plugin = (tomllib.loads(block) for block in blocks("toml"))
    assert Settings.model_validate(several).local_map["gpt-4o"] == "coder"
    for model in several["local_models"]:
        LlamaOptions.model_validate(model["options"])
    options = EchoOptions.model_validate(echo["local_options"])
    assert options.model_fields_set == set(EchoOptions.model_fields)
    assert "relay.local" in plugin["project"]["entry-points"]


@pytest.mark.parametrize("name", LlamaOptions.model_fields)
def test_every_option_is_in_the_table_with_its_setting(name: str) -> None:
    [row] = re.findall(rf"^\| (.*?) \| `{name}` \|.*\| (.*?)$", TEXT, re.MULTILINE) or [("", "")]
    setting = f"local_{name}"
    if setting in leaves():
        assert row[0] == f"`{variable(setting)}`"
        default = LlamaOptions.model_fields[name].default
        assert row[1].strip(" |`") == (f"{default:g}" if name == "idle_s" else str(default))
    else:
        assert re.search(rf"^\| +\| `{name}` \|", TEXT, re.MULTILINE)
