"""Who may come in: client keys, looked up by their SHA-256.

A request is let in when no keys are configured, or when its `authorization` header holds one of
them. Everything else, however odd (no header, two, another scheme, bytes that are no text), is one
answer: `InvalidApiKey`. Nothing is stored for a key that is wrong.
"""

import hashlib
from collections.abc import Iterable

from relay.errors import InvalidApiKey
from relay.types import ANONYMOUS, Identity

MAX_KEY_BYTES = 4096
"""Longer credentials are refused before they are hashed."""


class Keyring:
    """The keys of the configuration; only their hashes are kept."""

    def __init__(self, keys: Iterable[str]) -> None:
        digests = [hashlib.sha256(key.encode()).digest() for key in keys]
        self._identities = {digest: Identity(f"key-{digest.hex()[:8]}") for digest in digests}

    @property
    def empty(self) -> bool:
        """Whether everybody is let in."""
        return not self._identities

    def identify(self, headers: Iterable[tuple[bytes, bytes]]) -> Identity:
        """Whose request has these headers (names in lower case).

        Raises:
            InvalidApiKey: keys are needed and none of them is there.
        """
        if not self._identities:
            return ANONYMOUS
        given = [value for name, value in headers if name == b"authorization"]
        if not given:
            raise InvalidApiKey("No API key was given: send it as 'Authorization: Bearer KEY'.")
        scheme, _, key = given[0].partition(b" ")
        if len(given) > 1 or scheme.lower() != b"bearer":
            raise InvalidApiKey("Send one header 'Authorization: Bearer KEY'.")
        return self.identify_key(key)

    def identify_key(self, key: bytes) -> Identity:
        """Whose key that is.

        Raises:
            InvalidApiKey: nobody's.
        """
        if not self._identities:
            return ANONYMOUS
        if len(key) <= MAX_KEY_BYTES:
            identity = self._identities.get(hashlib.sha256(key.strip()).digest())
            if identity is not None:
                return identity
        raise InvalidApiKey("The API key is not valid here.")
