"""Tokens of identity providers (OIDC) as keys: checked here, without asking anybody.

token --issuer--> its public keys (jwks.py) --signature, audience, times (oidc.py)-->
      --claims--> policy (claims.py) --> what it opens, remembered until it ends
"""

import importlib
from collections.abc import Awaitable, Mapping
from functools import partial
from time import time
from typing import Any

from relay.errors import InvalidApiKey, Overloaded
from relay.keys.claims import entry_of
from relay.keys.credential import unknown_key
from relay.keys.entry import Entry
from relay.keys.jwks import FetchKeys, Jwks
from relay.settings import IssuerSettings, SettingsError, check_identity_url
from relay.stores import TeamRecord

__all__ = ["FetchKeys", "Issuers", "looks_issued", "open_issuers"]

REMEMBERED = 10_000
"""As many checked tokens are remembered; a signature costs some 40 us."""

MODULE = "relay.keys.oidc"
RETRY_AFTER_S = 5


def looks_issued(key: bytes) -> bool:
    """Whether it has the form of a JWT."""
    return key.startswith(b"eyJ") and key.count(b".") == 2


def open_issuers(
    settings: tuple[IssuerSettings, ...], teams: Mapping[str, TeamRecord], *, fetch: FetchKeys
) -> "Issuers | None":
    """What reads the tokens of these issuers; None when there are none.

    Raises:
        SettingsError: what it takes is not installed.
    """
    if not settings:
        return None
    try:
        oidc = importlib.import_module(MODULE)
    except ImportError as exc:
        raise SettingsError(
            "[[issuers]] need PyJWT and cryptography: pip install 'openai-relay[oidc]'"
        ) from exc
    return Issuers(settings, teams, fetch, oidc)


class Issuers:
    """The configured issuers. `oidc` is the module of that name."""

    def __init__(
        self,
        settings: tuple[IssuerSettings, ...],
        teams: Mapping[str, TeamRecord],
        fetch: FetchKeys,
        oidc: Any,
    ) -> None:
        self._teams = teams
        self._oidc = oidc
        self._checked: dict[bytes, Entry] = {}
        self._issuers = {
            (one.issuer, algorithm): (one, jwks)
            for one in settings
            for jwks in [self._jwks(one, fetch)]
            for algorithm in one.algorithms
        }

    def read(self, token: bytes, digest: bytes) -> Entry | Awaitable[Entry]:
        """What a token opens, whose SHA-256 is `digest`.

        Raises:
            InvalidApiKey: nothing.
            NotPermitted: nothing, by the policies of its issuer.
            Overloaded: the keys of its issuer cannot be had.
        """
        entry = self._checked.get(digest)
        if entry is not None and entry.ends_at > time():
            return entry
        if not token.isascii():
            raise unknown_key()
        text = token.decode()
        kid, algorithm, issuer = self._oidc.read_header(text)
        found = self._issuers.get((issuer, algorithm))
        if found is None:
            raise unknown_key()
        settings, jwks = found
        check = partial(self._check, text, digest, settings, algorithm)
        key = jwks.find(kid)
        if key is None:
            return self._later(jwks, kid, check)
        try:
            return check(key)
        except InvalidApiKey:
            if kid is not None or not jwks.may_ask():
                raise
        return self._later(jwks, kid, check)  # whoever names no key may mean a newer one

    async def aclose(self) -> None:
        """Ask no longer for keys."""
        for _, jwks in self._issuers.values():
            await jwks.aclose()

    async def _later(self, jwks: Jwks, kid: str | None, check: "partial[Entry]") -> Entry:
        await jwks.renew()
        key = jwks.find(kid)
        if key is not None:
            return check(key)
        if not jwks.known:
            raise Overloaded(
                "The keys of the token's issuer cannot be read just now; ask again.",
                headers=[(b"retry-after", b"%d" % RETRY_AFTER_S)],
            )
        raise unknown_key()

    def _check(
        self, text: str, digest: bytes, settings: IssuerSettings, algorithm: str, key: Any
    ) -> Entry:
        claims = self._oidc.verify(
            text,
            key,
            algorithm=algorithm,
            audience=settings.audience,
            issuer=settings.issuer,
            leeway_s=settings.leeway_s,
        )
        entry = entry_of(claims, settings, self._teams)
        if len(self._checked) >= REMEMBERED:
            del self._checked[next(iter(self._checked))]
        self._checked[digest] = entry
        return entry

    def _jwks(self, settings: IssuerSettings, fetch: FetchKeys) -> Jwks:
        return Jwks(
            settings.issuer,
            settings.jwks_url,
            fetch=fetch,
            parse=self._oidc.parse_keys,
            check_url=check_identity_url,
            changed=self._checked.clear,
        )
