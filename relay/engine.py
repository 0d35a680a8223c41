"""The one owner of attempts: takes a call to a target, and on to others when that is safe.

    call --history, model alias, usage--> what a target gets --attempts--> Completion | Answer

A stream is committed when its first bytes are in hand; until then another attempt may follow, after
that nothing does. What follows a failure is decided in course.py; tenacity says how often at most
and how long to wait. The usual case, a first attempt that succeeds, pays for none of it.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from time import perf_counter
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

from relay import history, splice
from relay.attempts import Ask, Hedge, Opened, Result, Streaming, Trail
from relay.course import Course
from relay.errors import BackendError, InvalidRequest, RelayError
from relay.events import AttemptFailed, Observer, ignore
from relay.flights import Flights
from relay.keys import check_model
from relay.limits import Limiter, Reservation
from relay.routing import Route, Router, Target
from relay.settings import SomeTimeouts
from relay.switch import Switch
from relay.types import Answer, Call, Completion, TimeLimits
from relay.verdict import judge

MAX_ATTEMPTS = 50
"""More than any course has; the last word against going in circles."""


FORM_BEGINS = b"--"
_ASK_USAGE = b'"stream_options": {"include_usage":true}'


READS = frozenset({"GET", "HEAD"})
"""Methods of calls that ask no model."""


class Engine:
    """Answers calls from whatever the router names."""

    def __init__(
        self,
        router: Router,
        *,
        retries: int = 0,
        ask_usage: bool = False,
        max_retry_after_s: float = 10.0,
        longest: SomeTimeouts | None = None,
        switch: Switch | None = None,
        limiter: Limiter | None = None,
        observe: Observer = ignore,
    ) -> None:
        """`ask_usage`: have upstreams tell the tokens of streams, too; of callers with limits they
        are asked for anyway. Without a `limiter` nobody has any.
        """
        self.router = router
        self._retries = retries
        self._ask_usage = ask_usage
        self._max_retry_after_s = max_retry_after_s
        self._longest = (longest or SomeTimeouts()).model_dump(exclude_none=True)
        self._switch = switch or Switch()
        self._limiter = limiter
        self._observe = observe
        self._aboard: dict[Hashable, Trail] = {}
        self._flights: Flights[tuple[Completion | RelayError, Trail]] = Flights()

    async def complete(self, call: Call, trail: Trail, target: Target | None = None) -> Completion:
        """The whole answer, from `target` or from where the router sends the call.

        Raises:
            NotPermitted: its caller may not make that call.
            RateLimited, InsufficientQuota: its caller has used what it may.
            InvalidRequest: the conversation cannot be sent as it stands.
            BackendError: nobody answered; the last attempt's failure.
        """
        begin(trail, call)
        if call.identity.models:
            check_model(call)
        route = self.router.route(call) if target is None else Route((target,))
        if call.identity.holders and (waiting := self.admit(call, trail, route)) is not None:
            await waiting
        if route.single_flight and call.content is None:
            return await self._share(route, call, trail)
        return await self._attempts(self._ask, route, call, trail)

    def stream(
        self, call: Call, trail: Trail, target: Target | None = None
    ) -> AbstractAsyncContextManager[Answer]:
        """The answer once it has begun, from where `complete` would have it; leaving closes it.

        Raises:
            NotPermitted, RateLimited, InsufficientQuota, InvalidRequest, BackendError: as
                `complete`, but on entering.
        """
        return Streaming(lambda: self._begin(call, trail, target))

    async def _begin(self, call: Call, trail: Trail, target: Target | None) -> Opened:
        begin(trail, call)
        if call.identity.models:
            check_model(call)
        route = self.router.route(call) if target is None else Route((target,))
        if call.identity.holders and (waiting := self.admit(call, trail, route)) is not None:
            await waiting
        opened = await self._attempts(self._open, route, call, trail)
        trail.usage_unasked = opened.unasked
        trail.first_byte_at = perf_counter()
        return opened

    def admit(self, call: Call, trail: Trail, route: Route) -> Awaitable[None] | None:
        """Take from its caller's limits what a call may use; lists and files count for nothing.

        What comes back, if anything, is to be awaited: then it is taken.

        Raises:
            RateLimited, InsufficientQuota, ModelNotAllowed, Overloaded: see `Limiter.reserve`.
        """
        if self._limiter is not None and call.method not in READS:
            first = route.targets[0]
            taken = self._limiter.reserve(call, first.model or call.model, first.name)
            if not isinstance(taken, Reservation):
                return _taken_later(trail, taken)
            trail.reservation = taken
        return None

    async def _share(self, route: Route, call: Call, trail: Trail) -> Completion:
        """One upstream call for all that ask the same at the same time, with the same key."""

        # Whoever has less time must not wait for those who have more.
        timeouts = frozenset((call.timeouts or {}).items())
        features = tuple(pair for pair in call.headers if pair[0].endswith(b"-beta"))
        key = (call.identity, call.method, call.path, call.body, timeouts, features)

        async def fly() -> tuple[Completion | RelayError, Trail]:
            shared = self._aboard[key] = Trail()
            try:
                return await self._attempts(self._ask, route, call, shared), shared
            except RelayError as exc:  # a failure has a trail, too
                return exc, shared
            finally:
                del self._aboard[key]

        try:
            answer, shared = await self._flights.join(key, fly)
        except asyncio.CancelledError:
            if key not in self._flights and key in self._aboard:  # the last to leave has ended it
                trail.follow(self._aboard[key])
            raise
        trail.follow(shared)
        # The first to have the answer stands for what it has cost.
        trail.shared, shared.shared = shared.shared, True
        if isinstance(answer, RelayError):
            raise answer
        return answer

    async def _attempts(self, ask: Ask[Result], route: Route, call: Call, trail: Trail) -> Result:
        targets = route.course(call)
        began = perf_counter()
        # A body that is read once has nothing left for a second target.
        if route.hedge_after_s is None or len(targets) == 1 or call.content is not None:
            target, left = targets[0], targets[1:]
            try:
                return await ask(target, call, trail)
            except BackendError as exc:
                failure = exc
        else:
            hedge = Hedge(ask, targets[:2], call, trail, self._observe)
            try:
                return await hedge.run(route.hedge_after_s)
            except BackendError as exc:
                failure = exc
            target, left = targets[hedge.asked - 1], targets[hedge.asked :]
        await self._switch.away(failure)  # whether it was the network: then the router knows
        limits = self._limits(target, call) or target.usual
        course = Course(
            self.router,
            route,
            target,
            deque(left),
            call,
            retries=self._retries,
            max_retry_after_s=self._max_retry_after_s,
            ends_at=began + (limits.total_s if limits is not None else math.inf),
        )
        return await self._go_on(ask, course, trail, failure)

    async def _go_on(
        self, ask: Ask[Result], course: Course, trail: Trail, failure: BackendError
    ) -> Result:
        """Further attempts; the loop begins with the one that has failed already."""
        retrying = AsyncRetrying(
            retry=retry_if_exception(course.goes_on_after),
            wait=course.wait,
            stop=stop_after_attempt(MAX_ATTEMPTS),
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                if attempt.retry_state.attempt_number == 1:
                    raise failure
                try:
                    return await ask(course.target, course.within_time(), trail)
                except BackendError as exc:
                    await self._switch.away(exc)
                    raise
        raise AssertionError("tenacity re-raises the last failure")  # pragma: no cover

    async def _ask(self, target: Target, call: Call, trail: Trail) -> Completion:
        """One attempt at a whole answer."""
        call = self._prepared(target, call, trail)
        health = target.health
        trial = health.begin()
        began = perf_counter()
        try:
            with self._switch.attempt(target.name):
                answer = await target.backend.complete(call)
        except BackendError as exc:
            self._failed(target, call, trail, exc)
            raise
        finally:
            health.end(trial)
            ended = perf_counter()
            trail.upstream_s += ended - began
        health.answered(ended - began, ended)
        return answer

    async def _open(self, target: Target, call: Call, trail: Trail) -> Opened:
        """One attempt at a stream, up to its first bytes."""
        call = self._prepared(target, call, trail)
        health = target.health
        trial = health.begin()
        began = perf_counter()
        context = target.backend.stream(call)
        try:
            with self._switch.attempt(target.name):
                answer = await context.__aenter__()
        except BaseException as exc:
            health.end(trial)
            if isinstance(exc, BackendError):
                self._failed(target, call, trail, exc)
            raise
        finally:
            ended = perf_counter()
            trail.upstream_s += ended - began
        health.answered(ended - began, ended)
        return Opened(context, answer, target, trial, unasked=trail.usage_unasked)

    def _failed(self, target: Target, call: Call, trail: Trail, failure: BackendError) -> None:
        judge(target.health, failure)
        self._observe(AttemptFailed(call.request_id, target.name, trail.attempts, failure.message))

    def _prepared(self, target: Target, call: Call, trail: Trail) -> Call:
        """What that target gets; from here on it counts as an attempt.

        Raises:
            InvalidRequest: the conversation cannot be sent as it stands.
        """
        if call.for_target is not None:
            call = replace(call.for_target(target.name), timeouts=call.timeouts)
        trail.target = target.name
        trail.served = target.model or call.model
        messages = call.payload.get("messages")
        plan = None if messages is None else history.plan(messages, target.history)
        renamed = target.model is not None and target.model != call.model
        if renamed and call.rename is not None:
            call, renamed = call.rename(call, target.model or ""), False
        asks = self._ask_usage or trail.reservation is not None
        unasked = asks and call.stream and _silent(call)
        trail.usage_unasked = unasked
        if plan is not None or renamed or unasked:
            try:
                call = _changed(call, plan, target.model if renamed else None, ask_usage=unasked)
            except RecursionError:  # read a few frames higher up, where it just fitted
                raise InvalidRequest("The body is nested too deeply.") from None
        if target.limits is not None or call.timeouts is not None:
            call = replace(call, limits=self._limits(target, call))
        trail.attempts += 1
        return call

    def _limits(self, target: Target, call: Call) -> TimeLimits | None:
        """The limits of a call there, if they are not the upstream's own."""
        limits = target.limits or target.usual
        if limits is None or call.timeouts is None:
            return target.limits
        granted = {}
        for name, seconds in call.timeouts.items():
            most = self._longest.get(name, getattr(limits, name))
            granted[name] = min(seconds, most)
        return replace(limits, **granted)


async def _taken_later(trail: Trail, taken: Awaitable[Reservation]) -> None:
    trail.reservation = await taken


def begin(trail: Trail, call: Call) -> None:
    """Note what is asked."""
    trail.model = call.model
    trail.stream = call.stream
    if call.model and not call.body.startswith(FORM_BEGINS):  # the bytes of a sound are no tokens
        trail.prompt = call.body


def _silent(call: Call) -> bool:
    """Whether a call for a stream of chunks does not ask for its usage."""
    if "messages" not in call.payload:
        return False
    options = call.payload.get("stream_options")
    return options is None or (isinstance(options, dict) and not options.get("include_usage"))


def _changed(
    call: Call, plan: list[int | dict[str, Any]] | None, model: str | None, *, ask_usage: bool
) -> Call:
    """The call with another conversation, model name or wish; every other byte of it stays."""
    if plan is None and model is None and "stream_options" not in call.payload:
        payload = {**call.payload, "stream_options": {"include_usage": True}}
        body = splice.append(call.body, _ASK_USAGE)  # without looking for places
        return replace(call, payload=payload, body=body)
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
