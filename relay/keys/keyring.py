"""Whose key a request has: one SHA-256, one look into a table, one comparison with the clock.

    what the key is                       what follows
    known                                 who may come in, if it holds still and from there
    ek-… (a browser token)                its signature is checked, by its parent key
    a JWT, with [[issuers]]               likewise, by the issuer's public key
    rk-… that is not known                one look into the database, shared by all who wait for one
    anything else                         InvalidApiKey, always the same

Nothing is stored for a key that is wrong. While there are no keys at all, everybody is let in where
that is allowed; as soon as there is one, it is needed.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from time import time

from relay.errors import InvalidApiKey, Overloaded
from relay.keys.client_secrets import PREFIX, ClientSecrets, Token
from relay.keys.credential import (
    Credential,
    hashed,
    looks_kept,
    looks_virtual,
    presented,
    unknown_key,
)
from relay.keys.entry import Entry
from relay.keys.issuers import Issuers, looks_issued
from relay.keys.proxies import Proxies
from relay.keys.virtual import VirtualKeys
from relay.types import ANONYMOUS, Identity, RawHeaders

RETRY_AFTER_S = 5
"""When to come back while the keys of the database have never been read."""

Peer = Callable[[], str]
"""Tells the address of who calls; "" when there is none."""


def nowhere() -> str:
    """The peer of calls that come from inside."""
    return ""


class Keyring:
    """The keys of one configuration, and those of the database.

    `anonymous`: whether everybody may come in while there is no key. `expects_keys`: whether there
    may be some in the database, so that nobody does before it could be read. `trusted_proxies`: the
    networks of those that tell by a header from where somebody calls.
    """

    def __init__(
        self,
        configured: Mapping[bytes, Entry],
        *,
        anonymous: bool,
        virtual: VirtualKeys | None = None,
        expects_keys: bool = False,
        issuers: Issuers | None = None,
        token_secret: bytes = b"",
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self._configured = configured
        self._virtual = virtual
        self._issuers = issuers
        self._closed = bool(configured) or issuers is not None or not anonymous
        self._expects_keys = expects_keys
        self._entries: Mapping[bytes, Entry] = {} if virtual is None else virtual.entries
        self._used: dict[str, float] = {} if virtual is None else virtual.used
        self._proxies = Proxies(trusted_proxies) if trusted_proxies else None
        self.client_secrets = ClientSecrets(self.digests, self.find, secret=token_secret)

    def guarded(self) -> bool:
        """Whether a key is needed now."""
        if self._closed or self._virtual is None:
            return self._closed
        return self._virtual.any or (self._expects_keys and not self._virtual.known)

    def identify(
        self,
        headers: RawHeaders,
        peer: Peer = nowhere,
        made: Callable[[Callable[[RawHeaders], Credential]], Credential] | None = None,
    ) -> Identity | Awaitable[Identity]:
        """Whose request has these headers (names in lower case).

        `made` gives what a function makes of them, and may know that already.

        Raises:
            InvalidApiKey: keys are needed and none of them is there.
            OriginNotAllowed, AddressNotAllowed: the key may not be used from there.
            Overloaded: what would tell whose key it is cannot be reached.
        """
        if not self._closed:
            if self._virtual is not None and not self._virtual.tried:
                return self._settled(headers, peer)
            if not self.guarded():
                return ANONYMOUS
        shown = presented(headers) if made is None else made(presented)
        return self._of_key(shown, headers, peer)

    def identify_key(
        self, key: bytes, headers: RawHeaders = (), peer: Peer = nowhere
    ) -> Identity | Awaitable[Identity]:
        """Whose key that is, when it stood elsewhere. To be called after `settle`.

        Raises: as `identify`.
        """
        if not self._closed and not self.guarded():
            return ANONYMOUS
        return self._of_key(hashed(key), headers, peer)

    async def settle(self) -> None:
        """Have the database asked once, so that it is known whether anybody needs a key."""
        if not self._closed and self._virtual is not None and not self._virtual.tried:
            await self._virtual.look()

    def find(self, digest: bytes) -> Entry | None:
        """What is known under that digest, if it holds still."""
        entry = self._configured.get(digest) or self._entries.get(digest)
        return None if entry is None or entry.ends_at <= time() else entry

    def digests(self, key_id: str) -> Iterable[bytes]:
        """Those of a key, by its id: the current one, and the previous one for its grace."""
        if self._virtual is not None and (found := self._virtual.digests(key_id)):
            return found
        return [
            digest for digest, entry in self._configured.items() if entry.identity.key_id == key_id
        ]

    def _of_key(
        self, shown: Credential, headers: RawHeaders, peer: Peer
    ) -> Identity | Awaitable[Identity]:
        key, digest = shown
        entry = self._configured.get(digest)
        if entry is None:
            entry = self._entries.get(digest)
            if entry is None:
                return self._of_other(key, digest, headers, peer)
            self._used[entry.identity.key_id] = time()
        return self._let_in(entry, headers, peer)

    def _of_other(
        self, key: bytes, digest: bytes, headers: RawHeaders, peer: Peer
    ) -> Identity | Awaitable[Identity]:
        if key.startswith(PREFIX):
            return self._of_token(key, headers, peer)
        if self._issuers is not None and looks_issued(key):
            found = self._issuers.read(key, digest)
            if isinstance(found, Entry):
                return self._let_in(found, headers, peer)
            return self._let_in_later(found, headers, peer)
        if self._virtual is not None and looks_virtual(key):
            return self._of_new(self._virtual, digest, headers, peer)
        raise unknown_key()

    def _of_token(
        self, token: bytes, headers: RawHeaders, peer: Peer
    ) -> Identity | Awaitable[Identity]:
        read = self.client_secrets.read(token)
        virtual = self._virtual
        if virtual is None or virtual.has(read.parent) or not looks_kept(read.parent):
            return self._of_read(read, headers, peer)
        return self._of_new_parent(virtual, read, headers, peer)

    async def _of_new_parent(
        self,
        virtual: VirtualKeys,
        read: Token,
        headers: RawHeaders,
        peer: Peer,
    ) -> Identity:
        await virtual.look()
        if not virtual.known:
            raise _unread()
        return self._of_read(read, headers, peer)

    def _of_read(self, read: Token, headers: RawHeaders, peer: Peer) -> Identity:
        entry = self.client_secrets.check(read)
        if self._virtual is not None and self._virtual.has(read.parent):
            self._used[read.parent] = time()
        return self._let_in(entry, headers, peer)

    async def _of_new(
        self,
        virtual: VirtualKeys,
        digest: bytes,
        headers: RawHeaders,
        peer: Peer,
    ) -> Identity:
        await virtual.look()
        entry = virtual.entries.get(digest)
        if entry is not None:
            return self._let_in(entry, headers, peer)
        if not virtual.known:
            raise _unread()
        raise unknown_key()

    async def _settled(self, headers: RawHeaders, peer: Peer) -> Identity:
        await self.settle()
        if not self.guarded():
            return ANONYMOUS
        found = self._of_key(presented(headers), headers, peer)
        return found if isinstance(found, Identity) else await found

    def _let_in(self, entry: Entry, headers: RawHeaders, peer: Peer) -> Identity:
        if entry.ends_at <= time():
            raise InvalidApiKey("The API key has expired.")
        if entry.guard is not None:
            address = peer()
            if self._proxies is not None:
                address = self._proxies.address(headers, address)
            entry.guard.check(headers, address)
        return entry.identity

    async def _let_in_later(
        self, found: Awaitable[Entry], headers: RawHeaders, peer: Peer
    ) -> Identity:
        return self._let_in(await found, headers, peer)


def _unread() -> Overloaded:
    return Overloaded(
        "The relay cannot read its keys just now; ask again.",
        headers=[(b"retry-after", b"%d" % RETRY_AFTER_S)],
    )
