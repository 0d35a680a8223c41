"""The keys of one upstream, each in its turn, less those that it does not want just now.

    answer   the key
    429      rests as long as `retry-after` says, 5 s without it, 60 s at most
    403      rests, too: it may be what the call asks for that is forbidden, and not the key
    401      is retired until the settings are loaded anew, and somebody is told
    500-     so often in a row as opens the breaker, while another key does well: rests as long as
             the breaker stays open; then one call tries it, and its answer decides again

When only resting keys are left, the one whose rest ends first is used. When all are retired, the
one that has been so for longest is tried at once and then every 60 s, so that a stray 401 does not
end everything; it comes back when the upstream takes it. Other calls fail at once meanwhile. A key
that has no others beside it is always tried: nothing would be won by waiting.
"""

import itertools
import math
import time
from collections.abc import Callable

from relay.dialects import anthropic_request, azure
from relay.errors import UpstreamAuth
from relay.events import KeyRetired, Observer, ignore
from relay.settings import UpstreamSettings
from relay.types import RawHeaders
from relay.upstream.headers import retry_after_s
from relay.upstream.key import Key, short_name, state

REST_S = 5.0
"""How long a key rests when the upstream does not say."""

SHORTEST_REST_S = 1.0
"""Less would have the same key tried again and again by one call."""

LONGEST_REST_S = 60.0
TRIAL_S = 60.0
"""Seconds between two trials of a retired key."""


def _bearer(secret: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Bearer " + secret.encode()


_HEADERS: dict[str, Callable[[str], tuple[bytes, bytes]]] = {
    "openai": _bearer,
    "azure": azure.credentials,
    "anthropic": anthropic_request.credentials,
}
"""By the kind of an upstream, the header that carries its key."""


class KeyPool:
    """The `Keys` of `api_keys`. While all are well, `take` is nothing but the next in turn."""

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        observe: Observer = ignore,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` is a clock in seconds."""
        header = _HEADERS[settings.kind]
        secrets = [secret.get_secret_value() for secret in settings.api_keys]
        self._upstream = settings.name
        self._breaker = settings.breaker
        self._observe = observe
        self._now = now
        self._keys = [
            Key(header(secret), short_name(position, secret))
            for position, secret in enumerate(secrets, start=1)
        ]
        self._next: Callable[[], Key] = itertools.cycle(self._keys or [Key(None, "")]).__next__
        self._tried_at = -math.inf
        self.take = self._next

    async def fetch(self) -> Key:
        """The next key. Raises: UpstreamAuth."""
        return self.take()

    def refused(self, key: Key, status: int, headers: RawHeaders, /) -> bool:
        """The upstream answered 401, 403 or 429; returns whether another key may be tried now."""
        if key.header is None:
            return False
        now = self._now()
        if status == 401:
            self._retire(key, now)
        else:
            if status == 429:
                self.accepted(key)  # it is known there, and has only been used too much
            asked_s = retry_after_s(headers)
            rest_s = REST_S if asked_s is None else min(asked_s, LONGEST_REST_S)
            key.rests_until = max(key.rests_until, now + max(rest_s, SHORTEST_REST_S))
        self.take = self._choose
        return any(other.usable(now) for other in self._keys)

    def failed(self, key: Key) -> None:
        """The upstream answered 500 or above: the key's own matter while another one does well."""
        if key.header is None or key.retired_at is not None:
            return
        key.failures += 1
        key.on_trial = True
        # When all fail it is the upstream, which has a breaker of its own.
        now = self._now()
        often = key.failures >= self._breaker.failures
        if often and any(one.usable(now) and not one.failures for one in self._keys):
            key.tripped = True
            self._rest(key)
            self.take = self._choose

    def accepted(self, key: Key) -> None:
        """The upstream took a key; one on trial is back."""
        if not key.on_trial:
            return
        if key.tripped:
            key.rests_until = 0.0
        key.tripped = key.on_trial = False
        key.retired_at = None
        key.failures = 0

    def states(self) -> list[dict[str, object]]:
        """Each key as `{"key", "state", "until_s"}`."""
        now = self._now()
        rows = []
        for key in self._keys:
            if key.retired_at is not None:
                rows.append(state(key, "retired"))
            elif key.rests_until > now:
                rows.append(state(key, "resting", key.rests_until - now))
            else:
                rows.append(state(key, "ok"))
        return rows

    async def aclose(self) -> None:
        """Nothing runs."""

    def _retire(self, key: Key, now: float) -> None:
        if key.retired_at is None:
            self._observe(KeyRetired(self._upstream, key.which))
        key.retired_at = now
        key.on_trial = False

    def _rest(self, key: Key) -> None:
        key.rests_until = max(key.rests_until, self._now() + self._breaker.open_s)

    def _choose(self) -> Key:
        """The next key while not all are well."""
        now = self._now()
        if all(key.usable(now) and not key.tripped for key in self._keys):
            self.take = self._next
            return self._next()
        for _ in self._keys:
            key = self._next()
            if key.usable(now):
                if key.tripped:
                    self._rest(key)  # for all others, until this call has been answered
                return key
        resting = [key for key in self._keys if key.retired_at is None]
        if resting:
            return min(resting, key=lambda key: key.rests_until)
        if len(self._keys) > 1 and now - self._tried_at < TRIAL_S:
            raise UpstreamAuth(
                f"The upstream '{self._upstream}' refuses the relay's key; it is tried again every "
                f"{TRIAL_S:g} s."
            )
        self._tried_at = now
        key = min(self._keys, key=lambda key: key.retired_at or 0.0)
        key.on_trial = True
        return key
