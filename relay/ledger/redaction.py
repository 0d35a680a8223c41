"""What bodies go through before they are kept, for keys whose policy wants that.

A redactor takes a body (`request` or `response` says which) and gives what may be kept of it, or
None for nothing. It is named in the configuration: an entry point of the group `relay.redactors`,
or `package.module:attribute`.
"""

import re
from collections.abc import Callable
from typing import Literal, cast

from relay.plugins import PluginMissing, find_plugin
from relay.secret_forms import SECRET

GROUP = "relay.redactors"

Kind = Literal["request", "response"]
Redact = Callable[[bytes, Kind], bytes | None]

_SECRETS = re.compile(SECRET.pattern.encode(), re.VERBOSE)


def redact_keys(body: bytes, _: Kind = "request") -> bytes:
    """The body with everything that looks like a key replaced; done to every body, first."""
    return _SECRETS.sub(b"[redacted]", body)


def without_keys(text: str) -> str:
    """The same for a short text."""
    return SECRET.sub("[redacted]", text)


def load_redactor(name: str | None) -> Redact:
    """The redactor of that name, behind the one that takes keys out.

    Raises:
        PluginMissing: there is none, or it could not be loaded.
    """
    if name is None:
        return redact_keys
    found = find_plugin(GROUP, name)
    if not callable(found):
        raise PluginMissing("cannot be called")
    own = cast(Redact, found)
    return lambda body, kind: own(redact_keys(body), kind)
