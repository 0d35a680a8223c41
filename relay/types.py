"""The values that travel between the layers, and the one protocol that answers calls.

    web --Call--> engine --Call--> Backend --> Completion            (one body)
                                           \\-> Answer, bytes by bytes (a stream)

None of them is changed once it is made; a changed call is a new one (`dataclasses.replace`).
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from dataclasses import dataclass as value  # with frozen=True the type checker sees to it
else:

    def value(*, frozen: bool):  # noqa: ARG001
        """A dataclass that is not frozen at run time: that would cost 3 us for each call."""
        return dataclass(slots=True)


RawHeaders = Sequence[tuple[bytes, bytes]]
"""Header pairs as they stand on the wire; names in lower case."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be used; None is no limit. Tokens and requests are per minute, sliding."""

    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    budget_nano: int | None = None
    """Nano-dollars in each `budget_window`, which begins at midnight UTC, on Monday, on the 1st."""
    budget_window: Literal["day", "week", "month", "total"] = "total"
    requests: int | None = None
    """In all; for tokens that a browser holds."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Where limits hold: a key, its team, or a token, by its id."""

    id: str
    limits: Limits
    begins_at: float = 0.0
    """Since when a total counts, in seconds since the epoch."""
    ends_at: float | None = None
    """When it opens nothing any more, so that its counts may be forgotten."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling, once the door has let them in.

    `key_id` and `team_id` are "" where there is none. A call counts at all of its `holders`; where
    there are none, nothing is counted.
    """

    name: str
    key_id: str = ""
    team_id: str = ""
    models: tuple[tuple[str, ...], ...] = ()
    """Lists of patterns, each of which has to allow a model: of the key, its team, its token."""
    holders: tuple[Holder, ...] = ()
    keep_bodies: bool = False
    group: str = field(init=False, compare=False)
    """Who is counted in one place: a team and its keys, or a key and its tokens."""
    counts_tokens: bool = field(init=False, compare=False)
    """Whether any of them has a limit that a call's tokens, or what they cost, count at."""
    counts_money: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        first = self.holders[0].id if self.holders else ""
        limits = [holder.limits for holder in self.holders]
        money = any(one.budget_nano is not None for one in limits)
        object.__setattr__(self, "group", self.team_id or self.key_id or first)
        object.__setattr__(self, "counts_money", money)
        object.__setattr__(
            self, "counts_tokens", money or any(one.tpm is not None for one in limits)
        )


ANONYMOUS = Identity("anonymous")


@value(frozen=True)
class TimeLimits:
    """The four time limits of one call, in seconds."""

    connect_s: float
    first_byte_s: float
    idle_s: float
    total_s: float


@value(frozen=True)
class Call:
    """One request to a model API.

    `body` is what would be sent: the client's own bytes unless something had to change. `payload`
    is the same, parsed, to look at and never to write to. `headers` are those of the client that
    may travel on. `path` is relative to the base URL, without a leading slash, and may end in a
    query.

    `content`, when given, is the body instead: read piece by piece, once, while it is sent. It has
    `content_length` bytes, or goes out chunked when that is None. What it raises ends the call and
    comes out of it.
    """

    path: str
    body: bytes = b""
    payload: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    stream: bool = False
    request_id: str = ""
    identity: Identity = ANONYMOUS
    headers: RawHeaders = ()
    method: str = "POST"
    content: AsyncIterable[bytes] | None = None
    content_length: int | None = None
    timeouts: Mapping[str, float] | None = None
    """What the request asked for, by name, in seconds; each target grants its own."""
    limits: TimeLimits | None = None
    """In place of the upstream's own; set for an attempt."""
    for_target: "Callable[[str], Call] | None" = None
    """Gives the call that a target of that name gets, when its form depends on who answers."""
    rename: "Callable[[Call, str], Call] | None" = None
    """Gives the call with another model's name, when its body does not name it as JSON does."""


class Usage(NamedTuple):
    """The tokens of one answer, as its target counted them; the lower ones are parts of the upper.

    `cached_tokens` (read from a cache) and `cache_write_tokens` are of the prompt,
    `reasoning_tokens` of the completion, `audio_tokens` of both: `audio_completion_tokens` of them
    of the completion. `heard_ms` is the sound of an answer that is counted by time, not by tokens.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    cache_write_tokens: int = 0
    audio_completion_tokens: int = 0
    heard_ms: int = 0


@value(frozen=True)
class Completion:
    """A whole answer: status below 400, the headers that may travel on, the body as it came."""

    status: int
    headers: RawHeaders
    body: bytes


class Answer(Protocol):
    """An answer that has begun: its status is known and its first bytes are in hand.

    Iterating gives the body's bytes as they arrive; raises only `BackendError`s. An answer may also
    have `pour(sink)`, to be awaited, which gives each piece to a function instead, and awaits what
    that returns, if anything, before the next piece: waking a task for each piece costs more than
    that. What came together with the end is not given to it, but returned.
    """

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> RawHeaders: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Backend(Protocol):
    """Something that answers calls: an upstream server or a model in this process.

    Raises only `BackendError` and its children, and what a call's `content` raises. Cancelling a
    call closes whatever it had opened.
    """

    @property
    def name(self) -> str: ...

    async def complete(self, call: Call) -> Completion:
        """Answer with one body."""
        ...

    def stream(self, call: Call) -> AbstractAsyncContextManager[Answer]:
        """Answer piece by piece.

        Entering means that the answer has begun (status known, first bytes held); leaving means
        that everything is closed, also on cancellation.
        """
        ...

    async def aclose(self) -> None:
        """Give back every connection, thread and model."""
        ...
