"""Whether the Redis of a configuration is there and may be used, for `relay check`."""

import asyncio

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from relay.stores.counters.scripts import RESERVE
from relay.stores.unavailable import StoreUnavailable

_REASONS: dict[type[Exception], str] = {
    AuthenticationError: "refuses user or password",
    NoPermissionError: "does not let its user run scripts",
    ResponseError: "does not do what is needed",
    TimeoutError: "does not answer in time",
    RedisError: "cannot be reached",
    OSError: "cannot be reached",
}
"""The first class that fits gives the reason; what an error says may hold the password."""


def shown(url: str) -> str:
    """The address without user and password. Raises: ValueError: it is none."""
    where = Redis.from_url(url).connection_pool.connection_kwargs
    if "path" in where:
        return f"unix://{where['path']}"
    scheme, _, _ = url.partition(":")
    return f"{scheme}://{where.get('host', 'localhost')}:{where.get('port', 6379)}"


async def reach(url: str, *, within_s: float) -> None:
    """Have it take a script, as a relay does when it begins to count; nothing is counted.

    Raises:
        StoreUnavailable: it is not there, or will not.
    """
    client = Redis.from_url(url)
    try:
        async with asyncio.timeout(within_s):
            await client.script_load(RESERVE)
    except (RedisError, OSError) as exc:
        reason = next(text for kind, text in _REASONS.items() if isinstance(exc, kind))
        raise StoreUnavailable(f"{shown(url)} {reason} ({type(exc).__name__})") from exc
    finally:
        await client.aclose()
