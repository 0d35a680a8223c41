"""What keys look like, and where one stands in a request.

rk-…       a key of the database: 256 random bits, base64url
ek-….…     a browser token: a payload and its signature (client_secrets.py)
eyJ….….…   a token of an identity provider (issuers.py)
"""

import hashlib
import re
import secrets
from collections.abc import Iterable

from relay.errors import InvalidApiKey
from relay.types import RawHeaders

Credential = tuple[bytes, bytes]
"""A key and its SHA-256."""

KEY_BYTES = 32
MAX_KEY_BYTES = 4096
"""Longer credentials are refused before they are hashed."""

PREFIX_CHARACTERS = 11
"""As much of a key is kept to be shown: `rk-` and 48 of its 256 bits."""

_KEPT_ID = re.compile(r"key_[0-9a-f]{16}")
_VIRTUAL = re.compile(rb"rk-[A-Za-z0-9_-]{43}")
_UNKNOWN = "The API key is not valid here."


def new_key() -> str:
    """A key that nobody has."""
    return f"rk-{secrets.token_urlsafe(KEY_BYTES)}"


def new_id(kind: str) -> str:
    """An id, which need not be secret: `key_5f0c…`."""
    return f"{kind}_{secrets.token_hex(8)}"


def digest(key: bytes) -> bytes:
    """The SHA-256 under which a key is kept."""
    return hashlib.sha256(key).digest()


def looks_virtual(key: bytes) -> bool:
    """Whether it could be a key of the database; asking there for anything else is vain."""
    return _VIRTUAL.fullmatch(key) is not None


def looks_kept(key_id: str) -> bool:
    """Whether it could be the id of a key of the database."""
    return _KEPT_ID.fullmatch(key_id) is not None


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The key that these headers (names in lower case) hold.

    Raises:
        InvalidApiKey: there is none, more than one, or another scheme.
    """
    given = [value for name, value in headers if name == b"authorization"]
    if not given:
        raise InvalidApiKey("No API key was given: send it as 'Authorization: Bearer KEY'.")
    scheme, _, key = given[0].partition(b" ")
    if len(given) > 1 or scheme.lower() != b"bearer":
        raise InvalidApiKey("Send one header 'Authorization: Bearer KEY'.")
    return key


def presented(headers: RawHeaders) -> Credential:
    """The same with its hash, which is worth keeping while the same headers come again.

    Raises:
        InvalidApiKey: as `bearer`, or it is too long.
    """
    return hashed(bearer(headers))


def hashed(key: bytes) -> Credential:
    """A key as it was sent, and its hash. Raises: InvalidApiKey: it is too long."""
    if len(key) > MAX_KEY_BYTES:
        raise unknown_key()
    key = key.strip()
    return key, hashlib.sha256(key).digest()


def unknown_key() -> InvalidApiKey:
    """What is said of every key that opens nothing, whatever it looks like."""
    return InvalidApiKey(_UNKNOWN)
