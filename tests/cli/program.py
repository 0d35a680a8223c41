"""The `relay` command as its users have it: a process in a directory, or at a terminal."""

import atexit
import codecs
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import IO, Self

from waiting import until

ROOT = Path(__file__).parents[2]
FORKER = Path(__file__).parent / "forker.py"
PATIENCE_S = 30.0
CTRL_C = "\x03"
CTRL_D = "\x04"

# Makes the terminal at descriptor 0 its own, so that Ctrl-C reaches it, and becomes the program.
_AT_TERMINAL = """
import fcntl, os, signal, sys, termios
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # tests may be run by a shell, or nohup, that ignores it
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "relay", *sys.argv[1:]])
"""


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without the settings of whoever runs the tests, and with `given`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("RELAY_", "OPENAI_"))
    }
    # A machine that keeps no bytecode would compile every library once a test.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    ours = {
        "COLUMNS": "200",
        "PYTHONPATH": str(ROOT),
        "PYTHONPYCACHEPREFIX": str(ROOT / ".pytest_cache" / "bytecode"),
        "TERM": "dumb",
    }
    return kept | ours | dict(given or {})


class Program:
    """Runs `python -m relay` to its end, by way of the forker."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(
        self, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        order = {
            "arguments": arguments,
            "directory": str(self.directory),
            "environment": environment(env),
        }
        with ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            given, *outs = files
            given.write(stdin.encode())
            given.seek(0)
            status = _forker().run(json.dumps(order).encode(), [one.fileno() for one in files])
            told = [_read(one) for one in outs]
        return subprocess.CompletedProcess(arguments, status, *told)


class _Forker:
    """The process that forks, while this one lives."""

    def __init__(self) -> None:
        # Of messages: of a stream, a child's number and its status could come as one.
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._orders.settimeout(PATIENCE_S)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(FORKER), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment(),
                cwd=ROOT,
            )
        atexit.register(self._process.kill)

    def run(self, order: bytes, descriptors: list[int]) -> int:
        socket.send_fds(self._orders, [order], descriptors)
        child = int(self._orders.recv(20))
        try:
            return int(self._orders.recv(20))
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            self._orders.recv(20)
            raise


@cache
def _forker() -> _Forker:
    return _Forker()


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


class Terminal:
    """`python -m relay` at a pseudo-terminal: what is typed, what is seen."""

    def __init__(self, *arguments: str, directory: Path, stdout: int | None = None) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AT_TERMINAL, *arguments],
            cwd=directory,
            env=environment(),
            stdin=theirs,
            stdout=stdout or theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.seen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the terminal."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def interrupt_prompt(self) -> None:
        """Type Ctrl-C at the prompt, once the program waits there.

        Python's readline loses one that comes after it wrote the prompt and before it waits.
        """
        status = Path(f"/proc/{self.process.pid}/stat")
        until(
            lambda: not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "S"
        )
        self.type(CTRL_C)

    def see(self, text: str) -> str:
        """Read until `text` has come; returns, and forgets, everything up to its end."""
        while text not in self.seen:
            piece = self._read()
            assert piece, f"the program ended without {text!r}: {self.seen!r}"
            self.seen += piece
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def exit_status(self) -> int:
        """Read to the end; returns the exit status."""
        while piece := self._read():
            self.seen += piece
        return self.process.wait(PATIENCE_S)

    def _read(self) -> str:
        """What comes next; empty at the end."""
        text = ""
        while not text:
            ready, _, _ = select.select([self._ours], [], [], PATIENCE_S)
            assert ready, f"nothing more came after {self.seen!r}"
            try:
                text = self._decoder.decode(os.read(self._ours, 65536))
            except OSError:  # so says Linux when the other side is closed
                break
        return text
