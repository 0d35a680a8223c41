"""Sessions: WebSockets that an upstream serves, opened where the router sends their calls.

Asked is each target in turn, since a handshake has done nothing yet: the next one after a failure,
a 429 or a status of 500 and above, the same one while it has another key.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol, runtime_checkable
from urllib.parse import quote, unquote_plus

from relay.attempts import Trail
from relay.engine import Engine, begin
from relay.errors import BackendError, InvalidRequest, NoUpstream, UpstreamStatus
from relay.events import AttemptFailed, Observer, ignore
from relay.keys import check_model
from relay.routing import Route, Target
from relay.types import Call
from relay.upstream import UpstreamSocket, UpstreamSockets
from relay.verdict import judge

REALTIME = "realtime"
MAX_KEYS = 20
"""How many keys of one target are tried."""


@runtime_checkable
class ServesSockets(Protocol):
    """A backend that has WebSockets."""

    sockets: UpstreamSockets


@dataclass(slots=True)
class Session:
    """An open socket of a target's. Whoever has it closes it."""

    socket: UpstreamSocket
    target: Target
    trial: int

    async def close(self, code: int, reason: str) -> None:
        """Close it with that code."""
        try:
            await self.socket.close(code, reason)
        finally:
            self.target.health.end(self.trial)


class Sessions:
    """Opens sessions."""

    def __init__(self, engine: Engine, *, observe: Observer = ignore) -> None:
        self.engine = engine
        self._observe = observe

    async def open(self, call: Call, trail: Trail, subprotocols: Sequence[str]) -> Session:
        """The session that a call asks for; its reservation is on the trail.

        Raises:
            NotPermitted, RateLimited, InsufficientQuota, InvalidRequest: as calls do.
            BackendError: nobody opened it; the last attempt's failure.
        """
        begin(trail, call)
        if call.identity.models:
            check_model(call)
        route = self._route(call)
        if call.identity.holders:
            await self.admit(call, trail)
        failure: BackendError = NoUpstream("No upstream serves WebSockets for that now.")
        for target, sockets in _serving(route, call):
            for _ in range(MAX_KEYS):
                try:
                    return await self._try(target, sockets, call, trail, subprotocols)
                except BackendError as exc:
                    failure = exc
                if not failure.another_key:
                    break
            if not _may_differ(failure):
                break
        raise failure

    async def admit(self, call: Call, trail: Trail) -> None:
        """Take from its caller's limits what one response may use. Raises: as `Engine.admit`."""
        asked = replace(call, path=REALTIME)  # whatever its path is, it is one that generates
        if (waiting := self.engine.admit(asked, trail, self._route(call))) is not None:
            await waiting

    def _route(self, call: Call) -> Route:
        router = self.engine.router
        return router.route(call) if router.named and call.model else Route((router.default(),))

    async def _try(
        self,
        target: Target,
        sockets: UpstreamSockets,
        call: Call,
        trail: Trail,
        subprotocols: Sequence[str],
    ) -> Session:
        trail.target, trail.served = target.name, target.model or call.model
        trail.attempts += 1
        if call.model and target.model is not None:
            call = replace(call, path=_renamed(call.path, target.model), model=target.model)
        health = target.health
        trial = health.begin()
        began = perf_counter()
        try:
            socket = await sockets.open(call, subprotocols)
        except BaseException as exc:
            health.end(trial)
            if isinstance(exc, BackendError):
                judge(health, exc)
                self._observe(
                    AttemptFailed(call.request_id, target.name, trail.attempts, exc.message)
                )
            raise
        finally:
            ended = perf_counter()
            trail.upstream_s += ended - began
        health.answered(ended - began, ended)
        trail.first_byte_at = ended
        return Session(socket, target, trial)


def model_of(query: str) -> str:
    """The model that a query names; "" when it names none.

    Raises:
        InvalidRequest: it names several, and an upstream may take any of them.
    """
    models = [unquote_plus(value) for name, value in _pairs(query) if name == "model"]
    if len(models) > 1:
        raise InvalidRequest("The query names more than one model.", param="model")
    return models[0] if models else ""


def _serving(route: Route, call: Call) -> Iterator[tuple[Target, UpstreamSockets]]:
    for target in route.course(call):
        if isinstance(target.backend, ServesSockets):
            yield target, target.backend.sockets


def _may_differ(failure: BackendError) -> bool:
    """Whether another target may answer otherwise."""
    status = failure.status
    return not isinstance(failure, UpstreamStatus) or status == 429 or status >= 500


def _renamed(path: str, model: str) -> str:
    bare, _, query = path.partition("?")
    parts = [
        f"model={quote(model, safe='')}" if name == "model" else part
        for part, (name, _) in zip(query.split("&"), _pairs(query), strict=True)
    ]
    return f"{bare}?{'&'.join(parts)}"


def _pairs(query: str) -> list[tuple[str, str]]:
    found = []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        found.append((unquote_plus(name), value))
    return found
