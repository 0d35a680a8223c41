"""The one owner of attempts: takes a call to its target, and again when that is safe.

    call --history, model alias--> what the target gets --attempts--> Completion | Answer

A stream is committed when its first bytes are in hand; until then an attempt may be repeated, after
that nothing is. Only a failure before anything was sent (`NothingSent`) is repeated on the same
target; tenacity says how often and how long to wait between.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, TypeVar

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from relay import history, splice
from relay.errors import BackendError, InvalidRequest, NothingSent
from relay.events import AttemptFailed, Observer, ignore
from relay.routing import Router, Target
from relay.types import Answer, Call, Completion

RETRY_FIRST_WAIT_S = 0.1
RETRY_LONGEST_WAIT_S = 2.0
RETRY_JITTER_S = 0.1

Result = TypeVar("Result")


@dataclass(slots=True)
class Trail:
    """What one request went through; filled in as it goes, read when its head is written."""

    target: str = ""
    attempts: int = 0
    upstream_s: float = 0.0


class Engine:
    """Answers calls from whatever the router names."""

    def __init__(self, router: Router, *, retries: int = 0, observe: Observer = ignore) -> None:
        self.router = router
        self._observe = observe
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(NothingSent),
            stop=stop_after_attempt(retries + 1),
            wait=wait_exponential_jitter(
                multiplier=RETRY_FIRST_WAIT_S, max=RETRY_LONGEST_WAIT_S, jitter=RETRY_JITTER_S
            ),
            reraise=True,
        )

    async def complete(self, call: Call, trail: Trail, target: Target | None = None) -> Completion:
        """The whole answer, from `target` or from where the router sends the call.

        Raises:
            InvalidRequest: the conversation cannot be sent as it stands.
            BackendError: nobody answered; the last attempt's failure.
        """
        target, call = self._prepare(call, target)
        return await self._attempt(target, call, trail, target.backend.complete)

    @asynccontextmanager
    async def stream(
        self, call: Call, trail: Trail, target: Target | None = None
    ) -> AsyncIterator[Answer]:
        """The answer once it has begun, from where `complete` would have it; leaving closes it.

        Raises:
            InvalidRequest, BackendError: as `complete`, and before anything was given.
        """
        target, call = self._prepare(call, target)
        async with AsyncExitStack() as stack:

            async def begin(call: Call) -> Answer:
                return await stack.enter_async_context(target.backend.stream(call))

            yield await self._attempt(target, call, trail, begin)

    def _prepare(self, call: Call, target: Target | None) -> tuple[Target, Call]:
        target = target or self.router.candidates(call)[0]
        messages = call.payload.get("messages")
        plan = None if messages is None else history.plan(messages, target.history)
        renamed = target.model is not None and target.model != call.model
        if plan is not None or renamed:
            try:
                call = _changed(call, plan, target.model if renamed else None)
            except RecursionError:  # read a few frames higher up, where it just fitted
                raise InvalidRequest("The body is nested too deeply.") from None
        return target, call

    async def _attempt(
        self,
        target: Target,
        call: Call,
        trail: Trail,
        ask: Callable[[Call], Awaitable[Result]],
    ) -> Result:
        trail.target = target.name
        try:
            return await self._once(call, trail, ask)
        except BackendError as exc:
            if not isinstance(exc, NothingSent):
                raise
            first = exc
        # The usual case pays for none of this; the loop begins with the attempt already made.
        async for attempt in self._retrying.copy():
            with attempt:
                if attempt.retry_state.attempt_number == 1:
                    raise first
                return await self._once(call, trail, ask)
        raise AssertionError("tenacity re-raises the last failure")  # pragma: no cover

    async def _once(
        self, call: Call, trail: Trail, ask: Callable[[Call], Awaitable[Result]]
    ) -> Result:
        trail.attempts += 1
        began = perf_counter()
        try:
            return await ask(call)
        except BackendError as exc:
            self._observe(AttemptFailed(call.request_id, trail.target, trail.attempts, exc.message))
            raise
        finally:
            trail.upstream_s += perf_counter() - began


def _changed(call: Call, plan: list[int | dict[str, Any]] | None, model: str | None) -> Call:
    """The call with another conversation or model name; every other byte of its body stays."""
    text = call.body.decode()
    places = splice.members(text)
    payload = dict(call.payload)
    edits = []
    if plan is not None:
        old = payload["messages"]
        payload["messages"] = [old[step] if isinstance(step, int) else step for step in plan]
        edits.append((places["messages"], splice.regroup(text, places["messages"], plan)))
    if model is not None:
        payload["model"] = model
        edits.append((places["model"], splice.dump(model)))
    return replace(call, payload=payload, body=splice.replace(text, edits))
