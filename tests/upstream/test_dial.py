"""A host of several addresses is reached by whichever answers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

import pytest
from fake_upstream import FakeUpstream

from relay.errors import ConnectTimeout, UpstreamUnreachable
from relay.settings import Timeouts, UpstreamSettings
from relay.upstream.dial import Dialer
from relay.upstream.http1 import Connection


class Names:
    """A name service that knows one host, and counts how often it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.addresses


@contextlib.asynccontextmanager
async def dialled(dialer: Dialer) -> AsyncIterator[str]:
    """The address to which a connection was made; it is closed at the end."""
    lost = asyncio.Event()
    connection: Connection = await dialer.dial(lambda _: lost.set())
    yield connection._transport.get_extra_info("peername")[0]
    connection.close()
    await lost.wait()


def dialer(names: Names, url: str, **timeouts: float) -> Dialer:
    settings = UpstreamSettings(name="u", base_url=url, timeouts=Timeouts(**timeouts))
    return Dialer(settings, resolve=names)


async def test_an_address_that_refuses_is_passed_over(fake: FakeUpstream) -> None:
    for first in ("::1", "127.0.0.2"):
        names = Names(first, "127.0.0.1")
        async with dialled(dialer(names, f"http://host:{fake.port}")) as address:
            assert address == "127.0.0.1"


async def test_an_address_that_is_silent_takes_only_its_share_of_the_time() -> None:
    with socket.create_server(("127.0.0.2", 0)) as silent:  # it never begins TLS
        names = Names("127.0.0.2", "127.0.0.1")
        port = silent.getsockname()[1]
        with pytest.raises(UpstreamUnreachable):  # the second was asked, too: nobody listens there
            await dialer(names, f"https://host:{port}", connect_s=0.4).dial(lambda _: None)


async def test_the_kind_of_address_that_worked_last_goes_first() -> None:
    dialing = dialer(Names(), "http://host")
    addresses = ["::1", "::2", "127.0.0.1", "127.0.0.2"]
    assert dialing._in_turn(addresses) == ["::1", "127.0.0.1", "::2", "127.0.0.2"]
    dialing._works = 4
    assert dialing._in_turn(addresses) == ["127.0.0.1", "::1", "127.0.0.2", "::2"]
    assert dialing._in_turn([]) == []


async def test_a_number_is_not_looked_up(fake: FakeUpstream) -> None:
    names = Names("192.0.2.1")
    async with dialled(dialer(names, fake.url)) as address:
        assert address == "127.0.0.1"
    assert names.asked == 0


async def test_a_host_without_an_address_is_unreachable() -> None:
    with pytest.raises(UpstreamUnreachable):
        await dialer(Names(), "http://host").dial(lambda _: None)


async def test_a_name_service_that_does_not_answer_ends_with_the_connect_limit() -> None:
    async def silent(host: str, port: int) -> Sequence[str]:
        return await asyncio.get_running_loop().create_future()

    settings = UpstreamSettings(name="u", base_url="http://h", timeouts=Timeouts(connect_s=0.05))
    with pytest.raises(ConnectTimeout, match="connect_s"):
        await Dialer(settings, resolve=silent).dial(lambda _: None)


async def test_names_are_looked_up_by_the_system(fake: FakeUpstream) -> None:
    settings = UpstreamSettings(name="u", base_url=f"http://localhost:{fake.port}")
    async with dialled(Dialer(settings)) as address:
        assert address == "127.0.0.1"
