"""What a process notes for traces: each request, and each attempt at a target within it.

    door, turn --enter--> Trace (of this context) <--attempt-- backends, as `traced.py` wraps them
                            `--observe RequestEnded--> Ended --> SpanSender, in a thread

A span is made of that later, in a thread. Which trace a request belongs to stands in a context
variable: tasks that a request begins, such as those of a hedge, know it without being told.
"""

import random
from contextvars import ContextVar
from time import perf_counter, time
from typing import NamedTuple, Protocol

from relay.errors import RelayError, UpstreamStatus
from relay.events import AttemptLost, Event, Observer, RequestEnded, ignore
from relay.telemetry import trace_context
from relay.telemetry.labels import OTHER, path_class
from relay.types import Call, RawHeaders

_BITS_64 = (1 << 64) - 1


class Peer(NamedTuple):
    """What is known of a target from the configuration."""

    name: str
    provider: str
    address: str = ""
    port: int = 0


class Trace:
    """One request's place in a trace; `over` once it has ended.

    Ids need not be secret, as those of requests: a system call costs ten times this.
    """

    __slots__ = ("_sender", "attempts", "flags", "id", "over", "parent", "span", "state")

    def __init__(self, parent: trace_context.Parent | None, share: int, sender: "Sender") -> None:
        """Without a parent, the trace is sampled whose last 64 bits are below `share`."""
        if parent is None:
            self.id = random.getrandbits(128) or 1
            self.flags = int(self.id & _BITS_64 < share)
            self.state = b""
        else:
            self.id, _, self.flags, self.state = parent
        self.parent = parent
        self.span = random.getrandbits(64) or 1
        self.over = False
        self.attempts: list[Attempt] = []
        self._sender = sender

    @property
    def sampled(self) -> bool:
        """Whether anybody will see it."""
        return bool(self.flags & trace_context.SAMPLED)

    def headers(self, given: RawHeaders, span: int) -> RawHeaders:
        """The headers of a call that is made in that span."""
        return trace_context.write(given, self.id, span, self.flags, self.state)

    def begin(self, peer: Peer, call: Call) -> "Attempt":
        """An attempt at that target."""
        attempt = Attempt(self, peer, call, len(self.attempts) + 1)
        self.attempts.append(attempt)
        return attempt

    def end(self, event: RequestEnded) -> None:
        """The request is over. What answers for a session ends many: each has a span of its own."""
        span = random.getrandbits(64) or 1 if self.over else self.span
        done = [one for one in self.attempts if one.duration_s is not None]
        self.over, self.attempts = True, []  # each of them knows its trace: no circles
        if path_class(event.path) != OTHER:
            self._sender.put(Ended(self, span, event, done))

    def end_late(self, attempt: "Attempt") -> None:
        """An attempt is over whose answer others were still waiting for."""
        self._sender.put(Ended(self, self.span, None, [attempt]))


class Attempt:
    """One attempt at a target: `at` is since the epoch, the others are seconds from there.

    `status` is 0 until there is an answer; `error` is a word, `message` our own text. It was `lost`
    if it was cancelled since another one had answered.
    """

    __slots__ = (
        "_began",
        "_trace",
        "asked",
        "at",
        "cancelled",
        "duration_s",
        "error",
        "first_byte_s",
        "late",
        "message",
        "number",
        "peer",
        "span",
        "status",
    )

    def __init__(self, trace: Trace, peer: Peer, call: Call, number: int) -> None:
        self.span = random.getrandbits(64) or 1
        self.number = number
        self.peer = peer
        self.asked = Asked(call.method, call.path, _model_of(call), call.stream)
        self.at = time()
        self.first_byte_s: float | None = None
        self.duration_s: float | None = None
        self.status = 0
        self.error = ""
        self.message = ""
        self.cancelled = False
        self.late = False
        self._trace = trace
        self._began = perf_counter()

    @property
    def lost(self) -> bool:
        """Whether another one was faster."""
        return self.late and self.cancelled

    def answered(self, status: int) -> None:
        """Its status is known, and its first bytes are in hand."""
        self.status = status
        self.first_byte_s = perf_counter() - self._began

    def end(self, exc: BaseException | None = None) -> None:
        """It is over, by that if not by itself."""
        self.duration_s = perf_counter() - self._began
        if exc is not None:
            self._fail(exc)
        if self._trace.over:
            self._trace.end_late(self)

    def _fail(self, exc: BaseException) -> None:
        if not isinstance(exc, Exception):
            self.cancelled = True
            return
        self.error = exc.name if isinstance(exc, RelayError) else type(exc).__name__
        if isinstance(exc, RelayError):
            self.message = exc.message
        if isinstance(exc, UpstreamStatus):
            self.status, self.error = exc.status, str(exc.status)


class Asked(NamedTuple):
    """What is told of a call; the call itself would keep its body."""

    method: str
    path: str
    model: str
    stream: bool


class Ended(NamedTuple):
    """What spans are made of: a request, unless that was over before, and its attempts."""

    trace: Trace
    span: int
    event: RequestEnded | None
    attempts: list[Attempt]


class Sender(Protocol):
    """Takes what has ended; never blocks."""

    def put(self, ended: Ended, /) -> None: ...
    def start(self) -> None: ...
    async def aclose(self) -> None: ...


_current: ContextVar[Trace | None] = ContextVar("relay_trace", default=None)


def current() -> Trace | None:
    """The trace of what runs here; None when that belongs to no request, or not any more."""
    trace = _current.get()
    return None if trace is None or trace.over else trace


class Traces:
    """Traces a part of the requests: `sample` of those that do not say whether they want it."""

    def __init__(self, sender: Sender, *, sample: float) -> None:
        self.observe: Observer = self._observe
        self._sender = sender
        self._share = round(sample * (_BITS_64 + 1))  # as OpenTelemetry's own sampler has it

    def start(self) -> None:
        """Begin to send; to be called in the process that serves."""
        self._sender.start()

    async def aclose(self) -> None:
        """Send what is left, or give it up soon."""
        await self._sender.aclose()

    def enter(self, headers: RawHeaders) -> None:
        """What runs in this context from here on belongs to the request with those headers."""
        _current.set(Trace(trace_context.read(headers), self._share, self._sender))

    def _observe(self, event: Event, /) -> None:
        trace = _current.get()
        if trace is None or not trace.sampled:
            return
        if isinstance(event, RequestEnded):
            trace.end(event)
        elif isinstance(event, AttemptLost):
            for attempt in trace.attempts:
                # The one that has won may be at the same target; it is not cancelled.
                attempt.late = attempt.late or attempt.peer.name == event.target


class NoTraces:
    """Notes nothing."""

    observe: Observer = staticmethod(ignore)

    def start(self) -> None:
        """Nothing is sent."""

    async def aclose(self) -> None:
        """Nor is anything left."""

    def enter(self, headers: RawHeaders) -> None:
        """It belongs to no trace."""


NO_TRACES = NoTraces()


def _model_of(call: Call) -> str:
    model = call.payload.get("model")
    return model if isinstance(model, str) else call.model
