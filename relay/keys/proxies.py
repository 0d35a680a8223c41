"""Whose address a request has that came by way of proxies.

peer            x-forwarded-for          trusted       address
10.0.0.2        203.0.113.9              10.0.0.0/8    203.0.113.9
10.0.0.2        1.1.1.1, 203.0.113.9     10.0.0.0/8    203.0.113.9 (the rest is hearsay)
203.0.113.9     10.0.0.5                 10.0.0.0/8    203.0.113.9 (no proxy of ours)
"""

import ipaddress
from collections.abc import Iterable

from relay.keys.guard import Network

HEADER = b"x-forwarded-for"


class Proxies:
    """The networks of the proxies whose word is taken."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._trusted: list[Network] = [ipaddress.ip_network(one) for one in trusted]

    def address(self, headers: Iterable[tuple[bytes, bytes]], peer: str) -> str:
        """The address of whoever asked the first trusted proxy; "" when a proxy tells none."""
        told = [
            part.strip()
            for name, value in headers
            if name == HEADER
            for part in value.decode("latin-1").split(",")
        ]
        address = peer
        while told and self._trusts(address):
            address = told.pop()
        return address

    def _trusts(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._trusted)
