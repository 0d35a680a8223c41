"""The values of labels, so that there are few of them whatever clients send."""

import re
from collections.abc import Iterable

from relay.settings import Settings
from relay.telemetry.logs import redact

OTHER = "other"

MAX_LEARNED = 100
"""Names of models beside those of the configuration; clients may call a model anything."""

_NAME = re.compile(r"[A-Za-z0-9._:/@+-]{1,100}")

_PATHS = (
    *("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"),
    *("/v1/embeddings", "/v1/models", "/v1/audio", "/v1/images", "/v1/moderations"),
    *("/v1/files", "/v1/batches", "/v1/realtime", "/v1/client_secrets", "/v1", "/ws", "/admin"),
)
"""The first that a path begins with is its class; below these, `other`."""


def path_class(path: str) -> str:
    """Which of a handful of paths that is."""
    for prefix in _PATHS:
        if path.startswith(prefix) and path[len(prefix) :][:1] in ("", "/"):
            return prefix
    return OTHER


class ModelNames:
    """Names that the configuration has, and the first `MAX_LEARNED` others that have answered."""

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()
        self._learned: set[str] = set()

    def __len__(self) -> int:
        return len(self._learned)

    def follow(self, settings: Settings) -> None:
        """Have the names of that configuration stand for themselves."""
        self._known = frozenset(_named(settings))

    def label(self, name: str, *, answered: bool) -> str:
        """The name itself, or `other`; "" where no model was named."""
        if not name or name in self._known or name in self._learned:
            return name
        if not answered or len(self._learned) >= MAX_LEARNED:
            return OTHER
        if _NAME.fullmatch(name) is None or redact(name) != name:
            return OTHER
        self._learned.add(name)
        return name


def _named(settings: Settings) -> Iterable[str]:
    for model in settings.models:
        yield from (model.id, *model.aliases)
        yield from (target.model for target in model.all_targets() if target.model)
    yield from (model.id for model in settings.local_models)
    if settings.default_model:
        yield settings.default_model
