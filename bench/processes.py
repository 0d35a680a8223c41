"""The processes of a benchmark: started, pinned, read from /proc, and ended whatever happens.

The system under test has one core to itself; this process, whose load it is, and the upstream share
another. A process and all that it starts are a session of their own, and are counted as one.
"""

import hashlib
import http.client
import json
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.workloads import CLIENT_KEY, UPSTREAM_KEY

HERE = Path(__file__).resolve().parent
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
STARTED_WITHIN_S = 20
STOPPED_WITHIN_S = 10
WANTED_FILES = 65536

RELAY_TOML = """\
[[upstreams]]
name = "bench"
base_url = "{url}"
api_keys = ["env:BENCH_UPSTREAM_KEY"]
max_parallel = 20000
max_idle = 4096
ca_file = "{ca_file}"
timeouts = {{ connect_s = 30, first_byte_s = 600, idle_s = 600, total_s = 600 }}
"""

KEY = """
[[keys]]
name = "bench"
sha256 = "{digest}"
"""
LIMITS = """\
rpm = 100000000
tpm = 1000000000000
parallel = 100000
budget_usd = 1000000
"""
"""They come behind a key, or a team."""

PRICES = """
[[prices]]
model = "bench-*"
prompt_usd = 0.15
completion_usd = 0.6
"""

SETUPS = {
    "": "",
    "routed": """
[[models]]
id = "bench-*"
targets = [ {{ upstream = "bench" }} ]
""",
    "counted": KEY + LIMITS + PRICES,
}
"""What is added to it for the work of that name."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where what runs; a system under test without a core of its own runs on any."""

    under_test: int | None
    load: int

    @classmethod
    def available(cls) -> "Cores":
        """The first two cores this process may use; one core serves both."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[min(1, len(cores) - 1)])


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it listens, and its session of processes."""

    name: str
    port: int
    session: int

    def cpu_s(self) -> float:
        """User and system time of its processes so far; a tick of the kernel's is 10 ms."""
        return sum(cpu_s(stat) for _, stat in self._processes())

    def resident_bytes(self) -> int:
        """Resident memory of its processes."""
        pages = sum(int(stat[21]) for _, stat in self._processes())
        return pages * resource.getpagesize()

    def writes(self) -> int:
        """Calls of `write` and its like by its processes so far, or 0 where that is not told."""
        total = 0
        for pid, _ in self._processes():
            with suppress(OSError):
                text = Path("/proc", pid, "io").read_text(encoding="ascii")
                total += int(dict(line.split(": ") for line in text.splitlines())["syscw"])
        return total

    def _processes(self) -> Iterator[tuple[str, list[str]]]:
        """The session's processes."""
        return ((pid, stat) for pid, stat in running() if int(stat[3]) == self.session)


def running() -> Iterator[tuple[str, list[str]]]:
    """All processes, each with the fields of /proc/PID/stat from the third on."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            text = Path(entry.path, "stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            continue  # it has ended in this moment
        yield entry.name, text[text.rindex(")") + 2 :].split()


def cpu_s(stat: list[str]) -> float:
    """User and system time of a process with those fields, and of its ended children."""
    return sum(map(int, stat[11:15])) / TICKS_A_SECOND


@dataclass(frozen=True, slots=True)
class FakeUpstream:
    """The upstream, with and without TLS."""

    server: Server
    tls_port: int
    cert: Path

    def get(self, path: str) -> dict[str, int]:
        """Ask the upstream itself."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request("GET", path)
            answer: dict[str, int] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()


