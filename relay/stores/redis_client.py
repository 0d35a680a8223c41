"""redis-py's client of a server, or of the cluster that it is in."""

import asyncio
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisClusterException, RedisError, ResponseError

Client = Redis | RedisCluster

FAILURES = (RedisError, RedisClusterException, OSError)
"""What its commands raise."""


class RedisClient:
    """Finds out with the first command. `options` are those of both clients."""

    def __init__(self, url: str, **options: Any) -> None:
        self._url = url
        self._options = options
        self._single = Redis.from_url(url, **options)
        self._found: Client | None = None
        self._finding = asyncio.Lock()

    async def get(self) -> Client:
        """The client. Raises: one of `FAILURES`: the server cannot be asked."""
        if self._found is None:
            async with self._finding:
                self._found = self._found or await self._find()
        return self._found

    async def aclose(self) -> None:
        """Close its connections."""
        await self._single.aclose()
        if self._found is not None:
            await self._found.aclose()

    async def _find(self) -> Client:
        try:
            told = await self._single.info("cluster")
        except ResponseError:  # a proxy or an account that may not ask
            return self._single
        if not told.get("cluster_enabled"):
            return self._single
        return RedisCluster.from_url(self._url, **self._options)
