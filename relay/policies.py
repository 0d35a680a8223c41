"""Which of a model's targets is asked first; the others follow, in case it fails.

    first           the order of the configuration
    weighted        by chance, each with its share (`weight`)
    least-latency   of two by chance, the one that answers sooner, as busy as it is
    least-busy      the one with the fewest calls open, by weight

A policy of one's own is a function of the targets and the call: an entry point in the group
`relay.policies`, or `package.module:attribute`. It is called for each request, so it must not
block; targets that it leaves out are not asked.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

from relay.health import Health
from relay.plugins import PluginMissing, find_plugin
from relay.settings import SettingsError
from relay.types import Call

GROUP = "relay.policies"


class Weighted(Protocol):
    """What a policy may know of a target."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float: ...
    @property
    def health(self) -> Health: ...


T = TypeVar("T", bound=Weighted)
Policy = Callable[[Sequence[Any], Call], Sequence[Any]]


def first(targets: Sequence[T], _: Call) -> Sequence[T]:
    """As they stand."""
    return targets


def weighted(targets: Sequence[T], _: Call) -> Sequence[T]:
    """Drawn by weight, without putting back."""
    # The order of such waiting times is that draw (Efraimidis and Spirakis, 2006).
    return sorted(targets, key=lambda target: random.expovariate(target.weight))


def least_latency(targets: Sequence[T], _: Call) -> Sequence[T]:
    """Two by chance, the better of them first, then the others from good to bad.

    Asking the best one always would send all calls to whoever was fast a moment ago.
    """
    one, other = random.sample(targets, 2)
    best = min(one, other, key=_load)
    rest = sorted((target for target in targets if target is not best), key=_load)
    return [best, *rest]


def least_busy(targets: Sequence[T], _: Call) -> Sequence[T]:
    """By open calls for each unit of weight; equals are shuffled."""
    shuffled = random.sample(targets, len(targets))
    return sorted(shuffled, key=lambda target: target.health.in_flight / target.weight)


def load_policy(name: str) -> Policy:
    """The policy of that name.

    Raises:
        SettingsError: there is none, or it cannot be loaded.
    """
    if own := _OWN.get(name):
        return own
    try:
        found = find_plugin(GROUP, name, known=_OWN)
    except PluginMissing as exc:
        raise SettingsError(f"policy '{name}' {exc}") from exc
    if not callable(found):
        raise SettingsError(f"policy '{name}' cannot be called")
    return cast(Policy, found)


def _load(target: Weighted) -> float:
    health = target.health
    return health.latency_s * (health.in_flight + 1) / target.weight


_OWN: dict[str, Policy] = {
    "first": first,
    "weighted": weighted,
    "least-latency": least_latency,
    "least-busy": least_busy,
}
