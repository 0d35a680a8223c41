"""What a caller may ask for: the configured models, and what the upstreams have.

    [[models]]   upstreams   the list
    none         one         that upstream's own answer, passed on; not from here
    none         several     their lists, merged: of two models of one id the first stays
    some         any         ids and aliases; for a pattern, what its targets have and it routes

While the relay serves from the local model, upstreams are not asked: its models come first, then
what is remembered of theirs.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from relay.errors import NoUpstream
from relay.local import LocalBackend
from relay.routing import LOCAL
from relay.schema import ModelCard
from relay.settings import ModelSettings
from relay.types import Backend
from relay.web.listing import LIMIT_S, Clock, Listing

CONFIGURED_AT = 0
"""The `created` of models that are only names in the configuration."""


class Catalogue:
    """The models of everything that is configured, each upstream's list remembered."""

    def __init__(
        self,
        *,
        upstreams: Mapping[str, Backend],
        local: LocalBackend | None = None,
        models: Sequence[ModelSettings] = (),
        limit_s: float = LIMIT_S,
        clock: Clock = time.monotonic,
    ) -> None:
        """`limit_s`: the longest wait for the lists of upstreams, which are asked all at once."""
        self._listings = {
            name: Listing(backend, limit_s=limit_s, clock=clock)
            for name, backend in upstreams.items()
        }
        self._local = local
        self._models = {name: model for model in models for name in (model.id, *model.aliases)}
        # As the router has it: an exact name beats a pattern, a longer pattern a shorter one.
        patterns = [name for name in self._models if "*" in name]
        self._patterns = sorted(patterns, key=len, reverse=True)

    @property
    def of_one_upstream(self) -> bool:
        """Whether the answer of the only upstream says it all."""
        return not self._models and len(self._listings) == 1

    async def cards(self, *, local: bool) -> list[ModelCard]:
        """The models; `local` says whether the relay serves from the local one now.

        Raises:
            NoUpstream: no model is known, as no upstream tells what it has.
        """
        asked = [] if local else self._asked()
        waited_for = [task for one in asked if (task := one.refresh()) is not None]
        if waited_for:
            await asyncio.wait(waited_for)  # cancelled with its caller, it lets them go on
        cards: dict[str, ModelCard] = {}
        for card in self._named(local=local) if self._models else self._merged(local=local):
            cards.setdefault(card.id, card)
        if not cards and asked and all(one.cards is None for one in asked):
            raise NoUpstream("No upstream tells which models it has.")
        return list(cards.values())

    async def aclose(self) -> None:
        """Ask no longer; before the backends are closed."""
        for listing in self._listings.values():
            await listing.aclose()

    def _asked(self) -> list[Listing]:
        """The upstreams whose lists matter."""
        if not self._models:
            return list(self._listings.values())
        wanted = {
            target.upstream for name in self._patterns for target in self._models[name].targets
        }
        return [listing for name, listing in self._listings.items() if name in wanted]

    def _merged(self, *, local: bool) -> Iterator[ModelCard]:
        for place in (LOCAL, *self._listings) if local else self._listings:
            yield from self._cards_of(place)

    def _named(self, *, local: bool) -> Iterator[ModelCard]:
        for name, model in self._models.items():
            if name not in self._patterns:
                yield ModelCard(id=name, created=CONFIGURED_AT, owned_by="relay")
                continue
            places = [target.upstream or LOCAL for target in model.targets]
            for place in (LOCAL, *places) if local else places:
                for card in self._cards_of(place):
                    if self._route(card.id) == name:
                        yield card

    def _cards_of(self, place: str) -> Iterable[ModelCard]:
        if place == LOCAL:
            return () if self._local is None else self._local.cards()
        return self._listings[place].cards or ()

    def _route(self, model: str) -> str | None:
        """The configured name that a call for that model would go by."""
        if model in self._models and model not in self._patterns:
            return model
        return next((name for name in self._patterns if fnmatchcase(model, name)), None)
