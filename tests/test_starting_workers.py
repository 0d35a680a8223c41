"""Starting a worker, as far as no end-to-end test can bring it about at will."""

import os
import signal
import socket
from collections.abc import Callable

import pytest

from relay import workers
from relay.workers import Orders, Worker


class Interrupted:
    """Stands for a process, during whose start somebody presses Ctrl-C."""

    def __init__(self, *_: object, **__: object) -> None:
        self.blocked: set[int] = set()

    def start(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        self.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())


def work(_: socket.socket, __: Callable[[], None]) -> None:
    """Nothing."""


def test_ctrl_c_while_a_worker_is_started_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    monkeypatch.setattr(workers._SPAWN, "Process", Interrupted)
    try:
        with socket.socket() as listener:
            worker = Worker(Orders(work, 1.0), listener)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]
    assert signal.SIGINT in worker._process.blocked  # type: ignore[attr-defined]
    worker._reports.close()
