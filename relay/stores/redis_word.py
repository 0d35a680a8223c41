"""One word that all replicas share, in Redis."""

from relay.stores.redis_client import FAILURES, RedisClient
from relay.stores.unavailable import StoreUnavailable

LIMIT_S = 1.0
"""How long Redis may take: nobody waits for it but a task in the background."""


class RedisWord:
    """The word at `key`."""

    def __init__(self, url: str, key: str) -> None:
        self._key = key
        self._redis = RedisClient(url, socket_timeout=LIMIT_S, socket_connect_timeout=LIMIT_S)

    async def get(self) -> str | None:
        """The word, None while there is none. Raises: StoreUnavailable."""
        try:
            word = await (await self._redis.get()).get(self._key)
        except FAILURES as exc:
            raise _away(exc) from exc
        return word.decode("utf-8", "replace") if isinstance(word, bytes) else word

    async def set(self, word: str) -> None:
        """Put another in its place. Raises: StoreUnavailable."""
        try:
            await (await self._redis.get()).set(self._key, word)
        except FAILURES as exc:
            raise _away(exc) from exc

    async def begin(self, word: str) -> bool:
        """Put it there unless there is one; whether it was put. Raises: StoreUnavailable."""
        try:
            return bool(await (await self._redis.get()).set(self._key, word, nx=True))
        except FAILURES as exc:
            raise _away(exc) from exc

    async def aclose(self) -> None:
        """Close the connection."""
        await self._redis.aclose()


def _away(exc: Exception) -> StoreUnavailable:
    # The error's own text may have the address, and that a password.
    return StoreUnavailable(f"Redis does not answer ({type(exc).__name__}); it is asked again.")
