"""Which client answers, and what the one on httpx does beyond ours."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fake_upstream import FakeUpstream, Script
from upstream.calls import CHAT, KEY, STREAM, ask, fails_with

from relay.errors import UpstreamAuth, UpstreamUnreachable
from relay.events import Event, KeyRetired
from relay.settings import SettingsError, UpstreamSettings
from relay.upstream import Upstream, open_upstream
from relay.upstream.direct import DirectUpstream
from relay.upstream.via_httpx import HttpxUpstream


class Canned(httpx.AsyncBaseTransport):
    """A transport that somebody else has written."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"canned " + request.url.path.encode())


class Refuses(httpx.AsyncBaseTransport):
    """Another, which wants another key."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(401)


CANNED = Canned()
REFUSES = Refuses()
NOT_ONE = object


def settings(**more: Any) -> UpstreamSettings:
    return UpstreamSettings(**{"name": "a", "base_url": "http://host.invalid/v1"} | more)


@contextlib.asynccontextmanager
async def opened(settings: UpstreamSettings) -> AsyncIterator[Upstream]:
    upstream = open_upstream(settings)
    yield upstream
    await upstream.aclose()


@pytest.mark.parametrize(
    ("chosen", "client"),
    [
        ({}, DirectUpstream),
        ({"transport": "direct"}, DirectUpstream),
        ({"transport": "httpx"}, HttpxUpstream),
        ({"http2": True}, HttpxUpstream),
        ({"proxy": "http://proxy:3128"}, HttpxUpstream),
        ({"proxy": "socks5://me:pw@proxy:1080", "transport": "httpx"}, HttpxUpstream),
        ({"transport": "upstream.test_open_upstream:CANNED"}, HttpxUpstream),
    ],
)
async def test_the_settings_choose_the_client(chosen: dict[str, Any], client: type) -> None:
    async with opened(settings(**chosen)) as upstream:
        assert type(upstream) is client


@pytest.mark.parametrize("name", ["Canned", "CANNED"])
async def test_a_transport_of_ones_own_answers(name: str) -> None:
    chosen = settings(transport=f"upstream.test_open_upstream:{name}")
    async with opened(chosen) as upstream:
        assert await ask(upstream, CHAT) == b"canned /v1/chat/completions"
        assert await ask(upstream, STREAM) == b"canned /v1/chat/completions"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("no_such_module:x", "could not be loaded: ModuleNotFoundError"),
        ("upstream.test_open_upstream:NoSuch", "could not be loaded: AttributeError"),
        ("upstream.test_open_upstream:NOT_ONE", "is no httpx.AsyncBaseTransport"),
    ],
)
def test_a_transport_that_is_none_stops_the_start(spec: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        open_upstream(settings(transport=spec))


def test_a_transport_may_lie_in_the_current_folder(tmp_path, monkeypatch) -> None:
    (tmp_path / "of_my_own.py").write_text("import httpx\nmake = httpx.AsyncHTTPTransport\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    assert isinstance(open_upstream(settings(transport="of_my_own:make")), HttpxUpstream)


async def test_a_call_goes_through_the_http_proxy(fake: FakeUpstream) -> None:
    fake.answer(Script(body=b"by proxy"))
    async with opened(settings(proxy=fake.root_url, api_keys=[KEY])) as upstream:
        assert await ask(upstream, CHAT) == b"by proxy"
    [received] = fake.requests
    assert received.target == "http://host.invalid/v1/chat/completions"


async def test_a_call_goes_through_the_socks_proxy(fake: FakeUpstream) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)  # version 5, one way to say who one is: none
        writer.write(b"\x05\x00")
        version_command_kind = await reader.readexactly(4)
        assert version_command_kind == b"\x05\x01\x00\x03"  # connect to a name
        asked.append(await reader.readexactly((await reader.readexactly(1))[0] + 2))
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        there, thither = await asyncio.open_connection("127.0.0.1", fake.port)
        await asyncio.gather(pump(reader, thither), pump(there, writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    fake.answer(Script(body=b"by socks"))
    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with opened(settings(proxy=f"socks5h://127.0.0.1:{port}")) as upstream:
            assert await ask(upstream, CHAT) == b"by socks"
    assert asked == [b"host.invalid" + (80).to_bytes(2, "big")]


async def test_a_probe_goes_to_the_proxy_and_asks_nothing(fake: FakeUpstream) -> None:
    async with opened(settings(proxy=fake.root_url)) as upstream:
        await upstream.probe(20)
    await fake.until(lambda: fake.connections and not fake.open_connections)
    assert fake.requests == []


async def test_a_probe_behind_a_proxy_fails_when_the_proxy_cannot_reach_the_upstream(
    fake: FakeUpstream,
) -> None:
    fake.answer(Script(status=502))
    chosen = settings(proxy=fake.root_url, base_url="https://host.invalid/v1")
    async with opened(chosen) as upstream:
        with fails_with(UpstreamUnreachable):
            await upstream.probe(20)
    assert [received.method for received in fake.requests] == ["CONNECT"]


async def test_a_transport_of_ones_own_is_not_probed() -> None:
    async with opened(settings(transport="upstream.test_open_upstream:CANNED")) as upstream:
        await upstream.probe(20)


@pytest.mark.parametrize("transport", ["direct", "httpx", "upstream.test_open_upstream:REFUSES"])
async def test_whoever_watches_is_told_of_a_refused_key(fake: FakeUpstream, transport: str) -> None:
    told: list[Event] = []
    fake.answer(Script(status=401))
    chosen = settings(base_url=fake.url, api_keys=[KEY], transport=transport)
    upstream = open_upstream(chosen, told.append)
    with fails_with(UpstreamAuth):
        await ask(upstream, CHAT)
    await upstream.aclose()
    [event] = told
    assert isinstance(event, KeyRetired)


async def test_a_proxy_that_is_not_there_is_unreachable(silent_listener: str) -> None:
    async with opened(settings(proxy="http://127.0.0.1:1")) as upstream:
        with fails_with(UpstreamUnreachable):
            await ask(upstream, CHAT)
