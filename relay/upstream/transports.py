"""Transports of httpx that somebody else has written: `package.module:attribute`."""

import importlib
import sys
from pathlib import Path

import httpx

from relay.settings import SettingsError, UpstreamSettings


def load_transport(settings: UpstreamSettings) -> httpx.AsyncBaseTransport:
    """The transport that the settings name: one, or something that gives one when called.

    Raises:
        SettingsError: it cannot be loaded, or is something else.
    """
    spec = settings.transport
    module, _, attribute = spec.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # a console script has its own folder there instead
    try:
        found = importlib.import_module(module)
        for step in attribute.split("."):
            found = getattr(found, step)
        transport = found if isinstance(found, httpx.AsyncBaseTransport) else found()  # type: ignore[operator]  # whatever is called so
    except Exception as exc:  # the user's own code may fail in any way; the start says how
        reason = f"could not be loaded: {type(exc).__name__}: {exc}"
        raise _wrong(settings, reason) from exc
    if not isinstance(transport, httpx.AsyncBaseTransport):
        raise _wrong(settings, "is no httpx.AsyncBaseTransport, nor does it give one")
    return transport


def _wrong(settings: UpstreamSettings, problem: str) -> SettingsError:
    where = f"transport of the upstream '{settings.name}'"
    return SettingsError(f"{where}: '{settings.transport}' {problem}")
