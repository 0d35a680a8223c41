"""Where settings come from, in which order, and how a wrong one is reported.

    OPENAI_* < relay.toml (or RELAY_CONFIG / --config) < .env < environment < flags

Each source is read into the shape of `relay.toml`; an empty text in it counts as not given. Then
they are laid over each other and checked once, so that one message tells of every fault, each
under the name that its source has for it.
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic import BaseModel, ValidationError

from relay.schema import field_path
from relay.settings.keys import (
    ClaimPolicySettings,
    ClaimSettings,
    IssuerSettings,
    KeySettings,
    TeamSettings,
)
from relay.settings.local import LocalModelSettings
from relay.settings.model import Settings
from relay.settings.names import PREFIX, TABLES, leaves, variable
from relay.settings.nearest import did_you_mean
from relay.settings.prices import PriceSettings
from relay.settings.routes import ModelSettings, OfflineSettings, TargetSettings
from relay.settings.upstream import BreakerSettings, SomeTimeouts, Timeouts, UpstreamSettings
from relay.settings.values import VARIABLES

CONFIG_VARIABLE = "RELAY_CONFIG"
DEFAULT_CONFIG = "relay.toml"
DOTENV = ".env"

OPENAI_NAMES = {"upstream_url": "OPENAI_BASE_URL", "upstream_api_key": "OPENAI_API_KEY"}
"""The variables of the `openai` package that say the same as ours."""


class SettingsError(Exception):
    """Settings are wrong. The text has a line for each: its name, what is wrong, what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """What one place says: values in the shape of `relay.toml`, and how it names a path."""

    values: dict[str, Any]
    name: Callable[[str], str]


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    config: str | None = None,
    directory: Path | None = None,
) -> Settings:
    """Gather the settings from every source and check them.

    `flags` have the shape of `relay.toml`, `config` is the path of a TOML file, `directory` is
    where `.env` and `relay.toml` are looked for (default: the working directory).

    Raises:
        SettingsError: settings are unknown or wrong, or a file cannot be read.
    """
    directory = directory or Path.cwd()
    dotenv, environment = _read_dotenv(directory / DOTENV), dict(os.environ)
    variables = dotenv | {name: value for name, value in environment.items() if value}
    sources = [
        _toml(directory, config or variables.get(CONFIG_VARIABLE)),
        _variables(dotenv, f" in {DOTENV}"),
        _variables(environment),
        Source(_given(flags or {}), _flag),
    ]
    if not any("upstreams" in source.values for source in sources):
        sources.insert(0, _openai(variables))
    faults = _unknown(dotenv, f" in {DOTENV}") + _unknown(environment)
    merged: dict[str, Any] = {}
    for source in sources:
        merged = _merge(merged, source.values)
    try:
        settings = Settings.model_validate(merged, context={VARIABLES: variables})
    except ValidationError as exc:
        faults += _explain(exc, sources)
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def settings_files(
    config: str | None = None, *, directory: Path | None = None
) -> tuple[Path, Path]:
    """The two files that `load_settings` reads, whether they are there or not.

    Raises:
        SettingsError: `.env`, which may name the other, cannot be read.
    """
    directory = directory or Path.cwd()
    dotenv = directory / DOTENV
    variables = _read_dotenv(dotenv) | {name: value for name, value in os.environ.items() if value}
    return _config_path(directory, config or variables.get(CONFIG_VARIABLE)), dotenv


