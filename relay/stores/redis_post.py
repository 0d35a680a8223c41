"""Letters between the processes of several replicas: lists and marks in Redis that end by time."""

from relay.stores.redis_client import FAILURES, RedisClient
from relay.stores.unavailable import StoreUnavailable

LIMIT_S = 2.0
"""How long Redis may take beyond what is waited for on purpose."""

LONGEST_WAIT_S = 1.0
"""How long one look into a box may wait for a letter."""


class RedisPost:
    """Boxes are lists, marks are keys; all of their names begin with `prefix`."""

    def __init__(self, url: str, prefix: str) -> None:
        self._prefix = prefix
        self._redis = RedisClient(
            url, socket_timeout=LONGEST_WAIT_S + LIMIT_S, socket_connect_timeout=LIMIT_S
        )

    async def send(self, box: str, letter: bytes, *, ttl_s: float) -> None:
        """Put a letter into a box, which lasts for so long then. Raises: StoreUnavailable."""
        name = self._prefix + box
        try:
            async with (await self._redis.get()).pipeline(transaction=False) as both:
                both.rpush(name, letter)
                both.pexpire(name, int(ttl_s * 1000))
                await both.execute()
        except FAILURES as exc:
            raise _away(exc) from exc

    async def waiting(self, box: str) -> int:
        """How many letters are in the box. Raises: StoreUnavailable."""
        try:
            return int(await (await self._redis.get()).llen(self._prefix + box))
        except FAILURES as exc:
            raise _away(exc) from exc

    async def next(self, box: str) -> bytes | None:
        """The first letter in the box; None when there is none for `LONGEST_WAIT_S`.

        Raises: StoreUnavailable.
        """
        try:
            found = await (await self._redis.get()).blpop(
                [self._prefix + box], timeout=LONGEST_WAIT_S
            )
        except FAILURES as exc:
            raise _away(exc) from exc
        return found[1] if found is not None and isinstance(found[1], bytes) else None

    async def mark(self, name: str, *, ttl_s: float) -> None:
        """Set a mark for so long. Raises: StoreUnavailable."""
        try:
            await (await self._redis.get()).set(self._prefix + name, b"1", px=int(ttl_s * 1000))
        except FAILURES as exc:
            raise _away(exc) from exc

    async def is_marked(self, name: str) -> bool:
        """Whether the mark is there. Raises: StoreUnavailable."""
        try:
            return bool(await (await self._redis.get()).exists(self._prefix + name))
        except FAILURES as exc:
            raise _away(exc) from exc

    async def remove(self, *names: str) -> None:
        """Take marks and boxes away. Raises: StoreUnavailable."""
        try:
            await (await self._redis.get()).delete(*(self._prefix + name for name in names))
        except FAILURES as exc:
            raise _away(exc) from exc

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _away(exc: Exception) -> StoreUnavailable:
    # The error's own text may have the address, and that a password.
    return StoreUnavailable(f"Redis does not answer ({type(exc).__name__}).")
