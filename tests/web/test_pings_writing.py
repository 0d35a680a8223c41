"""One writer at a time, and nothing after the end."""

import asyncio
from typing import Any

from relay.web.pings import PING, Pings

HEAD = {"type": "http.response.start", "status": 200, "headers": []}


class SlowClient:
    """ASGI's send, in front of a client that reads when it is told to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.asked = asyncio.Event()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            if message["body"] == PING:
                self.asked.set()
            await self.reads.wait()
            self.written.append(message["body"])


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def test_a_piece_waits_until_the_ping_before_it_is_written() -> None:
    client = SlowClient()
    async with Pings(client.send, every_s=0.01, between=lambda: True) as pings:
        await pings.send(HEAD)
        await pings.send(piece(b"one"))
        client.reads.clear()
        await client.asked.wait()
        end = asyncio.create_task(pings.send(piece(b"two", more=False)))
        asyncio.get_running_loop().call_soon(client.reads.set)
        await end
    assert client.written == [b"one", PING, b"two"]


async def test_no_ping_goes_into_a_piece_that_is_still_being_written() -> None:
    client = SlowClient()
    async with Pings(client.send, every_s=0.01, between=lambda: True) as pings:
        await pings.send(HEAD)
        client.reads.clear()
        writing = asyncio.create_task(pings.send(piece(b"one")))
        asyncio.get_running_loop().call_later(0.05, client.reads.set)
        await writing
        assert client.written == [b"one"]
        await client.asked.wait()
    assert client.written[0] == b"one"


async def test_leaving_ends_a_ping_that_cannot_be_written() -> None:
    client = SlowClient()
    async with Pings(client.send, every_s=0.01, between=lambda: True) as pings:
        await pings.send(HEAD)
        client.reads.clear()
        await client.asked.wait()
    [ping] = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait([ping])
    assert ping.cancelled()
    assert client.written == []
