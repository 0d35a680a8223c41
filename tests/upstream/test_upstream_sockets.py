"""WebSockets to an upstream: TLS, keys, kinds and proxies, over both clients' settings."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_realtime import FakeRealtime
from upstream.certificates import Authority

from relay.errors import BackendError, UpstreamProtocol, UpstreamUnreachable
from relay.settings import UpstreamSettings
from relay.types import Call
from relay.upstream import SocketClosed, UpstreamSocket, open_upstream


@pytest.fixture
def realtime() -> Iterator[FakeRealtime]:
    with FakeRealtime() as fake:
        yield fake


async def opened(base_url: str, *offered: str, path: str = "realtime", **more: Any) -> Any:
    settings = UpstreamSettings(name="u", base_url=base_url, **more)
    upstream: Any = open_upstream(settings)
    try:
        return await upstream.sockets.open(Call(path=path, headers=[(b"x-a", b"1")]), offered)
    finally:
        await upstream.aclose()


@pytest.mark.parametrize("transport", ["direct", "httpx"])
async def test_over_tls_whoever_the_settings_trust(tmp_path: Path, transport: str) -> None:
    authority = Authority(tmp_path)
    certificate = authority.issue("server", san="IP:127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    with FakeRealtime(tls=context) as fake:
        socket: UpstreamSocket = await opened(
            fake.url, "other", "realtime", ca_file=authority.root.cert, transport=transport
        )
        assert socket.subprotocol == "realtime"
        assert await socket.receive() == '{"type": "session.created"}'
        await socket.send(b"\x00")
        assert await socket.receive() == b"\x00"
        await socket.close(4001, "bye")
        with pytest.raises(SocketClosed):
            await socket.receive()
        with pytest.raises(SocketClosed):
            await socket.send("late")
        await fake.until(lambda: fake.closes)
        assert fake.closes == [(4001, "bye")]
        with pytest.raises(UpstreamUnreachable):
            await opened(fake.url, transport=transport)


async def test_a_token_of_a_file_and_the_path_and_key_of_azure(
    realtime: FakeRealtime, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("tk-1")
    one = await opened(realtime.url, token_file=tmp_path / "token", headers={"x-a": "own"})
    base = realtime.url.removesuffix("/v1")
    path = "realtime?deployment=d"
    two = await opened(base, path=path, kind="azure", api_keys=["az-1"], api_version="2025-04-01")
    for socket in (one, two):
        await socket.close(1000, "")
    first, second = realtime.handshakes
    assert first.headers["authorization"] == "Bearer tk-1"
    assert first.headers.get_all("x-a") == ["own"]
    assert second.path == "/openai/realtime?deployment=d&api-version=2025-04-01"
    assert second.headers["api-key"] == "az-1"


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_the_proxy_of_the_settings_is_used(realtime: FakeRealtime, scheme: str) -> None:
    with pytest.raises(UpstreamUnreachable):
        await opened(realtime.url, proxy=f"{scheme}://127.0.0.1:9")
    assert not realtime.handshakes


async def test_a_retired_key_that_is_taken_again_is_back(realtime: FakeRealtime) -> None:
    settings = UpstreamSettings(name="u", base_url=realtime.url, api_keys=["sk-1", "sk-2"])
    upstream: Any = open_upstream(settings)
    for _ in range(2):
        realtime.refuse(401, b"{}")
        with pytest.raises(BackendError):
            await upstream.sockets.open(Call(path="realtime"), ())
    states = upstream.keys
    assert [key["state"] for key in states()] == ["retired", "retired"]
    await (await upstream.sockets.open(Call(path="realtime"), ())).close(1000, "")
    assert [key["state"] for key in states()].count("ok") == 1
    await upstream.aclose()


async def test_what_is_no_answer_to_a_handshake() -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-nonsense\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(nonsense, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UpstreamProtocol):
            await opened(f"http://127.0.0.1:{port}/v1")
