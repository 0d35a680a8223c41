"""Relays that run in a thread of the tests or in a process, and the requests they are sent."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import httpx

from relay.app import Relay
from relay.serving import Server, build_server, listen
from relay.settings import Settings

ROOT = Path(__file__).parents[1]
_ADDRESS = re.compile(r"relay \S+ on (http://\S+)/v1$")
_LISTENING = re.compile(r" INFO listening url=(http://\S+)/v1\n")
UPSTREAM_KEY = "sk-hidden-canary-0123456789"
"""The key that only the upstream may ever see."""


@dataclass
class RunningRelay:
    """A relay that serves in a thread, on a free port."""

    relay: Relay
    server: Server
    thread: threading.Thread
    root: str
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.root, timeout=30, trust_env=False, verify=False)

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    def ask(self, text: str = "one two three", **fields: Any) -> httpx.Response:
        """One chat request, not streamed unless `stream=True` is among the fields."""
        return self.http.post("/v1/chat/completions", json=chat(text, **fields))

    def stop(self) -> None:
        self.http.close()
        self.server.should_exit = True
        self.thread.join(timeout=30)
        assert not self.thread.is_alive()


StartRelay = Callable[..., RunningRelay]


@contextmanager
def relays() -> Iterator[StartRelay]:
    """Starts relays with the settings given, which stop with the block."""
    running: list[RunningRelay] = []

    def start(*, local: Any = None, **settings: Any) -> RunningRelay:
        # Most tests want nothing remembered; those that do say where.
        usual = {"shutdown_grace_s": 0.2, "database_url": "none"}
        relay = Relay(Settings(**{**usual, **settings}), local=local)
        server = build_server(relay)
        listener = listen("127.0.0.1", 0)
        root = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append(RunningRelay(relay, server, thread, root))
        running[-1].http.get("/healthz").raise_for_status()
        return running[-1]

    yield start
    for one in running:
        one.stop()


def chat(text: str = "one two three", **fields: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


@contextmanager
def program(directory: Path, *arguments: str) -> Iterator[str]:
    """A Python program that serves by the environment, and its address; it has to end well."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RELAY_", "OPENAI_"))}
    with TemporaryFile() as log:
        running = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=directory,
            env=clean | {"RELAY_PORT": "0", "PYTHONPATH": str(ROOT)},
            stderr=log,
        )
        try:
            while (told := _LISTENING.search(os.pread(log.fileno(), 100_000, 0).decode())) is None:
                with suppress(subprocess.TimeoutExpired):
                    raise AssertionError(f"it ended with {running.wait(timeout=0.05)}")
            yield told[1]
        finally:
            running.terminate()
            assert running.wait(timeout=20) == 0


@contextmanager
def process(directory: Path, **settings: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`relay serve` as a process of its own that answers, on a free port, and its address.

    What it wrote up to its address has been read; when it ended without one, the address is empty.
    """
    settings = {"database_url": "none", **settings}
    names = {f"RELAY_{name.upper()}": str(value) for name, value in settings.items()}
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RELAY_", "OPENAI_"))}
    # A machine that keeps no bytecode would compile every library once a process.
    clean.pop("PYTHONDONTWRITEBYTECODE", None)
    clean["PYTHONPYCACHEPREFIX"] = str(ROOT / ".pytest_cache" / "bytecode")
    relay = subprocess.Popen(
        [sys.executable, "-m", "relay", "serve", "--port", "0"],
        cwd=directory,
        env=clean | names,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert relay.stdout is not None
    try:
        announced = (_ADDRESS.match(line) for line in _lines(relay.stdout.fileno()))
        root = next((found[1] for found in announced if found), "")
        if root:
            httpx.get(f"{root}/healthz", timeout=30, trust_env=False)
        yield relay, root
    finally:
        relay.kill()
        relay.wait()
        relay.stdout.close()


def _lines(descriptor: int) -> Iterator[str]:
    """Lines as they come; byte by byte, as what was read ahead would be lost to `communicate`."""
    line = b""
    while byte := os.read(descriptor, 1):
        line += byte
        if byte == b"\n":
            yield line.decode()
            line = b""


def accepts(root: str) -> bool:
    """Whether something listens there."""
    address = httpx.URL(root)
    try:
        socket.create_connection((address.host, address.port or 0)).close()
    except (ConnectionRefusedError, ConnectionResetError):  # closed, or closing this very moment
        return False
    return True
