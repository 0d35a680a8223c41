"""Short-lived tokens that a browser may hold, `ek-…`: made from a key, and never more than it.

    ek-BASE64URL(payload).BASE64URL(signature)
    payload    {"k": the key's id, "t": its own, "i", "e": from and until when,
                "m": models, "o": origins, "n": requests in all}
    signature  HMAC-SHA256 by a key that is derived from the digest of the parent, and the setting
               token_secret if there is one

Whoever knows the parent can check it, so every replica can, without asking anybody. It ends with
its parent: the digest of a revoked or replaced key is not there any more.
"""

import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from time import time
from typing import Any, NamedTuple

import orjson

from relay.errors import (
    InvalidRequest,
    ModelNotAllowed,
    NotPermitted,
    OriginNotAllowed,
)
from relay.keys.credential import digest as digest_of
from relay.keys.credential import unknown_key
from relay.keys.entry import Entry
from relay.keys.guard import Guard
from relay.keys.models import allows
from relay.origins import OriginList
from relay.types import Holder, Limits

PREFIX = b"ek-"
PURPOSE = b"relay client secret\0"
MAX_TOKEN_BYTES = 2048
"""It has to fit into a header, and into the handshake of a WebSocket."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a token shall be for; what is None is as with its parent."""

    expires_in_s: int
    models: tuple[str, ...] | None = None
    origins: tuple[str, ...] | None = None
    max_requests: int | None = None


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A token and its end, in seconds since the epoch."""

    value: str
    expires_at: int


class Token(NamedTuple):
    """What a token says, none of it to be trusted before its signature is checked.

    `parent` is the id of the key from which it was made.
    """

    signed: bytes
    signature: bytes
    parent: str
    payload: dict[str, Any]


class ClientSecrets:
    """Makes and reads them. `digests` are those of a key's id, `find` gives what one opens."""

    def __init__(
        self,
        digests: Callable[[str], Iterable[bytes]],
        find: Callable[[bytes], Entry | None],
        *,
        secret: bytes = b"",
    ) -> None:
        self._digests = digests
        self._find = find
        self._secret = secret

    def mint(self, key: bytes, wish: Wish) -> ClientSecret:
        """A token for whoever shows that key.

        Raises:
            NotPermitted: it is a token itself.
            ModelNotAllowed, OriginNotAllowed: the key may not do what is wished for.
            InvalidRequest: so many names do not fit into a token.
        """
        digest = digest_of(key.strip())
        parent = self._find(digest)
        if parent is None:
            raise NotPermitted(
                "A browser token is made with an API key; another token cannot make one."
            )
        _check(parent, wish)
        now = int(time())
        ends_at = int(min(now + wish.expires_in_s, parent.ends_at))
        payload: dict[str, Any] = {
            "k": parent.identity.key_id,
            "t": secrets.token_hex(8),
            "i": now,
            "e": ends_at,
        }
        for name, wished in (("m", wish.models), ("o", wish.origins), ("n", wish.max_requests)):
            if wished is not None:
                payload[name] = wished
        signed = _encoded(json.dumps(payload, separators=(",", ":")).encode())
        value = PREFIX + signed + b"." + _encoded(self._signature(digest, signed))
        if len(value) > MAX_TOKEN_BYTES:
            raise InvalidRequest("So many models and origins do not fit into a token.")
        return ClientSecret(value.decode(), ends_at)

    def read(self, token: bytes) -> Token:
        """What a token says.

        Raises:
            InvalidApiKey: it is none.
        """
        signed, _, signature = token.removeprefix(PREFIX).partition(b".")
        try:
            payload = orjson.loads(_decoded(signed))
            parent = payload["k"]
            read = Token(signed, signature, parent, payload)
        except (ValueError, LookupError, TypeError):
            raise unknown_key() from None
        if not isinstance(parent, str):
            raise unknown_key()
        return read

    def check(self, token: Token) -> Entry:
        """What a token opens.

        Raises:
            InvalidApiKey: nothing: it is forged, or its parent is gone.
        """
        for digest in self._digests(token.parent):
            parent = self._find(digest)
            # As text: base64 has several for the same bytes.
            signature = _encoded(self._signature(digest, token.signed))
            good = hmac.compare_digest(signature, token.signature)
            if good and parent is not None:
                return _entry(parent, token.payload)
        raise unknown_key()

    def _signature(self, digest: bytes, signed: bytes) -> bytes:
        key = hmac.digest(digest, PURPOSE + self._secret, "sha256")
        return hmac.digest(key, signed, "sha256")


def _check(parent: Entry, wish: Wish) -> None:
    for model in wish.models or ():
        if "*" not in model and not allows(parent.identity, model):
            raise ModelNotAllowed(f"The key itself may not use '{model}'.", param="models")
    for origin in wish.origins or ():
        if parent.guard is not None and not parent.guard.allows_origin(origin.encode()):
            raise OriginNotAllowed(
                f"The key itself may not be used from '{origin}'.", param="origins"
            )


def _entry(parent: Entry, payload: dict[str, Any]) -> Entry:
    identity = parent.identity
    if "m" in payload:
        identity = replace(identity, models=(*identity.models, tuple(payload["m"])))
    if "n" in payload:
        limits = Limits(requests=payload["n"])
        holder = Holder(f"token_{payload['t']}", limits, payload["i"], payload["e"])
        identity = replace(identity, holders=(*identity.holders, holder))
    guard = parent.guard
    if "o" in payload:
        guard = (guard or Guard()).narrowed(OriginList(payload["o"]))
    return Entry(identity, min(payload["e"], parent.ends_at), guard)


def _encoded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _decoded(text: bytes) -> bytes:
    return urlsafe_b64decode(text + b"=" * (-len(text) % 4))
