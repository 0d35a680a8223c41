"""relay: an OpenAI-format relay to remote and local models.

Importing the package loads nothing; each public name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relay.app import create_app
    from relay.serving import serve
    from relay.settings import Settings

__version__ = "0.1.0"
__all__ = ["Settings", "__version__", "create_app", "serve"]

_HOME = {"create_app": "relay.app", "serve": "relay.serving", "Settings": "relay.settings"}


def __getattr__(name: str) -> Any:
    try:
        home = _HOME[name]
    except KeyError:
        raise AttributeError(f"module 'relay' has no attribute {name!r}") from None
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
