"""What happened, for those who watch: logs now, metrics and traces with them.

An observer is a callable that takes an event; it never blocks and never raises.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from relay.types import Usage


class RequestEnded(NamedTuple):
    """One request is over, whatever became of it; a turn of a WebSocket is one, too.

    A tuple that begins as a row of the ledger does, so that making that row costs nothing.

    Times in seconds: `at` is when it began, since the epoch, `first_token_s` (of streams) and
    `duration_s` count from there. `model` is what was asked for, `served` what the target calls it;
    `attempts` are those at targets, `lost_attempts` of them were cancelled since another one was
    faster. `usage`, and what the ledger has of its tokens, is None when nothing was used or nobody
    told; `estimated` marks it as ours. `cost_nano`, in nano-dollars, is None where it has no price.
    `error` is the code of the error that the client was told, or its type; a stream that broke off
    has one beside its status 200.
    """

    at: float
    request_id: str
    key_id: str
    team_id: str
    caller: str
    path: str
    model: str
    served: str
    target: str
    attempts: int
    lost_attempts: int
    status: int
    error: str
    stream: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    audio_tokens: int | None
    estimated: bool
    cost_nano: int | None
    first_token_s: float | None
    duration_s: float
    method: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """One attempt at a target failed; `error` is our own text, never a body or a key."""

    request_id: str
    target: str
    attempt: int
    error: str


@dataclass(frozen=True, slots=True)
class AttemptLost:
    """One of two attempts at the same time was cancelled, since the other had answered."""

    request_id: str
    target: str
    attempt: int


@dataclass(frozen=True, slots=True)
class KeyRetired:
    """An upstream refused one of its keys (401), which is not used again until a reload.

    `which` is its position and the beginning of its SHA-256: `2 (a1b2c3d4)`.
    """

    upstream: str
    which: str


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The configuration was read again; `changed` names the settings that hold now, and did not."""

    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RestartNeeded:
    """The configuration names other values for these settings, which only a restart applies."""

    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReloadRefused:
    """The configuration was read again and is wrong, so the old one still holds."""

    error: str


@dataclass(frozen=True, slots=True)
class ModeChanged:
    """The mode was set, or its side moved: `serving` is remote or local from now on."""

    mode: str
    serving: str
    reason: str


Event = (
    RequestEnded
    | AttemptFailed
    | AttemptLost
    | KeyRetired
    | ModeChanged
    | Reloaded
    | RestartNeeded
    | ReloadRefused
)


class Observer(Protocol):
    """Someone who is told."""

    def __call__(self, event: Event, /) -> None: ...


def ignore(_: Event, /) -> None:
    """The observer of those who do not want to know."""


def both(one: Observer, other: Observer) -> Observer:
    """Whoever tells this one tells those two; `ignore` costs nothing."""
    if other is ignore:
        return one
    if one is ignore:
        return other

    def observe(event: Event, /) -> None:
        one(event)
        other(event)

    return observe
