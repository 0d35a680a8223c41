"""A block that ends early says why, and leaves other cancellations alone."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from relay.web.client import AsgiClient
from relay.web.presence import ClientLeft, Presence, ShuttingDown
from relay.web.replies import Visit, awaited

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


class Client:
    """ASGI's receive, for a client that stays until told."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.asked = 0

    async def receive(self) -> dict[str, str]:
        self.asked += 1
        if self.asked == 1:
            return {"type": "http.request"}
        await self.left.wait()
        return {"type": "http.disconnect"}


async def nowhere(_: MutableMapping[str, Any]) -> None: ...


def visit(client: Client) -> Visit:
    return Visit(AsgiClient(SCOPE, client.receive, nowhere))


async def test_a_client_that_leaves_ends_the_block() -> None:
    presence, client = Presence(), Client()
    with pytest.raises(ClientLeft), presence.watch(visit(client)) as watch:
        watch.listen()
        assert len(presence) == 1
        client.left.set()
        await asyncio.Event().wait()
    assert len(presence) == 0


async def test_a_closing_server_ends_every_block() -> None:
    presence = Presence()

    async def answer() -> None:
        with presence.watch(visit(Client())) as watch:
            watch.listen()
            entered.release()
            await asyncio.Event().wait()

    entered = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(answer()) for _ in range(3)]
    for _ in tasks:
        await entered.acquire()
    presence.end_all()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [ShuttingDown] * 3


async def test_a_block_that_ends_in_time_is_left_alone() -> None:
    presence, client = Presence(), Client()
    with presence.watch(visit(client)) as watch:
        watch.listen()
    client.left.set()
    await asyncio.sleep(0)  # let the watcher run, if it were still there
    assert len(presence) == 0
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_a_cancellation_from_outside_stays_one() -> None:
    presence = Presence()
    entered = asyncio.Event()

    async def answer() -> None:
        with presence.watch(visit(Client())) as watch:
            watch.listen()
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(answer())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(presence) == 0


async def test_an_error_of_the_block_itself_wins() -> None:
    presence, client = Presence(), Client()
    with pytest.raises(ZeroDivisionError), presence.watch(visit(client)) as watch:
        watch.listen()
        client.left.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ZeroDivisionError from None


async def test_a_connection_that_ends_after_the_answer_is_no_client_that_left() -> None:
    presence, client = Presence(), Client()
    answered = visit(client)
    with presence.watch(answered) as watch:
        watch.listen()
        await awaited(answered.answer(200, [], b""))
        client.left.set()
        while asyncio.all_tasks() != {asyncio.current_task()}:
            await asyncio.sleep(0)  # until the watcher has seen it
