"""Where a call goes. Decided from what is known, without I/O; the engine does the asking.

mode      upstream configured    serves from
auto      yes                    remote
auto      no                     local
remote    yes                    remote
local     either                 local
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from relay.errors import ModelNotFound, NoUpstream
from relay.settings import History, Mode, ModelSettings
from relay.types import Backend, Call

LOCAL = "local"
"""The name of the local target, in `x-relay-upstream` and in the logs."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place that may answer a call, and what the call must look like there."""

    name: str
    backend: Backend
    model: str | None = None
    history: History = "normalize"


class Router:
    """The configured backends and models, and the rule that picks among them."""

    def __init__(
        self,
        *,
        mode: Mode,
        upstreams: Mapping[str, Backend],
        local: Backend | None,
        models: Sequence[ModelSettings] = (),
        history: History = "normalize",
    ) -> None:
        self.serving = LOCAL if mode == "local" or (mode == "auto" and not upstreams) else "remote"
        self._backends = {**upstreams} | ({LOCAL: local} if local is not None else {})
        self._history = history
        self._default = LOCAL if self.serving == LOCAL else next(iter(upstreams))
        # An exact name beats a pattern, a longer pattern a shorter one.
        self._exact = {model.id: model for model in models if "*" not in model.id}
        patterns = [model for model in models if "*" in model.id]
        self._patterns = sorted(patterns, key=lambda model: -len(model.id))
        self._unnamed: Sequence[Target] = ()
        if self._default in self._backends:
            self._unnamed = (self._target(self._default, None, history),)

    @property
    def named(self) -> bool:
        """Whether only configured models exist."""
        return bool(self._exact or self._patterns)

    @property
    def names(self) -> Sequence[str]:
        """The ids of configured models, patterns left out."""
        return list(self._exact)

    def candidates(self, call: Call) -> Sequence[Target]:
        """The targets to ask for that call, in order.

        Raises:
            ModelNotFound: models are configured and this is none of them.
            NoUpstream: what should answer is not there.
        """
        if not self.named:
            return self._unnamed or (self.default(),)
        model = self._exact.get(call.model) or next(
            (model for model in self._patterns if fnmatchcase(call.model, model.id)), None
        )
        if model is None:
            raise ModelNotFound(f"The model '{call.model}' does not exist here.", param="model")
        history = model.history or self._history
        if self.serving == LOCAL:
            return (self._target(LOCAL, None, history),)
        return tuple(
            self._target(target.upstream or LOCAL, target.model, history)
            for target in model.targets
        )

    def default(self) -> Target:
        """The target of what names no model, such as the list of models.

        Raises:
            NoUpstream: it is not there.
        """
        return self._target(self._default, None, self._history)

    def _target(self, name: str, model: str | None, history: History) -> Target:
        backend = self._backends.get(name)
        if backend is None:
            raise NoUpstream(f"The backend '{name}' is not available.")
        return Target(name, backend, model, history)