def _config_path(directory: Path, given: str | None) -> Path:
    return directory / Path(given or DEFAULT_CONFIG).expanduser()


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise SettingsError(f"cannot read {path}: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"cannot read {path}: it is not UTF-8 text") from None
    found = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            # Blank lines count as the beginning of the line that follows them.
            blank = binding.original.string.partition(binding.original.string.strip())[0]
            line = binding.original.line + blank.count("\n")
            raise SettingsError(f"{path}, line {line}: write NAME=value")
        if binding.key is not None:
            found[binding.key] = binding.value or ""
    return found


def _toml(directory: Path, given: str | None) -> Source:
    path = _config_path(directory, given)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        if given is None and isinstance(exc, FileNotFoundError):
            values = {}
        else:
            raise SettingsError(f"cannot read the configuration {path}: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} is not valid TOML: {exc}") from None
    return Source(_given(values), lambda name: f"'{name}' in {path.name}")


def _variables(variables: Mapping[str, str], where: str = "") -> Source:
    found = {name.upper(): value for name, value in variables.items()}
    values: dict[str, Any] = {}
    for path in leaves():
        value: Any = found.get(variable(path), "").strip()
        if not value:
            continue
        if path in TABLES:
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                raise SettingsError(f"{variable(path)}{where}: it is not valid JSON") from None
        table, _, field = path.rpartition(".")
        (values.setdefault(table, {}) if table else values)[field] = value
    return Source(_given(values), lambda path: _variable_of(path) + where)


def _openai(variables: Mapping[str, str]) -> Source:
    values = {field: variables[name] for field, name in OPENAI_NAMES.items() if variables.get(name)}
    return Source(values, lambda path: OPENAI_NAMES[path])


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without the empty ones: `RELAY_LOCAL=` is how one says "not set"."""
    return {
        name: _given(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if value not in ("", None)
    }


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merge(merged[name], value)
        else:
            merged[name] = value
    return merged


def _unknown(variables: Mapping[str, str], where: str = "") -> list[str]:
    known = {variable(path) for path in leaves()} | {CONFIG_VARIABLE}
    return [
        f"{name}{where}: there is no such setting{did_you_mean(name.upper(), known, PREFIX)}"
        for name in variables
        if name.upper().startswith(PREFIX) and name.upper() not in known
    ]


_SECTIONS: dict[str, type[BaseModel]] = {
    "timeouts": Timeouts,
    "longest_timeouts": SomeTimeouts,
    "offline": OfflineSettings,
    "breaker": BreakerSettings,
    "fallback": TargetSettings,
    "context_fallback": TargetSettings,
    "upstreams": UpstreamSettings,
    "models": ModelSettings,
    "local_models": LocalModelSettings,
    "targets": TargetSettings,
    "prices": PriceSettings,
    "keys": KeySettings,
    "teams": TeamSettings,
    "issuers": IssuerSettings,
    "claims": ClaimSettings,
    "policies": ClaimPolicySettings,
}

_PLAIN = {
    "tuple_type": "a list is expected",
    "dict_type": "a table is expected",
    "model_type": "a table is expected",
    "model_attributes_type": "a table is expected",
}
"""Faults that pydantic would tell of in Python's words."""


def _explain(exc: ValidationError, sources: Sequence[Source]) -> list[str]:
    """A line for each fault. pydantic's own text would show the values, and so the secrets."""
    lines = []
    for fault in exc.errors(include_url=False, include_input=False):
        loc, kind = fault["loc"], fault["type"]
        message = fault["msg"].removeprefix("Value error, ")
        if not loc:
            lines += message.split("\n")
            continue
        if kind == "extra_forbidden":
            message = f"there is no such setting{did_you_mean(str(loc[-1]), _siblings(loc))}"
        elif kind in _PLAIN:
            hint = f": write {_heading(str(loc[0]))}" if loc in {(t,) for t in TABLES} else ""
            message = _PLAIN[kind] + hint
        lines.append(f"{_name(loc, sources)}: {message[0].lower()}{message[1:]}")
    return lines


def _heading(table: str) -> str:
    return f"[{table}]" if leaves()[table].default_factory is dict else f"[[{table}]]"


def _name(loc: tuple[int | str, ...], sources: Sequence[Source]) -> str:
    says = (source.name for source in reversed(sources) if _says(source.values, loc))
    return next(says, _variable_of)(field_path(loc))


def _says(values: object, loc: tuple[int | str, ...]) -> bool:
    """Whether a source is the one that gave what stands at that place."""
    for step in loc:
        if not isinstance(values, Mapping):
            return True  # a list comes from one source as a whole
        if step not in values:
            return False
        values = values[str(step)]
    return True


def _siblings(loc: tuple[int | str, ...]) -> list[str]:
    sections = [_SECTIONS[step] for step in loc[:-1] if step in _SECTIONS]
    return list((sections[-1] if sections else Settings).model_fields)


def _variable_of(path: str) -> str:
    if path in leaves():
        return variable(path)
    top = re.split(r"[.\[]", path, maxsplit=1)[0]
    return variable(top) + path[len(top) :]


def _flag(path: str) -> str:
    return "--" + path.replace(".", "-").replace("_", "-")
