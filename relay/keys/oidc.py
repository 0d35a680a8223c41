"""What needs PyJWT (the extra `oidc`): reading public keys, and checking signatures and claims."""

from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from relay.keys.credential import unknown_key


def parse_keys(jwk_set: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    """The keys for signatures that a JWK set has, by their id; of unknown kinds none.

    Raises:
        TypeError, ValueError: it is no JWK set, or has none of them.
    """
    entries = jwk_set.get("keys")
    if not isinstance(entries, list):
        raise TypeError("it is no JWK set")
    keys = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
            continue
        if entry.get("kty") not in ("RSA", "EC", "OKP"):
            continue  # a shared secret is nothing that one publishes
        try:
            keys[str(entry.get("kid", ""))] = jwt.PyJWK(entry)
        except jwt.PyJWTError:
            continue
    if not keys:
        raise ValueError("its JWK set has no key that could check a signature")
    return keys


def read_header(token: str) -> tuple[str | None, str, str]:
    """Key id, algorithm and issuer, as the token says; none of it to be trusted.

    Raises:
        InvalidApiKey: it is no token.
    """
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
        kid, algorithm, issuer = header.get("kid"), header["alg"], claims["iss"]
    except (jwt.PyJWTError, LookupError, ValueError, TypeError, RecursionError):
        raise unknown_key() from None
    if not (isinstance(kid, str | None) and isinstance(algorithm, str) and isinstance(issuer, str)):
        raise unknown_key()
    return kid, algorithm, issuer


def verify(
    token: str,
    key: jwt.PyJWK,
    *,
    algorithm: str,
    audience: Sequence[str],
    issuer: str,
    leeway_s: float,
) -> dict[str, Any]:
    """The claims of a token that this key has signed by this algorithm.

    Raises:
        InvalidApiKey: it has not; or the token is for others, is over or has not begun.
    """
    of_key = key._jwk_data.get("alg")  # PyJWK has it nowhere else
    if of_key is not None and of_key != algorithm:
        raise unknown_key()
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            audience=audience,
            issuer=issuer,
            leeway=leeway_s,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError):
        raise unknown_key() from None
    return claims
