"""Finds what users bring: by the name of an entry point, or as `package.module:attribute`."""

import importlib
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path


class PluginMissing(Exception):
    """There is nothing of that name, or it could not be loaded; the text says why."""


def find_plugin(group: str, name: str, *, known: Iterable[str] = ()) -> object:
    """What that entry point of the group gives, or what stands at that place of a module.

    `known` are names that are no entry points, for the text of the error.

    Raises:
        PluginMissing: nothing is there, or its code failed.
    """
    module, colon, path = name.partition(":")
    try:
        for entry in entry_points(group=group, name=name):
            return entry.load()
        if colon:
            return _attribute(module, path)
    except Exception as exc:  # the user's own code may fail in any way; the start says how
        raise PluginMissing(f"could not be loaded: {type(exc).__name__}: {exc}") from exc
    names = ", ".join([*known, *(entry.name for entry in entry_points(group=group))])
    raise PluginMissing(f"is not there; known are {names or 'none'}, and package.module:attribute")


def _attribute(module: str, path: str) -> object:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # a console script has its own folder there instead
    found: object = importlib.import_module(module)
    for step in path.split("."):
        found = getattr(found, step)
    return found
