"""A client that takes nothing of its answer does not keep it for ever."""

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from fake_script import Bell, Script
from fake_upstream import FakeUpstream
from running import StartRelay, chat
from waiting import until
from wire import Wire, get, post, serving

from relay.web.exchange import Exchange
from relay.web.outflow import Outflow

PIECE = b"x" * 65536
MANY = 1000
"""Pieces: more than all buffers on the way hold."""


class Pourer(Bell):
    """Answers with many pieces; knows how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = ""

    async def __call__(self, exchange: Exchange) -> None:
        exchange.on_leave = exchange.task.cancel
        exchange.begin(200, [])
        try:
            for _ in range(MANY):
                if (wait := exchange.write(PIECE)) is not None:
                    await wait
            exchange.end()
            self.ended = "whole"
        except asyncio.CancelledError:
            self.ended = "left"
        self.ring()


def test_who_reads_nothing_is_cut_and_what_answered_hears_of_it() -> None:
    pourer = Pourer()
    with serving(pourer, write_timeout_s=0.1) as served, Wire(served.port) as wire:
        wire.send(get("/"))
        pourer.wait_for(lambda: pourer.ended)
        assert pourer.ended == "left"
        assert not served.connections


class Timers:
    """The timers of an event loop, which go off when the test says so."""

    def __init__(self) -> None:
        self.set: list[Callable[[], None]] = []

    def call_later(self, _: float, callback: Callable[[], None]) -> None:
        self.set.append(callback)

    def go_off(self) -> None:
        due, self.set = self.set, []
        for callback in due:
            callback()


async def test_who_reads_slowly_is_waited_for() -> None:
    timers: Any = Timers()
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        client, _ = listener.accept()
    client.setblocking(False)
    with client:
        outflow = Outflow(transport, timers, 1.0)
        outflow.watch()
        assert not timers.set  # nothing was written yet
        transport.write(PIECE * MANY)
        outflow.watch()
        for _ in range(5):
            before = transport.get_write_buffer_size()
            while transport.get_write_buffer_size() == before:
                await loop.sock_recv(client, len(PIECE))
                await asyncio.sleep(0)  # so that the transport hears that there is room
            timers.go_off()
            assert not transport.is_closing()
        outflow.moved()  # so the transport said
        timers.go_off()
        assert not transport.is_closing()
        timers.go_off()
        assert transport.is_closing()
        assert not timers.set


@pytest.mark.parametrize("header", ["connection: close", "connection: keep-alive"])
def test_the_end_of_a_connection_is_not_waited_for_either(header: str) -> None:
    async def answer(exchange: Exchange) -> None:
        exchange.answer(200, [], PIECE * MANY)

    with serving(answer, write_timeout_s=0.1) as served, Wire(served.port) as wire:
        wire.send(get("/", header))
        wire.take(1)
        until(lambda: not served.connections)
        assert len(wire.rest()) < len(PIECE) * MANY


def test_the_setting_says_how_long_and_the_upstream_is_let_go(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = start_relay(upstream_url=upstream.url, write_timeout_s=0.1)
    upstream.answer(Script(pieces=[PIECE] * MANY, stall_after=MANY - 1))
    with Wire(int(relay.root.rpartition(":")[2])) as wire:
        body = json.dumps(chat(stream=True)).encode()
        wire.send(post(body, "content-type: application/json", path="/v1/chat/completions"))
        upstream.wait_for(lambda: upstream.requests and upstream.requests[0].closed_at)
