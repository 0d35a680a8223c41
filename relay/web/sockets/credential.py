"""Where a WebSocket's handshake has its key: browsers can set no header.

authorization                     Bearer KEY
sec-websocket-protocol            relay, key.KEY
sec-websocket-protocol            …, openai-insecure-api-key.KEY (as OpenAI's clients do)
the first frame                   {"key": "KEY"}, on /ws only
"""

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from starlette.types import Scope

from relay.errors import InvalidApiKey
from relay.keys import Keyring
from relay.types import Identity
from relay.web.client import peer

SUBPROTOCOL = "relay"
KEY_PREFIXES = ("key.", "openai-insecure-api-key.")

Credential = Callable[[Keyring], Identity | Awaitable[Identity]]
"""What a socket came with: a keyring tells whose it is, or raises what it always does."""


def credential_of(scope: Scope) -> Credential | None:
    """The key of a handshake; None when it has none.

    Raises:
        InvalidApiKey: it has several.
    """
    headers = scope["headers"]
    keys = [
        protocol.removeprefix(prefix)
        for protocol in scope["subprotocols"]
        for prefix in KEY_PREFIXES
        if protocol.startswith(prefix)
    ]
    bearers = sum(name == b"authorization" for name, _ in headers)
    if len(keys) + bearers > 1:
        raise InvalidApiKey("Send one API key: in the header, or as one subprotocol.")
    if bearers:
        return lambda keyring: keyring.identify(headers, partial(peer, scope))
    return key_credential(keys[0], scope) if keys else None


def key_credential(key: str, scope: MutableMapping[str, Any]) -> Credential:
    """A key that stood elsewhere; the handshake's origin and address go with it."""
    given, headers = key.encode("utf-8", "replace"), scope["headers"]
    return lambda keyring: keyring.identify_key(given, headers, partial(peer, scope))


def no_credential(keyring: Keyring) -> Identity | Awaitable[Identity]:
    """That of somebody who needs none."""
    return keyring.identify(())


async def identity_of(credential: Credential, keyring: Keyring) -> Identity:
    """Whose it is now. Raises: as `Keyring.identify`."""
    found = credential(keyring)
    return found if isinstance(found, Identity) else await found


def without_keys(protocols: list[str]) -> list[str]:
    """The subprotocols that are not ours: those that may go on to an upstream."""
    return [one for one in protocols if one != SUBPROTOCOL and not one.startswith(KEY_PREFIXES)]
