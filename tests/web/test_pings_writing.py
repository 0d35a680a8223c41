"""One writer at a time, and nothing after the end."""

import asyncio

from relay.web.pings import PING, Pings


class SlowClient:
    """A client's `write`, which has room when it is told to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.asked = asyncio.Event()

    async def write(self, piece: bytes) -> None:
        if piece == PING:
            self.asked.set()
        await self.reads.wait()
        self.written.append(piece)


async def write(pings: Pings, piece: bytes) -> None:
    wait = pings.write(piece)
    assert wait is not None
    await wait


async def test_a_piece_waits_until_the_ping_before_it_is_written() -> None:
    client = SlowClient()
    with Pings(client.write, every_s=0.01, between=lambda: True) as pings:
        await write(pings, b"one")
        client.reads.clear()
        await client.asked.wait()
        after = asyncio.create_task(write(pings, b"two"))
        asyncio.get_running_loop().call_soon(client.reads.set)
        await after
    assert client.written[:3] == [b"one", PING, b"two"]


async def test_no_ping_goes_into_a_piece_that_is_still_being_written() -> None:
    client = SlowClient()
    with Pings(client.write, every_s=0.01, between=lambda: True) as pings:
        client.reads.clear()
        writing = asyncio.create_task(write(pings, b"one"))
        asyncio.get_running_loop().call_later(0.05, client.reads.set)
        await writing
        assert client.written == [b"one"]
        await client.asked.wait()
    assert client.written[0] == b"one"


async def test_leaving_ends_a_ping_that_cannot_be_written() -> None:
    client = SlowClient()
    with Pings(client.write, every_s=0.01, between=lambda: True):
        client.reads.clear()
        await client.asked.wait()
    [ping] = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait([ping])
    assert ping.cancelled()
    assert client.written == []


async def test_where_there_is_always_room_nothing_is_awaited() -> None:
    written: list[bytes] = []
    pinged = asyncio.Event()

    def at_once(piece: bytes) -> None:
        written.append(piece)
        if piece == PING:
            pinged.set()

    with Pings(at_once, every_s=0.01, between=lambda: True) as pings:
        assert pings.write(b"one") is None
        await pinged.wait()
    assert written[:2] == [b"one", PING]
