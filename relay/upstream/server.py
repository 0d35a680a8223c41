"""What an upstream is to the relay, beyond a backend: it can be probed, and it has keys."""

from typing import Protocol

from relay.types import Backend


class Upstream(Backend, Protocol):
    """A backend that is a server somewhere."""

    async def probe(self, limit_s: float) -> None:
        """See whether a connection can be made; asks nothing on it.

        Raises:
            UpstreamUnreachable, ConnectTimeout: it cannot, or not within `limit_s`.
        """
        ...

    def drop_idle(self) -> None:
        """Use no connection again that is idle now; to be called in the event loop."""
        ...

    def waiting(self) -> int:
        """How many calls wait for one of `max_parallel`."""
        ...

    def keys(self) -> list[dict[str, object]]:
        """Each key as `{"key", "state", "until_s"}`, for people.

        `key` is `1 (a1b2c3d4)`, its position and the beginning of its SHA-256; `state` is `ok`,
        `resting` or `retired`; `until_s` are seconds from now, or None.
        """
        ...
