"""Several local models behind one backend: who answers for which id.

its own id            that model
an id in local_map    the model it is mapped to; a pattern (*, vendor/*) after exact names
any other             the first model
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from fnmatch import fnmatchcase

from relay.local.completions import payload_of
from relay.local.model import LocalBackend, paths_of
from relay.schema import ModelCard
from relay.types import Answer, Call, Completion


class SeveralModels:
    """Picks a model for each call; the first is loaded at the start, the others on first use."""

    name = "local"

    def __init__(self, models: Mapping[str, LocalBackend], mapped: Mapping[str, str]) -> None:
        """`mapped` leads from the ids of clients to those of `models`, of which there is one."""
        self._models = dict(models)
        self.paths = frozenset[str]().union(*(paths_of(model) for model in models.values()))
        self._first = next(iter(self._models.values()))
        self._exact = {name: self._models[to] for name, to in mapped.items() if "*" not in name}
        self._patterns = sorted(
            ((name, self._models[to]) for name, to in mapped.items() if "*" in name),
            key=lambda pattern: -len(pattern[0]),
        )

    def pick(self, model: str) -> LocalBackend:
        """Who answers for that id."""
        found = self._models.get(model) or self._exact.get(model)
        if found is not None:
            return found
        matching = (to for name, to in self._patterns if fnmatchcase(model, name))
        return next(matching, self._first)

    def cards(self) -> Sequence[ModelCard]:
        """The models under their ids."""
        return [
            card.model_copy(update={"id": name})
            for name, backend in self._models.items()
            for card in backend.cards()[:1]
        ]

    def start(self) -> None:
        """Begin to load the first."""
        self._first.start()

    def state(self) -> str:
        """That of the first."""
        return self._first.state()

    async def complete(self, call: Call) -> Completion:
        """The whole answer. Raises: as the model that is picked."""
        return await self._pick(call).complete(call)

    def stream(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """The answer once it has begun. Raises: as the model that is picked."""
        return self._pick(call).stream(call)

    def _pick(self, call: Call) -> LocalBackend:
        if call.model:
            return self.pick(call.model)
        payload = payload_of(call)  # what is passed on was not looked at before
        return self.pick(str(payload.get("model")) if isinstance(payload, dict) else "")

    async def aclose(self) -> None:
        """Close all of them."""
        for backend in self._models.values():
            await backend.aclose()
