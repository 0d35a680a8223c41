"""Where a key may be used from: web pages by their origin, machines by their address."""

import ipaddress
from collections.abc import Iterable, Sequence

from relay.errors import AddressNotAllowed, OriginNotAllowed
from relay.origins import OriginList

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Guard:
    """All of its lists have to allow a request."""

    __slots__ = ("_networks", "_origins")

    def __init__(
        self, origins: Sequence[OriginList] = (), networks: Sequence[Sequence[Network]] = ()
    ) -> None:
        self._origins = origins
        self._networks = networks

    def check(self, headers: Iterable[tuple[bytes, bytes]], peer: str) -> None:
        """Whether a request with these headers may come from the address `peer`.

        Raises:
            OriginNotAllowed: it comes from no page, or from another one.
            AddressNotAllowed: it comes from elsewhere, or it cannot be told.
        """
        if self._origins and not any(map(self.allows_origin, _origins(headers))):
            raise OriginNotAllowed(
                "This key may only be used by web pages of the origins that it names."
            )
        if self._networks and not self._allows_address(peer):
            raise AddressNotAllowed("This key may not be used from this address.")

    def allows_origin(self, origin: bytes) -> bool:
        """Whether pages of that origin may use it."""
        return all(one.allows(origin) for one in self._origins)

    def narrowed(self, origins: OriginList | None) -> "Guard":
        """The same, with another list of origins on top."""
        return self if origins is None else Guard((*self._origins, origins), self._networks)

    def _allows_address(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:  # a Unix socket has no address
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # so a socket for both kinds shows IPv4
        return all(any(address in one for one in networks) for networks in self._networks)


def _origins(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """What the page may be: browsers name it, but for what a page reads from its own host."""
    said = dict(reversed([*headers]))
    if (origin := said.get(b"origin")) is not None:
        return [origin]
    if said.get(b"sec-fetch-site") == b"same-origin" and b"host" in said:
        return [b"http://" + said[b"host"], b"https://" + said[b"host"]]
    return []


def guard_of(origins: Sequence[str] | None, networks: Sequence[str] | None) -> Guard | None:
    """The guard of these lists; None when there is nothing to guard."""
    if origins is None and networks is None:
        return None
    return Guard(
        () if origins is None else (OriginList(origins),),
        () if networks is None else ([ipaddress.ip_network(one) for one in networks],),
    )
