"""The public keys of one identity provider, fetched when they are needed and kept.

a key is there                     it is used; older than an hour, newer ones are fetched beside
it is not there                    they are fetched, at most every 5 s, by one task for all
they cannot be fetched             those from before are kept
"""

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any

from relay.errors import RelayError

FetchKeys = Callable[[str], Awaitable[bytes]]
"""Gives the body at a URL, within a time limit of its own. Raises: RelayError."""

ParseKeys = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Usable keys of a JWK set, by their `kid`. Raises: TypeError, ValueError."""

FRESH_S = 3600.0
AGAIN_S = 5.0
WAIT_S = 3.0
"""The longest that a request waits for them."""

MAX_BYTES = 1024 * 1024
DISCOVERY = "/.well-known/openid-configuration"

_log = logging.getLogger("relay.keys")


class Jwks:
    """`changed` is called when the keys are not the same any more."""

    def __init__(
        self,
        issuer: str,
        url: str | None,
        *,
        fetch: FetchKeys,
        parse: ParseKeys,
        check_url: Callable[[str], str],
        changed: Callable[[], None],
    ) -> None:
        self.known = False
        self._issuer = issuer
        self._url = url
        self._fetch = fetch
        self._parse = parse
        self._check_url = check_url
        self._changed = changed
        self._keys: Mapping[str, Any] = {}
        self._asked_at = -math.inf
        self._asking: asyncio.Task[None] | None = None

    def find(self, kid: str | None) -> Any | None:
        """The key of that id; without an id the only one there is."""
        if self.known and monotonic() - self._asked_at > FRESH_S:
            self._ask()
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def may_ask(self) -> bool:
        """Whether it is time to have them fetched again."""
        return monotonic() - self._asked_at >= AGAIN_S

    async def renew(self) -> None:
        """Have them fetched, if it is time; failures are not told."""
        if self._asking is None and self.may_ask():
            self._ask()
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=WAIT_S)

    async def aclose(self) -> None:
        """Ask no longer."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    def _ask(self) -> None:
        if self._asking is None:
            self._asked_at = monotonic()
            self._asking = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        try:
            url = self._url or await self._discover()
            keys = self._parse(_object(await self._fetch(url)))
        except (RelayError, ValueError, LookupError, TypeError) as exc:
            fields = {"issuer": self._issuer, "error": getattr(exc, "message", str(exc))}
            _log.warning("issuer_keys_unread", extra={"fields": fields})
        else:
            if keys.keys() != self._keys.keys():
                self._changed()
            self._keys, self.known = keys, True
        finally:
            self._asking = None

    async def _discover(self) -> str:
        document = _object(await self._fetch(self._issuer.rstrip("/") + DISCOVERY))
        if document["issuer"] != self._issuer:
            raise ValueError("its discovery document is of another issuer")
        return self._check_url(document["jwks_uri"])


def _object(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BYTES:
        raise ValueError("its answer is too long")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise TypeError("its answer is no JSON object")
    return found
