"""A client as ASGI shows it gets the same answers, and its leaving is heard."""

from typing import Any

import pytest
from fake_script import Bell
from wire import Wire, serving

from relay.web.client import AsgiClient
from relay.web.exchange import Exchange

GET = b"GET /path HTTP/1.1\r\nhost: h\r\n\r\n"


def seen_by_asgi(exchange: Exchange) -> AsgiClient:
    return AsgiClient(exchange.scope, exchange.receive, exchange.send)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("at_once", [True, False])
def test_an_answer_is_whole_in_either_way(method: str, at_once: bool) -> None:
    async def answer(exchange: Exchange) -> None:
        client = seen_by_asgi(exchange)
        assert (client.method, client.path) == (method, "/path")
        assert (client.headers, client.task) == ([(b"host", b"h")], exchange.task)
        assert client.take() is None
        if at_once:
            await client.answer(200, [(b"x-name", b"value")], b"one two")
        else:
            await client.begin(200, [(b"x-name", b"value")])
            await client.write(b"one")
            assert (client.started, client.answered) == (True, False)
            await client.end(b" two")
        assert client.answered

    with serving(answer) as served, Wire(served.port) as wire:
        for _ in range(2):
            reply = wire.ask(GET.replace(b"GET", method.encode()), method=method)
            assert (reply.status, reply.headers["x-name"]) == (200, "value")
            assert reply.body == (b"" if method == "HEAD" else b"one two")
            assert ("content-length" in reply.headers) == at_once


@pytest.mark.parametrize("answered", [True, False])
def test_only_who_leaves_before_his_answer_is_whole_has_left(answered: bool) -> None:
    bell = Bell()
    heard: list[Any] = []

    async def answer(exchange: Exchange) -> None:
        client = seen_by_asgi(exchange)
        client.on_leave = lambda: heard.append("left")
        attending = client.attend()
        await client.begin(200, [])
        if answered:
            await client.end()
        await attending
        heard.append("over")
        bell.ring()

    with serving(answer) as served:
        with Wire(served.port) as wire:
            wire.send(GET)
            assert wire.head()[1] == 200
        bell.wait_for(lambda: "over" in heard)
    assert heard == (["over"] if answered else ["left", "over"])
