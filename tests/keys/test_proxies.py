"""Whose address a request has, seen through proxies."""

import pytest

from relay.keys.proxies import Proxies


@pytest.mark.parametrize(
    ("peer", "told", "address"),
    [
        ("10.0.0.2", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.2", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.2", ["1.1.1.1", "203.0.113.9, 10.0.0.7"], "203.0.113.9"),
        ("::ffff:10.0.0.2", ["2001:db8::1"], "2001:db8::1"),
        ("fd00::1%eth0", ["203.0.113.9"], "203.0.113.9"),
        ("203.0.113.9", ["10.0.0.5"], "203.0.113.9"),
        ("10.0.0.2", [], "10.0.0.2"),
        ("10.0.0.2", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.2", ["unknown"], "unknown"),
        ("10.0.0.2", [""], ""),
        ("", ["203.0.113.9"], ""),
    ],
)
def test_only_the_word_of_trusted_proxies_counts(peer: str, told: list[str], address: str) -> None:
    proxies = Proxies(["10.0.0.0/8", "fd00::/8"])
    headers = [(b"x-forwarded-for", value.encode()) for value in told]
    assert proxies.address([(b"host", b"x"), *headers], peer) == address
