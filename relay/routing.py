"""Where a call goes. Decided from what is known, without I/O; the engine does the asking.

mode      upstream configured    serves from
auto      yes                    remote
auto      no                     local
remote    yes                    remote
local     either                 local

A model's `Route` names its targets, in the order of its policy, then its fallbacks; who is left
alone for now (see health.py) is left out, unless nobody else is there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from relay.errors import ModelNotFound, NoUpstream
from relay.health import Health
from relay.local import paths_of
from relay.policies import Policy, first, load_policy
from relay.settings import (
    BreakerSettings,
    History,
    Mode,
    ModelSettings,
    SomeTimeouts,
    TargetSettings,
    UpstreamSettings,
)
from relay.types import Backend, Call, TimeLimits

LOCAL = "local"
"""The name of the local target, in `x-relay-upstream` and in the logs."""

CHAT = "chat/completions"

REMEMBERED_NAMES = 1000
"""How many names that a pattern matched are remembered."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place that may answer a call, and what the call must look like there.

    `limits` are its time limits for this model; None where they are the upstream's own, `usual`.
    """

    name: str
    backend: Backend
    health: Health
    model: str | None = None
    history: History = "normalize"
    weight: float = 1.0
    limits: TimeLimits | None = None
    usual: TimeLimits | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """What a model's calls may go through. `retries` None: as the relay's setting says."""

    targets: Sequence[Target]
    policy: Policy = first
    fallback: Sequence[Target] = ()
    context_fallback: Sequence[Target] = ()
    retries: int | None = None
    hedge_after_s: float | None = None
    single_flight: bool = False

    def course(self, call: Call) -> Sequence[Target]:
        """Whom to ask, in order; never nobody.

        Raises:
            NoUpstream: only the local model is there, which does not answer such calls.
        """
        targets = self.targets
        anywhere = call.path == CHAT or call.for_target is not None
        if len(targets) == 1 and not self.fallback and anywhere:
            return targets
        if len(targets) > 1:
            targets = self.policy(targets, call) or targets
        everyone = [*targets, *self.fallback]
        if not anywhere:
            everyone = [
                target
                for target in everyone
                if target.name != LOCAL or answers(target.backend, call.path)
            ]
            if not everyone:
                raise NoUpstream("The local model does not answer such calls.")
        asked = [target for target in everyone if target.health.admits]
        return asked or [min(everyone, key=lambda target: target.health.opens_in_s)]


@dataclass(slots=True)
class _Model:
    """A configured model: its routes while the relay serves remotely, and locally."""

    settings: ModelSettings
    remote: Route | None = None
    local: Route | None = None


@dataclass(slots=True)
class _Names:
    """Finds configured models: an exact name beats a pattern, a longer pattern a shorter one."""

    models: Sequence[ModelSettings]
    exact: dict[str, _Model] = field(default_factory=dict)
    patterns: list[tuple[str, _Model]] = field(default_factory=list)
    matched: dict[str, _Model] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for settings in self.models:
            model = _Model(settings)
            for name in (settings.id, *settings.aliases):
                if "*" in name:
                    self.patterns.append((name, model))
                else:
                    self.exact[name] = model
        self.patterns.sort(key=lambda pattern: -len(pattern[0]))

    def find(self, name: str) -> _Model | None:
        if found := self.exact.get(name) or self.matched.get(name):
            return found
        for pattern, model in self.patterns:
            if fnmatchcase(name, pattern):
                if len(self.matched) < REMEMBERED_NAMES:
                    self.matched[name] = model
                return model
        return None


class Router:
    """The configured backends and models, and the rule that picks among them.

    `serving`, `remote` or `local`, may be changed at any time; calls that have begun go on.
    """

    def __init__(
        self,
        *,
        mode: Mode,
        upstreams: Mapping[str, Backend],
        local: Backend | None,
        models: Sequence[ModelSettings] = (),
        history: History = "normalize",
        settings: Sequence[UpstreamSettings] = (),
        known: Mapping[str, Health] | None = None,
    ) -> None:
        """`settings` are those of the upstreams, for their limits and breakers.

        `known` is how some of the targets are doing already.

        Raises:
            SettingsError: a policy is not there.
        """
        self.serving = LOCAL if mode == "local" or (mode == "auto" and not upstreams) else "remote"
        self.upstreams = dict(upstreams)
        self._backends = self.upstreams | ({LOCAL: local} if local is not None else {})
        self._settings = {upstream.name: upstream for upstream in settings}
        self.health = {name: Health(self._breaker(name)) for name in (*upstreams, LOCAL)}
        self.health |= known or {}
        self._history = history
        self._models = _Names(models)
        for model in (*self._models.exact.values(), *(m for _, m in self._models.patterns)):
            load_policy(model.settings.policy)
        self._unnamed: dict[str, Route] = {}

    def answers_locally(self, path: str) -> bool:
        """Whether there is a local model that answers calls to that path."""
        local = self._backends.get(LOCAL)
        return local is not None and answers(local, path)

    @property
    def named(self) -> bool:
        """Whether only configured models exist."""
        return bool(self._models.models)

    def route(self, call: Call) -> Route:
        """What that call may go through.

        Raises:
            ModelNotFound: models are configured and this is none of them.
            NoUpstream: what should answer is not there.
        """
        if not self._models.models:
            return self._unnamed.get(self.serving) or self._open_unnamed()
        model = self._models.find(call.model)
        if model is None:
            raise ModelNotFound(f"The model '{call.model}' does not exist here.", param="model")
        if self.serving == LOCAL:
            if model.local is None:
                model.local = self.local_route(model.settings)
            return model.local
        if model.remote is None:
            model.remote = self._open(model.settings)
        return model.remote

    def candidates(self, call: Call) -> Sequence[Target]:
        """The targets to ask for that call, in order. Raises: as `route` does."""
        return self.route(call).course(call)

    def default(self) -> Target:
        """The target of what names no model, such as the list of models.

        Raises:
            NoUpstream: it is not there.
        """
        return (self._unnamed.get(self.serving) or self._open_unnamed()).targets[0]

    def local_route(self, model: ModelSettings | None = None) -> Route:
        """The way to the local model, by the name that the first local target of `model` has.

        Raises:
            NoUpstream: there is none.
        """
        named = () if model is None else model.all_targets()
        target = next((one for one in named if one.local), TargetSettings(local=True))
        return Route((self._target(target, model),))

    def _open_unnamed(self) -> Route:
        name = LOCAL if self.serving == LOCAL else next(iter(self.upstreams), LOCAL)
        route = Route((self._target(TargetSettings(upstream=name), None),))
        self._unnamed[self.serving] = route
        return route

    def _open(self, model: ModelSettings) -> Route:
        def targets(settings: Sequence[TargetSettings]) -> tuple[Target, ...]:
            return tuple(self._target(one, model) for one in settings)

        return Route(
            targets(model.targets),
            load_policy(model.policy),
            targets(model.fallback),
            targets(model.context_fallback),
            model.retries,
            model.hedge_after_s,
            model.single_flight,
        )

    def _target(self, settings: TargetSettings, model: ModelSettings | None) -> Target:
        name = settings.upstream or LOCAL
        backend = self._backends.get(name)
        if backend is None:
            raise NoUpstream(f"The backend '{name}' is not available.")
        upstream = self._settings.get(name)
        usual = None if upstream is None else TimeLimits(**upstream.timeouts.model_dump())
        limits = None
        if usual is not None and model is not None:
            limits = overlaid(usual, model.timeouts)
        return Target(
            name,
            backend,
            self.health[name],
            settings.model,
            (model.history if model is not None else None) or self._history,
            settings.weight,
            limits,
            usual,
        )

    def _breaker(self, name: str) -> BreakerSettings:
        upstream = self._settings.get(name)
        return BreakerSettings() if upstream is None else upstream.breaker


def answers(local: Backend, path: str) -> bool:
    """Whether that local model answers calls to that path."""
    return path.partition("?")[0] in paths_of(local)


def overlaid(limits: TimeLimits, by: SomeTimeouts) -> TimeLimits | None:
    """Those limits with some others in their place; None when there is no other."""
    others = by.model_dump(exclude_none=True)
    return TimeLimits(**{**_as_dict(limits), **others}) if others else None


def _as_dict(limits: TimeLimits) -> dict[str, float]:
    return {name: getattr(limits, name) for name in TimeLimits.__dataclass_fields__}
