"""Large bodies up and down: never held in memory, and ended when their client leaves."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cli.program import environment
from fake_script import Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay

MEGABYTE = 1024 * 1024
PIECE = b"x" * MEGABYTE
PIECES = 64
BINARY = {"content-type": "application/octet-stream"}


@pytest.fixture
def program(upstream: FakeUpstream, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A relay in a process of its own, and where it listens."""
    settings = {"RELAY_UPSTREAM_URL": upstream.url, "RELAY_PASSTHROUGH": "*", "RELAY_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "relay", "serve"],
        cwd=tmp_path,
        env=environment(settings),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process:
        first = process.stderr.readline()
        yield process, first.split()[-1]
        process.terminate()


def peak_bytes(process: subprocess.Popen[str]) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_upload_and_a_large_download_are_not_held_in_memory(
    program: tuple[subprocess.Popen[str], str], upstream: FakeUpstream
) -> None:
    process, url = program
    with httpx.Client(timeout=60, trust_env=False) as http:
        upstream.answer(Script(body=b"{}"))
        http.post(f"{url}/embeddings", json={}).raise_for_status()
        before = peak_bytes(process)
        for content in (PIECE * PIECES, (PIECE for _ in range(PIECES))):
            http.post(f"{url}/files", content=content, headers=BINARY).raise_for_status()
            assert len(upstream.requests[-1].body) == PIECES * MEGABYTE
        upstream.answer(Script(pieces=[PIECE] * PIECES))
        with http.stream("GET", f"{url}/files/f/content") as answer:
            assert sum(map(len, answer.iter_raw())) == PIECES * MEGABYTE
    assert peak_bytes(process) - before < 16 * MEGABYTE


@pytest.fixture
def relay(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    return start_relay(upstream_url=upstream.url, passthrough=["*"])


@contextlib.contextmanager
def client(relay: RunningRelay) -> Iterator[socket.socket]:
    host, port = relay.root.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        yield sock


@pytest.mark.parametrize("framing", [b"content-length: 9000000", b"transfer-encoding: chunked"])
def test_a_client_that_leaves_in_mid_upload_ends_the_upstreams_request(
    relay: RunningRelay, upstream: FakeUpstream, framing: bytes
) -> None:
    with client(relay) as sock:
        sock.sendall(b"POST /v1/files HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n5\r\nhello\r\n" % framing)
        upstream.wait_for(lambda: any(one.heard_at for one in upstream.connections))
    upstream.wait_for(lambda: not upstream.open_connections)
    assert not upstream.requests


def test_a_client_that_leaves_after_its_upload_ends_the_upstreams_work(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(pieces=[b"x"], stall_after=0))
    with client(relay) as sock:
        sock.sendall(b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        sock.sendall(b"x" * 100_000)
        upstream.wait_for(lambda: upstream.requests)
    upstream.wait_for(lambda: upstream.requests[0].closed_at)


def test_a_client_that_leaves_in_mid_download_ends_the_upstreams_answer(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(pieces=[b"first", b"second"], stall_after=1))
    with relay.http.stream("GET", "/v1/files/f/content") as answer:
        assert next(answer.iter_raw()) == b"first"
    upstream.wait_for(lambda: upstream.requests[0].closed_at)


def test_a_refusal_of_a_large_body_reaches_the_client(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(status=400, body=b'{"error": "no"}'))
    answer = relay.http.post("/v1/files", content=PIECE, headers=BINARY)
    assert (answer.status_code, answer.content) == (400, b'{"error": "no"}')
    assert relay.http.get("/healthz").status_code == 200


def test_an_upload_whose_upstream_is_not_there_is_tried_again_and_then_502(
    start_relay: StartRelay,
) -> None:
    relay = start_relay(upstream_url="http://127.0.0.1:1/v1", passthrough=["*"], retries=1)
    answer = relay.http.post("/v1/files", content=PIECE, headers=BINARY)
    assert (answer.status_code, answer.headers["x-relay-attempts"]) == (502, "2")