def raise_file_limit() -> int:
    """As many descriptors as this machine allows, inherited by all that is started."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (WANTED_FILES, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
        except (ValueError, OSError):
            continue
        return limit
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@contextmanager
def upstream(folder: Path, cores: Cores) -> Iterator[FakeUpstream]:
    """A running fake upstream, with a certificate of its own making."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    command = [sys.executable, "-m", "bench.upstream", "--cert", str(cert), "--key", str(key)]
    with _running(command, cores.load, folder, cwd=HERE.parent, pipe=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the upstream did not start:\n{_log(folder)}")
        ports = json.loads(line)
        yield FakeUpstream(Server("upstream", ports["plain"], process.pid), ports["tls"], cert)


@contextmanager
def relay(
    folder: Path,
    cores: Cores,
    target: FakeUpstream,
    *,
    tls: bool = False,
    setup: str = "",
    config: str = "",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """`relay serve` in front of the upstream, with its key check on.

    `config` is added to the file as a setup is, `settings` to the environment.
    """
    folder.mkdir()
    port = _free_port()
    url = (
        f"https://localhost:{target.tls_port}" if tls else f"http://127.0.0.1:{target.server.port}"
    )
    digest = hashlib.sha256(CLIENT_KEY.encode()).hexdigest()
    text = RELAY_TOML + SETUPS[setup] + config
    filled = text.format(url=url + "/v1", ca_file=target.cert, digest=digest)
    (folder / "relay.toml").write_text(filled, encoding="utf-8")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RELAY_", "OPENAI_"))}
    env = kept | {
        "RELAY_PORT": str(port),
        "RELAY_SHUTDOWN_GRACE_S": "1",
        "BENCH_UPSTREAM_KEY": UPSTREAM_KEY,
    }
    if "[[keys]]" not in text:
        env["RELAY_API_KEYS"] = CLIENT_KEY
    env["RELAY_METRICS"] = "false"  # docs/metrics.md has what they cost
    if setup != "counted":  # nginx keeps nothing, either
        env["RELAY_DATABASE_URL"] = "none"
    env |= settings or {}
    command = [sys.executable, "-m", "relay", "serve"]
    with _serving("relay", command, cores.under_test, folder, port, env=env) as server:
        yield server


@contextmanager
def nginx(
    folder: Path,
    cores: Cores,
    target: FakeUpstream,
    *,
    tls: bool = False,
    setup: str = "",  # noqa: ARG001  # it does one thing
) -> Iterator[Server]:
    """nginx in front of the upstream, with a prefix of its own."""
    folder.mkdir()
    port = _free_port()
    values = {
        "USER": pwd.getpwuid(os.getuid()).pw_name,
        "FILES": str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        "UPSTREAM": str(target.tls_port if tls else target.server.port),
        "SCHEME": "https" if tls else "http",
        "PORT": str(port),
        "KEY": UPSTREAM_KEY,
        "CERT": str(target.cert),
    }
    text = (HERE / "nginx.conf").read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    command = [nginx_path() or "nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
    with _serving("nginx", command, cores.under_test, folder, port) as server:
        yield server


def nginx_path() -> str | None:
    """Where nginx is, if it is installed; Debian puts it where users do not look."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def _serving(
    name: str,
    command: list[str],
    core: int | None,
    folder: Path,
    port: int,
    env: dict[str, str] | None = None,
) -> Iterator[Server]:
    with _running(command, core, folder, env=env, cwd=folder) as process:
        deadline = time.monotonic() + STARTED_WITHIN_S
        while not _accepts(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n{_log(folder)}")
            time.sleep(0.05)
        yield Server(name, port, process.pid)


@contextmanager
def _running(
    command: list[str],
    core: int | None,
    folder: Path,
    *,
    cwd: Path,
    env: dict[str, str] | None = None,
    pipe: bool = False,
) -> Iterator["subprocess.Popen[str]"]:
    """A process in a session of its own, so that Ctrl-C reaches this one alone, which ends it."""
    ours = os.sched_getaffinity(0)
    with (folder / "log").open("a", encoding="utf-8") as log:
        # What is started inherits it.
        os.sched_setaffinity(0, ours if core is None else {core})
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdout=subprocess.PIPE if pipe else log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        finally:
            os.sched_setaffinity(0, ours)
    try:
        yield process
    finally:
        _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
            process.wait(STOPPED_WITHIN_S)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _log(folder: Path) -> str:
    return (folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:]
