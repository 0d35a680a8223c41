"""The models of one upstream, as it last told them.

    age of the list      what is given
    up to 60 s           the list
    up to an hour        the list, while one task in the background asks for a newer one
    older, or none       what that task brings; nothing at once if the last attempt failed

A failure keeps the list as it was, and for 5 s nobody asks again.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeGuard

from relay.errors import BackendError, UpstreamProtocol
from relay.schema import ModelCard
from relay.types import Backend, Call

FRESH_S = 60.0
STALE_S = 3600.0
FAILED_S = 5.0
LIMIT_S = 3.0
"""The longest wait for one list."""

MAX_MODELS = 5_000
"""As many models of one upstream as are kept."""

MAX_LIST_BYTES = 8 * 1024 * 1024
"""A longer answer is not read: parsing it would hold up everyone else."""

MAX_NAME_CHARACTERS = 256
MAX_CREATED = 2**53

Clock = Callable[[], float]


class Listing:
    """The list of one upstream, fetched by one task at a time."""

    def __init__(
        self, backend: Backend, *, limit_s: float = LIMIT_S, clock: Clock = time.monotonic
    ) -> None:
        self._backend = backend
        self._limit_s = limit_s
        self._clock = clock
        self._cards: tuple[ModelCard, ...] = ()
        self._told_at: float | None = None
        self._failed_at: float | None = None
        self._asking: asyncio.Task[None] | None = None

    @property
    def cards(self) -> tuple[ModelCard, ...] | None:
        """What is known of it; None when it has told nothing within the hour."""
        return self._cards if self._younger_than(STALE_S) else None

    def refresh(self) -> asyncio.Task[None] | None:
        """Ask for a newer list when it is time; the task, if waiting for it is worth while."""
        if self._asking is None and self._due():
            self._asking = asyncio.create_task(self._ask())
        # Whoever failed a moment ago may be waited for in vain, each time for the whole limit.
        worth_while = self._failed_at is None and self.cards is None
        return self._asking if worth_while else None

    async def aclose(self) -> None:
        """Ask no longer."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    def _due(self) -> bool:
        if self._failed_at is not None:
            return self._clock() - self._failed_at >= FAILED_S
        return not self._younger_than(FRESH_S)

    def _younger_than(self, age_s: float) -> bool:
        return self._told_at is not None and self._clock() - self._told_at < age_s

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                answer = await self._backend.complete(Call(path="models", method="GET"))
            self._cards = read_cards(answer.body, owner=self._backend.name)
        except (BackendError, TimeoutError):
            self._failed_at = self._clock()
        else:
            self._told_at, self._failed_at = self._clock(), None
        finally:
            self._asking = None


def read_cards(body: bytes, *, owner: str) -> tuple[ModelCard, ...]:
    """The models of an answer to `GET models`, in OpenAI's, Azure's or Anthropic's form.

    Of each stay the id, the time it was made, and who owns it (`owner` when that is not said).

    Raises:
        UpstreamProtocol: it is no list of models, or too long a one.
    """
    if len(body) > MAX_LIST_BYTES:
        raise UpstreamProtocol(f"The list of models of '{owner}' is too long.")
    try:
        told: Any = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    entries = told.get("data") if isinstance(told, dict) else told
    if not isinstance(entries, list):
        raise UpstreamProtocol(f"What '{owner}' answers at /models is no list.")
    return tuple(_cards(entries, owner))


def _cards(entries: list[Any], owner: str) -> Iterator[ModelCard]:
    seen: set[str] = set()
    for entry in entries:
        if len(seen) == MAX_MODELS:
            return
        name = entry.get("id") if isinstance(entry, dict) else None
        if not _is_name(name) or name in seen:
            continue
        seen.add(name)
        said = entry.get("owned_by")
        yield ModelCard(
            id=name,
            created=_seconds(entry.get("created", entry.get("created_at"))),
            owned_by=said if _is_name(said) else owner,
        )


def _is_name(value: object) -> TypeGuard[str]:
    # A lone surrogate is not printable either: it could not be written into our answer.
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS and value.isprintable()


def _seconds(value: object) -> int:
    """Unix seconds from a number or an ISO 8601 text; 0 from anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError):
            return 0
    if isinstance(value, int | float) and 0 <= value < MAX_CREATED:
        return int(value)
    return 0
