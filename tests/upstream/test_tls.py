"""TLS to an upstream, over both clients: whom they trust, which name they ask for and show."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from upstream.calls import CHAT, STREAM, ask, fails_with
from upstream.certificates import Authority, Certificate

from relay.errors import BackendError, UpstreamProtocol, UpstreamUnreachable
from relay.settings import SettingsError, UpstreamSettings
from relay.types import Backend
from relay.upstream import open_upstream
from relay.upstream.direct import DirectUpstream
from relay.upstream.via_httpx import HttpxUpstream

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nsecret"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def server(authority: Authority) -> Certificate:
    return authority.issue("server", san="DNS:localhost,IP:127.0.0.1")


@contextlib.asynccontextmanager
async def serving(
    certificate: Certificate,
    *,
    answer: bytes = ANSWER,
    end: Callable[[asyncio.StreamWriter], None] | None = None,
    host: str = "127.0.0.1",
    **settings: Any,
) -> AsyncIterator[tuple[int, list[Any]]]:
    """A TLS server; gives its port, and what clients showed or asked for, as it comes."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    seen: list[Any] = []
    if clients := settings.get("clients"):
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    else:
        context.sni_callback = lambda _, name, __: seen.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if clients:
            seen.append(dict(x[0] for x in writer.get_extra_info("peercert")["subject"]))
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"}"):  # where our requests end
                writer.write(answer)
                await writer.drain()
                if end:
                    end(writer)
        writer.close()

    async with await asyncio.start_server(serve, host, 0, ssl=context) as listener:
        yield listener.sockets[0].getsockname()[1], seen


@pytest.fixture(params=[DirectUpstream, HttpxUpstream])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Backend]]:
    opened: list[Backend] = []

    def connect(port: int, host: str = "127.0.0.1", **settings: Any) -> Backend:
        url = f"https://{host}:{port}/v1"
        opened.append(request.param(UpstreamSettings(name="tls", base_url=url, **settings)))
        return opened[-1]

    yield connect
    for upstream in opened:
        await upstream.aclose()


async def test_an_upstream_of_ones_own_authority_is_trusted(
    authority: Authority, server: Certificate, connect: Callable[..., Backend]
) -> None:
    async with serving(server) as (port, _):
        upstream = connect(port, ca_file=authority.root.cert)
        for _ in range(3):
            assert await ask(upstream, CHAT) == b"secret"


async def test_an_upstream_of_an_unknown_authority_is_unreachable(
    server: Certificate, connect: Callable[..., Backend]
) -> None:
    async with serving(server) as (port, _):
        with fails_with(UpstreamUnreachable) as caught:
            await ask(connect(port), CHAT)
    assert "its certificate is refused (" in caught.value.message


async def test_the_name_of_the_host_is_asked_for(
    authority: Authority, server: Certificate, connect: Callable[..., Backend]
) -> None:
    async with serving(server, host="localhost") as (port, names):
        upstream = connect(port, "localhost", ca_file=authority.root.cert)
        assert await ask(upstream, CHAT) == b"secret"
        assert "localhost" in names


async def test_a_certificate_of_another_name_is_unreachable(
    authority: Authority, connect: Callable[..., Backend]
) -> None:
    other = authority.issue("other", san="DNS:example.com")
    async with serving(other) as (port, _):
        with fails_with(UpstreamUnreachable):
            await ask(connect(port, ca_file=authority.root.cert), CHAT)


async def test_a_client_certificate_is_shown(
    authority: Authority, server: Certificate, connect: Callable[..., Backend]
) -> None:
    ours = authority.issue("relay", san="DNS:relay")
    async with serving(server, clients=authority.root.cert) as (port, subjects):
        shown = {"cert_file": ours.cert, "key_file": ours.key}
        upstream = connect(port, ca_file=authority.root.cert, **shown)
        assert await ask(upstream, CHAT) == b"secret"
        assert subjects == [{"commonName": "relay"}]


async def test_without_the_client_certificate_that_is_asked_for_nothing_is_answered(
    authority: Authority, server: Certificate, connect: Callable[..., Backend]
) -> None:
    async with serving(server, clients=authority.root.cert) as (port, _):
        with pytest.raises(BackendError):
            await ask(connect(port, ca_file=authority.root.cert), CHAT)


@pytest.mark.parametrize("call", [CHAT, STREAM], ids=["complete", "stream"])
async def test_a_body_until_the_end_of_the_connection_needs_tls_to_say_the_end(
    authority: Authority, server: Certificate, call: Any
) -> None:
    def cut(writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    def say_end(writer: asyncio.StreamWriter) -> None:
        writer.close()

    for end in (say_end, cut):
        async with serving(server, answer=UNTIL_CLOSE, end=end) as (port, _):
            url = f"https://127.0.0.1:{port}/v1"
            settings = UpstreamSettings(name="t", base_url=url, ca_file=authority.root.cert)
            upstream = DirectUpstream(settings)
            if end is say_end:
                assert await ask(upstream, call) == b"secret"
            else:
                with fails_with(UpstreamProtocol):
                    await ask(upstream, call)
            await upstream.aclose()


def test_files_that_are_no_certificates_stop_the_start(authority, tmp_path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    for wrong in (
        {"ca_file": nonsense},
        {"cert_file": nonsense},
        {"cert_file": authority.root.cert, "key_file": authority.issue("x", san="DNS:x").key},
    ):
        with pytest.raises(SettingsError, match=r"cert_file|ca_file"):
            open_upstream(UpstreamSettings(name="a", base_url="https://h", **wrong))


def test_a_key_with_a_password_stops_the_start_instead_of_asking_at_the_terminal(
    authority, tmp_path
) -> None:
    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-in", authority.root.key, "-out", locked]
    subprocess.run([*command, "-aes256", "-passout", "pass:x"], check=True, capture_output=True)
    settings = UpstreamSettings(
        name="a", base_url="https://h", cert_file=authority.root.cert, key_file=locked
    )
    with pytest.raises(SettingsError, match="encrypted"):
        open_upstream(settings)
