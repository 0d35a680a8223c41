"""The prices of the providers' models, as `genai_prices` has them; loaded when first needed.

The package is imported by a child process, which prints what is needed of it (see export.py): 2 MB
here instead of 35, and no half second in which nobody is answered.
"""

import asyncio
import contextlib
import logging
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from relay.prices.price import Price

LOAD = (sys.executable, "-m", "relay.prices.export")
LOAD_S = 60.0
"""How long that may take on a machine that is busy."""

DAY_S = 86400

Offers = Sequence[tuple[Any, Any]]
"""A model's prices with their times, as in export.py; the last that holds counts."""

_log = logging.getLogger("relay.prices")


class Offer(NamedTuple):
    """A price, and the time (in Unix seconds) when another one may hold."""

    price: Price
    until: float


class PriceTable:
    """The table of this process."""

    def __init__(self, load: Sequence[str] = LOAD) -> None:
        """`load` is the command that prints it."""
        self.loaded = False
        """It is here, or it cannot be had, which has been logged."""
        self._command = load
        self._providers: list[Any] = []
        self._loading: asyncio.Task[None] | None = None

    def load(self) -> None:
        """Begin to load it, if nobody has yet. To be called in the event loop."""
        if self._loading is None and not self.loaded:
            self._loading = asyncio.get_running_loop().create_task(self._load())

    async def ready(self) -> None:
        """Wait until it is loaded."""
        self.load()
        if self._loading is not None:
            await asyncio.shield(self._loading)

    async def aclose(self) -> None:
        """Stop the child if it still runs."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])

    def find(self, model: str, base_url: str = "", kind: str = "openai") -> Offers | None:
        """What that model costs at the upstream of that URL and kind; None when it is not there.

        An address that no provider has may be anybody's gateway: there the name of the model (or
        what it begins with, as in `openai/gpt-4o`) tells the provider.
        """
        model = model.lower()
        at_url = [provider for provider in self._providers if re.match(provider[1], base_url)]
        by_id = {provider[0]: provider for provider in self._providers}
        if not at_url and kind in by_id and kind != "openai":
            at_url = [by_id[kind]]
        vendor, _, rest = model.partition("/")
        if not at_url and rest and vendor in by_id:
            at_url, model = [by_id[vendor]], rest
        if not at_url:
            at_url = [one for one in self._providers if one[2] and _matches(one[2], model)]
        for provider in at_url:
            for one in (provider, *(by_id[other] for other in provider[3] if other in by_id)):
                for clause, offers in one[4]:
                    if _matches(clause, model):
                        return offers  # type: ignore[no-any-return]  # JSON of our own
        return None

    async def _load(self) -> None:
        try:
            async with asyncio.timeout(LOAD_S):
                self._providers = orjson.loads(await _output(self._command))
        except (OSError, ValueError, TimeoutError) as exc:
            reason = str(exc) or f"not within {LOAD_S:g} s"
            _log.error("prices_unavailable", extra={"fields": {"error": reason}})
        self.loaded = True


def offer_at(offers: Offers, now: float) -> Offer:
    """The price that holds at that time."""
    until = float("inf")
    chosen = None
    for when, tiers in reversed(offers):
        holds, changes = _holds(when, now)
        until = min(until, changes)
        if holds:
            chosen = tiers
            break
    return Offer(_price(chosen or offers[0][1]), until)


def _holds(when: Any, now: float) -> tuple[bool, float]:
    """Whether a condition holds, and until when that does not change."""
    if when is None:
        return True, float("inf")
    if when[0] == "from":
        return (True, float("inf")) if now >= when[1] else (False, when[1])
    _, begins, ends = when
    second = now % DAY_S
    holds = begins <= second < ends if begins <= ends else second >= begins or second < ends
    return holds, now + min((edge - second) % DAY_S or DAY_S for edge in (begins, ends))


def _price(tiers: Sequence[Sequence[int | None]]) -> Price:
    prices = [Price(*rates) for _, *rates in tiers]  # type: ignore[arg-type]  # `tiers` is left out
    above = tuple((int(tier[0] or 0), price) for tier, price in zip(tiers, prices, strict=True))
    return replace(prices[0], tiers=above[1:])


def _matches(clause: Any, model: str) -> bool:
    kind, value = clause
    if kind in _OF_SEVERAL:
        return _OF_SEVERAL[kind](_matches(one, model) for one in value)
    test = _OF_TEXT.get(kind)
    return test is not None and test(model, value)


_OF_SEVERAL: Mapping[str, Callable[[Iterable[bool]], bool]] = {"or": any, "and": all}
_OF_TEXT: Mapping[str, Callable[[str, str], bool]] = {
    "equals": lambda model, text: model == text.lower(),
    "starts_with": lambda model, text: model.startswith(text.lower()),
    "ends_with": lambda model, text: model.endswith(text.lower()),
    "contains": lambda model, text: text.lower() in model,
    "regex": lambda model, text: re.search(text, model) is not None,
}


async def _output(command: Sequence[str]) -> bytes:
    """What the child prints. Raises: OSError: it cannot be run, or failed."""
    child = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL
    )
    try:
        output, _ = await child.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        raise
    if child.returncode != 0:
        raise OSError(f"the child process failed with status {child.returncode}")
    return output
