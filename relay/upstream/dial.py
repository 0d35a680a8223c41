"""Making a connection: the host's addresses in turn, then TLS.

An address that does not answer must not use up the time of the others: each may take its share of
what is left of `connect_s`. IPv6 and IPv4 take turns, and the kind that worked last goes first.
"""

import asyncio
import ipaddress
import itertools
import socket
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from relay.errors import ConnectTimeout, UpstreamUnreachable
from relay.settings import UpstreamSettings
from relay.types import TimeLimits
from relay.upstream.http1 import Connection
from relay.upstream.reasons import cannot_be_reached
from relay.upstream.resolver import Resolver
from relay.upstream.tls import tls_context

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Dialer:
    """Connects to the server of one base URL."""

    def __init__(self, settings: UpstreamSettings, *, resolve: Resolve | None = None) -> None:
        """`resolve` takes the place of the system's resolver; raises OSError, UnicodeError."""
        url = urlsplit(settings.base_url)
        self._upstream = settings.name
        self._limits = TimeLimits(**settings.timeouts.model_dump())
        self._host = url.hostname or ""
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._tls = tls_context(settings) if url.scheme == "https" else None
        self._addresses = [self._host] if _is_address(self._host) else None
        self._resolve = resolve or Resolver()
        self._works: int | None = None

    async def dial(
        self, on_lost: Callable[[Connection], None], limit_s: float | None = None
    ) -> Connection:
        """A connection that stands, TLS included; `on_lost` is called once it has ended.

        Raises:
            ConnectTimeout: it did not stand within `connect_s`, or the limit given instead.
            UpstreamUnreachable: no such host, refused, or TLS failed, at each of its addresses.
        """
        if limit_s is None:
            limit_s = self._limits.connect_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                addresses = self._addresses or await self._resolve(self._host, self._port)
                return await self._try(self._in_turn(addresses), limit.when() or 0, on_lost)
        except TimeoutError as exc:
            raise ConnectTimeout(
                f"The upstream '{self._upstream}' took longer than connect_s allows "
                f"({limit_s:g} s)."
            ) from exc
        except (OSError, UnicodeError) as exc:
            raise UpstreamUnreachable(
                f"The upstream '{self._upstream}' {cannot_be_reached(exc)}."
            ) from exc

    async def probe(self, limit_s: float) -> None:
        """Make a connection, and close it. Raises: as `dial` does."""
        lost = asyncio.get_running_loop().create_future()
        connection = await self.dial(lost.set_result, limit_s)
        connection.close()
        await lost

    async def _try(
        self, addresses: Sequence[str], until: float, on_lost: Callable[[Connection], None]
    ) -> Connection:
        loop = asyncio.get_running_loop()
        failure: OSError = socket.gaierror("the host has no address")
        for tried, address in enumerate(addresses):
            share_s = (until - loop.time()) / (len(addresses) - tried)
            try:
                async with asyncio.timeout(share_s):
                    _, connection = await loop.create_connection(
                        lambda: Connection(self._upstream, self._limits, on_lost),
                        address,
                        self._port,
                        ssl=self._tls,
                        server_hostname=self._host if self._tls else None,
                    )
            except OSError as exc:  # a timeout is one, too
                failure = exc
            else:
                self._works = _version(address)
                return connection
        raise failure

    def _in_turn(self, addresses: Sequence[str]) -> list[str]:
        first = self._works or _version(addresses[0]) if addresses else None
        favoured = [address for address in addresses if _version(address) == first]
        others = [address for address in addresses if _version(address) != first]
        pairs = itertools.zip_longest(favoured, others)
        return [address for pair in pairs for address in pair if address is not None]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _version(address: str) -> int:
    return 6 if ":" in address else 4
