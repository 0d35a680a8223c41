"""Whatever a user gives, as a backend: a class, a function, a model, a backend, or what is loaded.

chat, stream_chat            a ChatGLM-style object
complete, stream, aclose     a Backend; with cards, start and state a LocalBackend
generate                     a LocalModel
a class, or a function       what it makes, from the options of the configuration
"""

from collections.abc import Callable, Mapping
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any

from relay.local.chatglm import is_chat_model
from relay.local.handed import Handed
from relay.local.making import make
from relay.local.model import LocalBackend, LocalModel
from relay.local.ready import ReadyBackend
from relay.local.threaded import ThreadedBackend
from relay.settings import Settings, SettingsError

_BACKEND = ("complete", "stream", "aclose")
_LOCAL_BACKEND = (*_BACKEND, "cards", "start", "state")


def made(found: Any, what: str, options: Mapping[str, Any], settings: Settings) -> LocalBackend:
    """The backend that this is, or makes; `what` is its name, for errors.

    Raises:
        SettingsError: it is none of these, fails, or the options are not its own.
    """
    one = found
    if callable(found) and (isinstance(found, type) or not _answers(found)):
        one = guarded(what, lambda: make(found, options))
    elif options:
        raise SettingsError(f"'{what}' is made already, so it takes no options")
    if isinstance(one, Handed):
        return one.open(settings)
    if is_chat_model(one):
        return Handed(one, getattr(one, "tokenizer", None)).open(settings)
    if _has(one, _LOCAL_BACKEND):
        backend: LocalBackend = one
        return backend
    if _has(one, _BACKEND):
        return ReadyBackend(one)
    if callable(getattr(one, "generate", None)):
        if isasyncgenfunction(one.generate) or iscoroutinefunction(one.generate):
            raise SettingsError(
                f"'generate' of {type(one).__name__} is async, but runs in a thread of its own: "
                "make it a plain generator, or the class a Backend"
            )
        model: LocalModel = one
        return ThreadedBackend(
            model, parallel=settings.local_parallel, waiting=settings.local_waiting
        )
    raise SettingsError(
        f"{type(one).__name__} is neither a LocalModel (it has no 'generate') nor a LocalBackend"
    )


def guarded(what: str, action: Callable[[], Any]) -> Any:
    """What somebody's code gives; what it raises is one sentence.

    Raises:
        SettingsError: it failed.
    """
    try:
        return action()
    except SettingsError:
        raise
    except Exception as exc:  # the user's own code may fail in any way; the start says how
        problem = f"'{what}' could not be loaded: {type(exc).__name__}: {exc}"
        raise SettingsError(problem) from exc


def _answers(found: Any) -> bool:
    """Whether it is one already, and is not called only because it can be."""
    generates = callable(getattr(found, "generate", None))
    return isinstance(found, Handed) or _has(found, _BACKEND) or generates or is_chat_model(found)


def _has(found: Any, names: tuple[str, ...]) -> bool:
    return all(callable(getattr(found, name, None)) for name in names)
