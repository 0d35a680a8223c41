"""What bodies go through before they are kept, for keys whose policy wants that.

A redactor takes a body (`request` or `response` says which) and gives what may be kept of it, or
None for nothing. It is named in the configuration: an entry point of the group `relay.redactors`,
or `package.module:attribute`.
"""

import re
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Literal, cast

from relay.settings import SettingsError, variable

GROUP = "relay.redactors"

Redact = Callable[[bytes, Literal["request", "response"]], bytes | None]

_SECRETS = re.compile(rb"\b(?:sk|rk|ek|pk)-[A-Za-z0-9_-]{8,}")


def redact_keys(body: bytes, _: str = "request") -> bytes:
    """The body with everything that looks like a key replaced; done to every body, first."""
    return _SECRETS.sub(b"[redacted]", body)


def load_redactor(name: str | None) -> Redact:
    """The redactor of that name, behind the one that takes keys out.

    Raises:
        SettingsError: there is none, or it cannot be called.
    """
    if name is None:
        return redact_keys
    own = _find(name)

    def redact(body: bytes, kind: Literal["request", "response"]) -> bytes | None:
        return own(redact_keys(body), kind)

    return redact


def _find(name: str) -> Redact:
    for entry in entry_points(group=GROUP, name=name):
        found = entry.load()
        break
    else:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as exc:
            raise SettingsError(
                f"{variable('redact_bodies')}: there is no '{name}' ({exc}); name an entry point "
                f"in {GROUP}, or package.module:attribute"
            ) from None
    if not callable(found):
        raise SettingsError(f"{variable('redact_bodies')}: '{name}' cannot be called")
    return cast(Redact, found)
