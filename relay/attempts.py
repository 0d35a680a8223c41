"""Attempts at targets: what they leave behind, and two of them at once (hedging)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from relay.events import AttemptLost, Observer
from relay.first_token import ByFirstToken
from relay.limits import Reservation
from relay.routing import Target
from relay.types import Answer, Call, Usage
from relay.usage import estimate_answer, estimate_tokens, usage_in_body

CLIENT_LEFT = 499
"""The status that is noted for a client that left; nobody receives it."""


class Tally(Protocol):
    """Has counted the tokens of a stream, as far as it got."""

    @property
    def usage(self) -> Usage | None: ...
    def estimate(self) -> int | None:
        """Tokens of what was written; None when the target has told them."""
        ...


@dataclass(slots=True)
class Trail:
    """What one request went through; filled in as it goes, read when its head is written.

    `model` is what the client asked for, `served` what the target calls it. `prompt` is the body of
    a call that names a model. `first_byte_at` is of the answer, on the clock of `perf_counter`.
    """

    target: str = ""
    attempts: int = 0
    lost_attempts: int = 0
    """Those that were cancelled, since another target was faster."""
    upstream_s: float = 0.0
    model: str = ""
    served: str = ""
    stream: bool = False
    prompt: bytes = b""
    first_byte_at: float = 0.0
    body: bytes | None = None
    """A whole answer, whose tokens are read when they are asked for."""
    usage: Usage | None = None
    written_tokens: int | None = None
    """An estimate of what a stream has brought; None when its target has told, or not streamed."""
    usage_unasked: bool = False
    """The upstream was asked for the usage of a stream, and the client had not asked."""
    shared: bool = False
    """Its answer came by another request's call, which counts the tokens and attempts."""
    error: str = ""
    """The code of the error that the client was told, or its type."""
    reservation: Reservation | None = None
    """What its caller's limits were asked for; whoever ends the request settles it."""

    def follow(self, other: "Trail") -> None:
        """This request had its answer by another one's call."""
        self.target, self.served = other.target, other.served
        self.attempts, self.lost_attempts = other.attempts, other.lost_attempts
        self.upstream_s = other.upstream_s

    def take_body(self, body: bytes) -> None:
        """Have the tokens of a whole answer counted, later: it can be on its way before that."""
        self.body = body

    def take_stream(self, told: "Tally") -> None:
        """What a stream's watcher has counted; to be called when the stream is over."""
        self.usage = told.usage
        self.written_tokens = told.estimate()

    def used(self, status: int) -> tuple[Usage | None, bool]:
        """The tokens of a request that ended so, and whether they are an estimate.

        What an upstream refused, or failed to answer, has used none. Of one that the client gave up
        nobody tells what it cost, so that is estimated, too.
        """
        if self.shared:
            return Usage(), False
        if self.body is not None:
            body, self.body = self.body, None
            self.usage = usage_in_body(body)
            if self.usage is None:
                self.written_tokens = estimate_answer(body)
        if self.usage is not None and self.written_tokens is None:
            return self.usage, False
        if not (self.attempts and self.prompt and (status < 400 or status == CLIENT_LEFT)):
            return self.usage, False
        written = self.written_tokens or 0
        if self.usage is None:
            return Usage(estimate_tokens(self.prompt), written), True
        if written > self.usage.completion_tokens:
            return self.usage._replace(completion_tokens=written), True
        return self.usage, True


@dataclass(slots=True)
class Opened:
    """A stream that has begun: its first bytes are in hand. Whoever has it closes it."""

    context: AbstractAsyncContextManager[Answer]
    answer: Answer
    target: Target
    trial: int
    """What `Health.begin` gave."""
    unasked: bool

    async def close(self) -> None:
        """Close the target's answer, wherever it stands."""
        try:
            await self.context.__aexit__(None, None, None)
        finally:
            self.target.health.end(self.trial)


class Streaming(AbstractAsyncContextManager[Answer]):
    """A stream from its first bytes, on entering, to its end, on leaving.

    A class, since what `contextlib` makes of a generator costs 4 us a stream.
    """

    __slots__ = ("_open", "_opened")

    def __init__(self, open_: Callable[[], Awaitable[Opened]]) -> None:
        self._open = open_

    async def __aenter__(self) -> Answer:
        self._opened = await self._open()
        return self._opened.answer

    def __aexit__(self, *_: object) -> Coroutine[Any, Any, None]:
        return self._opened.close()


Result = TypeVar("Result")
Ask = Callable[[Target, Call, Trail], Awaitable[Result]]


class Hedge(Generic[Result]):
    """Two targets, the second asked when the first is late: whoever answers first has won.

    A stream has answered with its first token. `asked` is how many were. The loser is cancelled,
    and told of as an `AttemptLost`.
    """

    def __init__(
        self,
        ask: Ask[Result],
        targets: Sequence[Target],
        call: Call,
        trail: Trail,
        observe: Observer,
    ) -> None:
        self.asked = 0
        self._ask = ask
        self._targets = targets
        self._call = call
        self._trail = trail
        self._observe = observe
        self._open: dict[asyncio.Task[Result], Target] = {}

    async def run(self, after_s: float) -> Result:
        """The first answer.

        Raises:
            BackendError: the first target failed before the second was asked, or both failed.
        """
        try:
            self._begin()
            done, _ = await asyncio.wait(self._open, timeout=after_s)
            if not done:
                self._begin()
            while True:
                done, _ = await asyncio.wait(self._open, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    target = self._open.pop(task)
                    if task.exception() is None or not self._open:
                        self._trail.target = target.name
                        self._trail.served = target.model or self._call.model
                        self._trail.lost_attempts += len(self._open)
                        return task.result()
        finally:
            await self._cancel()

    def _begin(self) -> None:
        target = self._targets[self.asked]
        target = replace(target, backend=ByFirstToken(target.backend))
        self.asked += 1
        work = _run(self._ask(target, self._call, self._trail))
        self._open[asyncio.get_running_loop().create_task(work)] = target

    async def _cancel(self) -> None:
        for task, target in self._open.items():
            task.cancel()
            lost = AttemptLost(self._call.request_id, target.name, self._trail.attempts)
            self._observe(lost)
        for result in await asyncio.gather(*self._open, return_exceptions=True):
            if isinstance(result, Opened):  # it won as well, a moment too late
                await result.close()


async def _run(work: Awaitable[Result]) -> Result:
    return await work
