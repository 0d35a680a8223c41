"""Links to the servers of a Redis Cluster; of a single server there is one.

    key --CRC16 of its {tag}--> slot --> its server, as far as we know --MOVED, ASK--> another

Nobody is asked which slots there are: the first command of each slot goes to any server, which
names the right one. So a single server needs nothing, and a failover is learned likewise.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, ResponseError, TryAgainError

from relay.stores.counters.link import Command, RedisLink, Script

MOST_HOPS = 5
"""Of one command: while slots move, two servers may name each other."""

Address = tuple[str, int]


class ClusterLink:
    """As `RedisLink`, whatever the server at `url` is."""

    def __init__(self, url: str, scripts: Sequence[Script], *, timeout_s: float) -> None:
        self._url = url
        self._scripts = scripts
        self._timeout_s = timeout_s
        self._first = RedisLink(url, scripts, timeout_s=timeout_s, elsewhere=self._redirect)
        self._others: dict[Address, RedisLink] = {}
        self._slots: dict[int, RedisLink] = {}

    @property
    def up(self) -> bool:
        """Whether one of them is."""
        return self._first.up or any(link.up for link in self._others.values())

    async def call(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Any],
        *,
        undo: Callable[[], Command],
    ) -> Any:
        """What the script answers. Raises: LinkDown: as `RedisLink.call`."""
        return await self._of(keys).call(script, keys, arguments, undo=undo)

    def send(self, command: Command) -> None:
        """Have it done when its server is there."""
        self._of(command.keys).send(command)

    async def aclose(self) -> None:
        """Send what waits where a server is there, and close."""
        await asyncio.gather(*(link.aclose() for link in (self._first, *self._others.values())))

    def _of(self, keys: Sequence[str]) -> RedisLink:
        if not self._others:
            return self._first
        link = self._slots.get(key_slot(keys[0].encode()), self._first)
        if link.up:
            return link
        # Its place may have been taken by another, which any of them knows.
        return next((one for one in (self._first, *self._others.values()) if one.up), link)

    def _redirect(self, command: Command, error: ResponseError) -> bool:
        """Whether the error says whom to ask, and that was done."""
        if command.hops == MOST_HOPS:
            return False
        if isinstance(error, AskError):
            link = self._at((error.host, error.port))
            command.asking = not isinstance(error, MovedError)
            if not command.asking:
                self._slots[error.slot_id] = link
        elif isinstance(error, TryAgainError):  # half of its keys have moved
            link = self._of(command.keys)
        else:
            return False
        command.hops += 1
        link.take_over(command)
        return True

    def _at(self, address: Address) -> RedisLink:
        if address == self._first.address:
            return self._first
        link = self._others.get(address)
        if link is None:
            link = self._others[address] = RedisLink(
                self._url,
                self._scripts,
                timeout_s=self._timeout_s,
                where=address,
                elsewhere=self._redirect,
            )
        return link
