"""What a model costs at a target: as configured (`[[prices]]`), else as the table has it."""

import math
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase

from relay.prices.price import FREE, NANO, Price, bounds, cost
from relay.prices.table import PriceTable, offer_at
from relay.settings import LOCAL, PriceSettings, UpstreamSettings
from relay.types import Usage

REMEMBERED = 4096
"""How many names are remembered: clients may ask for anything."""


class Prices:
    """The prices of one configuration."""

    def __init__(
        self,
        settings: Sequence[PriceSettings] = (),
        upstreams: Sequence[UpstreamSettings] = (),
        table: PriceTable | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """The first of `settings` that fits counts. `table` is shared by all configurations."""
        self.table = table or PriceTable()
        self._settings = settings
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        self._now = now
        self._found: dict[tuple[str, str], tuple[Price | None, float]] = {}
        self._sure: dict[tuple[str, str], Price] = {}  # those of them that hold for ever

    def price(self, model: str, upstream: str) -> Price | None:
        """What that model costs there; None when nobody knows, or while the table is loaded.

        `upstream` is the name of a target, and `model` what the model is called there.
        """
        known = self._found.get((model, upstream))
        if known is not None:
            price, until = known
            if until == math.inf or until > self._now():
                return price
        return self._look_up(model, upstream)

    def cost(self, model: str, upstream: str, usage: Usage) -> int | None:
        """What an answer has cost, in nano-dollars; None when the model has no price."""
        price = self._sure.get((model, upstream)) or self.price(model, upstream)
        if price is None or (usage.heard_ms and price.minute is None):
            return None
        return cost(price, usage)

    def bounds(
        self, model: str, upstream: str, prompt_tokens: int, completion_tokens: int
    ) -> tuple[int, int] | None:
        """What a call with so many tokens costs at most, and what its prompt alone does."""
        price = self._sure.get((model, upstream)) or self.price(model, upstream)
        return None if price is None else bounds(price, prompt_tokens, completion_tokens)

    async def ready(self) -> None:
        """Wait until the table is there: about a second, once in the life of a process."""
        if self._upstreams and not self.table.loaded:
            await self.table.ready()

    def _look_up(self, model: str, upstream: str) -> Price | None:
        price, until = self._configured(model, upstream), math.inf
        if price is None and upstream == LOCAL:
            price = FREE
        if price is None and (settings := self._upstreams.get(upstream)) is not None and model:
            if not self.table.loaded:
                self.table.load()
                return None
            offers = self.table.find(model, settings.base_url, settings.kind)
            if offers is not None:
                price, until = offer_at(offers, self._now())
        if len(self._found) >= REMEMBERED:
            self._found.clear()
            self._sure.clear()
        self._found[model, upstream] = (price, until)
        if price is not None and until == math.inf:
            self._sure[model, upstream] = price
        return price

    def _configured(self, model: str, upstream: str) -> Price | None:
        for one in self._settings:
            if one.upstream in (None, upstream) and fnmatchcase(model, one.model):
                return _price(one)
        return None


def _price(settings: PriceSettings) -> Price:
    return Price(
        prompt=_nano(settings.prompt_usd),
        completion=_nano(settings.completion_usd),
        cached=_nano(settings.cached_usd),
        cache_write=_nano(settings.cache_write_usd),
        reasoning=_nano(settings.reasoning_usd),
        audio_prompt=_nano(settings.audio_prompt_usd),
        audio_completion=_nano(settings.audio_completion_usd),
        request=_nano(settings.request_usd),
        minute=_nano(settings.minute_usd),
    )


def _nano(usd: Decimal | None) -> int | None:
    return None if usd is None else int(usd * NANO)
