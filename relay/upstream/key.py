"""A key of an upstream, or a token in the place of one, and what hands them out."""

import hashlib
from typing import Protocol

from relay.types import RawHeaders


class Key:
    """What one call shows to its upstream.

    `header` carries it, and is None where the upstream wants none. `which` names it to people: its
    position and the beginning of its SHA-256. `failures` are those in a row, and `tripped` says
    that it rests for them; `on_trial` asks the client to say when the upstream has taken it.
    `start` is for the client that writes heads: what it has made of this key, once. Times are
    those of whoever hands keys out.
    """

    __slots__ = (
        *("failures", "header", "on_trial", "rests_until", "retired_at"),
        *("start", "tripped", "which"),
    )

    def __init__(self, header: tuple[bytes, bytes] | None, which: str) -> None:
        self.header = header
        self.which = which
        self.rests_until = 0.0
        self.retired_at: float | None = None
        self.on_trial = False
        self.failures = 0
        self.tripped = False
        self.start: bytes | None = None

    def usable(self, now: float) -> bool:
        """Whether calls may go out with it."""
        return self.retired_at is None and self.rests_until <= now


class Keys(Protocol):
    """Hands out the keys of one upstream."""

    def take(self) -> Key | None:
        """The key for the next call; None when `fetch` has to be awaited for it.

        Raises:
            UpstreamAuth: the upstream refuses all there are.
        """
        ...

    async def fetch(self) -> Key:
        """The key for the next call, as soon as there is one. Raises: UpstreamAuth."""
        ...

    def refused(self, key: Key, status: int, headers: RawHeaders, /) -> bool:
        """The upstream answered 401, 403 or 429; returns whether another key may be tried now."""
        ...

    def failed(self, key: Key) -> None:
        """The upstream answered 500 or above."""
        ...

    def accepted(self, key: Key) -> None:
        """The upstream took a key that was `on_trial`."""
        ...

    def states(self) -> list[dict[str, object]]:
        """Each key as `{"key", "state", "until_s"}`; the state is `ok`, `resting` or `retired`."""
        ...

    async def aclose(self) -> None:
        """Stop what runs in the background."""
        ...


def short_name(where: int | str, secret: str) -> str:
    """`2 (a1b2c3d4)`: tells keys apart and gives none of them away."""
    return f"{where} ({hashlib.sha256(secret.encode()).hexdigest()[:8]})"


def token(where: str, text: bytes) -> Key:
    """The bearer token that somebody printed or wrote.

    Raises:
        ValueError: it is no token: empty, of more than one word, or not printable ASCII.
    """
    found = text.strip().decode("ascii")  # its UnicodeDecodeError is a ValueError
    if not found or not found.isprintable() or " " in found:
        raise ValueError("a token is one word of printable ASCII")
    return Key((b"authorization", b"Bearer " + found.encode()), short_name(where, found))


def state(key: Key, name: str, until_s: float | None = None) -> dict[str, object]:
    """One row of `Keys.states`; `until_s` are seconds from now."""
    return {"key": key.which, "state": name, "until_s": until_s}
