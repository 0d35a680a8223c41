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

from relay.errors import UpstreamUnreachable
from relay.settings import SettingsError, UpstreamSettings
from relay.types import Backend
from relay.upstream import open_upstream
from relay.upstream.direct import DirectUpstream
from relay.upstream.via_httpx import HttpxUpstream


class Canned(httpx.AsyncBaseTransport):
    """A transport that somebody else has written."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"canned " + request.url.path.encode())


CANNED = Canned()
NOT_ONE = object


def settings(**more: Any) -> UpstreamSettings:
    return UpstreamSettings(**{"name": "a", "base_url": "http://host.invalid/v1"} | more)


@contextlib.asynccontextmanager
async def opened(settings: UpstreamSettings) -> AsyncIterator[Backend]:
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


async def test_a_proxy_that_is_not_there_is_unreachable(silent_listener: str) -> None:
    async with opened(settings(proxy="http://127.0.0.1:1")) as upstream:
        with fails_with(UpstreamUnreachable):
            await ask(upstream, CHAT)
