"""What a process counts for `GET /metrics`.

    events --observe--> a list of at most FOLD_AT --fold--> numbers --snapshot--> exposition

Being told of a request is an entry in a list; it is taken apart later, with those beside it.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Protocol

from relay.events import (
    AttemptFailed,
    AttemptLost,
    Event,
    Observer,
    Reloaded,
    ReloadRefused,
    RequestEnded,
    ignore,
)
from relay.settings import Settings
from relay.stores import grouped
from relay.telemetry.counting import Durations, Numbers, Snapshot
from relay.telemetry.families import FIRST_TOKEN_BUCKETS, REQUEST_BUCKETS
from relay.telemetry.labels import ModelNames, path_class
from relay.types import Usage

FOLD_AT = 200
"""Events that wait to be counted: less than a millisecond of the event loop."""

NANO = 1e9

MAX_PLACES = 1000
"""How many ways that requests went are remembered with where they are counted."""

_REFUSALS = ("rate_limit_exceeded", "insufficient_quota")
_KINDS = ("prompt", "completion", "cached", "reasoning", "audio", "cache_write")
"""As the fields of `Usage` stand."""


class Pricing(Protocol):
    """Knows what an answer has cost."""

    def cost(self, model: str, upstream: str, usage: Usage) -> int | None: ...


Labels = tuple[str, ...]

_WAY: Callable[[RequestEnded], tuple[str, str, str, int]] = attrgetter(
    "path", "served", "target", "status"
)
_ERROR, _FIRST_TOKEN, _USAGE, _ESTIMATED, _COST = map(
    attrgetter, ("error", "first_token_s", "usage", "estimated", "cost_nano")
)


class _Place:
    """Where a request is counted that went a certain way."""

    __slots__ = ("model", "requests")

    def __init__(self, model: str, requests: Labels) -> None:
        self.model = model
        self.requests = requests


class Metrics:
    """Counts what it is told of. `pricing` gives the prices of today."""

    def __init__(self, settings: Settings, pricing: Callable[[], Pricing]) -> None:
        self.observe: Observer = self._observe
        self._pricing = pricing
        self._names = ModelNames()
        self._places: dict[tuple[str, str, str, int], _Place] = {}
        self._events: list[Event] = []
        self._requests = Numbers()
        self._tokens = Numbers()
        self._estimated = Numbers()
        self._cost = Numbers()
        self._unpriced = Numbers()
        self._failed = Numbers()
        self._lost = Numbers()
        self._refusals = Numbers()
        self._reloads = Numbers()
        self._durations = Durations(REQUEST_BUCKETS)
        self._first_tokens = Durations(FIRST_TOKEN_BUCKETS)
        for code in _REFUSALS:
            self._refusals.add(0, code)
        for result in ("applied", "refused"):
            self._reloads.add(0, result)
        self.follow(settings)

    def follow(self, settings: Settings) -> None:
        """That is the configuration from now on. What counted up stays."""
        self._names.follow(settings)
        self._places.clear()
        for target in [*(one.name for one in settings.all_upstreams()), "local"]:
            self._failed.add(0, target)
            self._lost.add(0, target)

    def snapshot(self) -> Snapshot:
        """All that was counted until now."""
        self._fold()
        numbers = {
            "relay_requests_total": self._requests,
            "relay_tokens_total": self._tokens,
            "relay_requests_estimated_total": self._estimated,
            "relay_cost_usd_total": {labels: nano / NANO for labels, nano in self._cost.items()},
            "relay_requests_unpriced_total": self._unpriced,
            "relay_attempts_failed_total": self._failed,
            "relay_attempts_lost_total": self._lost,
            "relay_limit_refusals_total": self._refusals,
            "relay_reloads_total": self._reloads,
        }
        durations = {
            "relay_request_duration_seconds": self._durations,
            "relay_first_token_seconds": self._first_tokens,
        }
        return {
            **{name: list(rows.items()) for name, rows in numbers.items()},
            **{
                name: [(labels, list(cells)) for labels, cells in rows.items()]
                for name, rows in durations.items()
            },
        }

    def _observe(self, event: Event, /) -> None:
        self._events.append(event)
        if len(self._events) >= FOLD_AT:
            self._fold()

    def _fold(self) -> None:
        events, self._events = self._events, []
        ended: list[RequestEnded] = []
        for event in events:
            if isinstance(event, RequestEnded):
                ended.append(event)
            elif isinstance(event, AttemptFailed):
                self._failed.add(1, event.target)
            elif isinstance(event, AttemptLost):
                self._lost.add(1, event.target)
            elif isinstance(event, Reloaded):
                self._reloads.add(1, "applied")
            elif isinstance(event, ReloadRefused):
                self._reloads.add(1, "refused")
        for way, some in grouped(_WAY, ended).items():
            self._ended(self._places.get(way) or self._find(*way), some)

    def _ended(self, place: _Place, some: Sequence[RequestEnded]) -> None:
        """Count those that went the same way: column by column, for there are few ways."""
        target = some[0].target
        self._requests[place.requests] += len(some)
        for error in filter(_REFUSALS.__contains__, map(_ERROR, some)):
            self._refusals.add(1, error)
        if asked := [one.duration_s for one in some if one.attempts]:
            self._durations.add(asked, target)
        if begun := [time_s for time_s in map(_FIRST_TOKEN, some) if time_s is not None]:
            self._first_tokens.add(begun, target)
        used = [one for one in some if one.usage is not None]
        if not used:
            return
        for kind, counts in zip(_KINDS, zip(*map(_USAGE, used), strict=True), strict=False):
            if tokens := sum(counts):
                self._tokens.add(tokens, target, place.model, kind)
        if estimated := sum(map(_ESTIMATED, used)):
            self._estimated.add(estimated, target)
        costs = (
            [self._cost_of(one) for one in used] if None in map(_COST, used) else map(_COST, used)
        )
        known = [cost_nano for cost_nano in costs if cost_nano is not None]
        if len(known) < len(used):
            self._unpriced.add(len(used) - len(known), target)
        if cost_nano := sum(known):
            self._cost.add(cost_nano, target, place.model)

    def _cost_of(self, one: RequestEnded) -> int | None:
        if one.cost_nano is not None or one.usage is None:
            return one.cost_nano
        return self._pricing().cost(one.served, one.target, one.usage)  # known by now, perhaps

    def _find(self, path: str, served: str, target: str, status: int) -> _Place:
        known = len(self._names)
        model = self._names.label(served, answered=bool(target) and 200 <= status < 400)
        if len(self._names) > known or len(self._places) >= MAX_PLACES:
            self._places.clear()  # a name that is known now may be `other` in some
        labels = self._requests.place(path_class(path), model, target, str(status))
        place = self._places[path, served, target, status] = _Place(model, labels)
        return place


class NoMetrics:
    """Counts nothing."""

    observe: Observer = staticmethod(ignore)

    def follow(self, settings: Settings) -> None:
        """Nothing depends on that."""


NO_METRICS = NoMetrics()
