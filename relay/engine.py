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
from relay.routing import LOCAL, Router, Target
from relay.types import Answer, Call, Completion, Usage

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
    usage: Usage | None = None
    usage_unasked: bool = False
    """The upstream was asked for the usage of a stream, and the client had not asked."""


class Engine:
    """Answers calls from whatever the router names."""

    def __init__(
        self,
        router: Router,
        *,
        retries: int = 0,
        ask_usage: bool = False,
        observe: Observer = ignore,
    ) -> None:
        """`ask_usage`: have upstreams tell the tokens of streams, too."""
        self.router = router
        self._ask_usage = ask_usage
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
        target, call = self._prepare(call, target, trail)
        return await self._attempt(target, call, trail, target.backend.complete)

    @asynccontextmanager
    async def stream(
        self, call: Call, trail: Trail, target: Target | None = None
    ) -> AsyncIterator[Answer]:
        """The answer once it has begun, from where `complete` would have it; leaving closes it.

        Raises:
            InvalidRequest, BackendError: as `complete`, and before anything was given.
        """
        target, call = self._prepare(call, target, trail)
        async with AsyncExitStack() as stack:

            async def begin(call: Call) -> Answer:
                return await stack.enter_async_context(target.backend.stream(call))

            yield await self._attempt(target, call, trail, begin)

    def _prepare(self, call: Call, target: Target | None, trail: Trail) -> tuple[Target, Call]:
        target = target or self.router.candidates(call)[0]
        messages = call.payload.get("messages")
        plan = None if messages is None else history.plan(messages, target.history)
        renamed = target.model is not None and target.model != call.model
        unasked = self._ask_usage and call.stream and target.name != LOCAL and _silent(call)
        trail.usage_unasked = unasked
        if plan is not None or renamed or unasked:
            try:
                call = _changed(call, plan, target.model if renamed else None, ask_usage=unasked)
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


def _silent(call: Call) -> bool:
    """Whether a call for a stream of chunks does not ask for its usage."""
    if "messages" not in call.payload:
        return False
    options = call.payload.get("stream_options")
    return options is None or (isinstance(options, dict) and not options.get("include_usage"))


def _changed(
    call: Call,
    plan: list[int | dict[str, Any]] | None,
    model: str | None,
    *,
    ask_usage: bool,
) -> Call:
    """The call with another conversation, model name or wish; every other byte of it stays."""
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
    if ask_usage:
        payload["stream_options"] = {**(payload.get("stream_options") or {}), "include_usage": True}
        edits.append(splice.member(text, places, "stream_options", payload["stream_options"]))
    return replace(call, payload=payload, body=splice.replace(text, edits))
