"""Several processes that serve one address, and their parent, which looks after them.

    parent    has bound the address; starts the workers, replaces one that ends, stops them all
    worker    takes connections from the listening socket, which is one and the same for all

The first worker goes ahead: what keeps it from serving is said once, and nothing is tried again.
Later on a worker that ends is replaced, after a pause that grows while they end young.
"""

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Protocol

from relay.settings import SettingsError

YOUNG_S = 10.0
"""A worker that ends younger than this is replaced after a pause, an older one at once."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 30.0
"""The pause doubles from the first to the longest."""

Work = Callable[[socket.socket, Callable[[], None]], None]
"""Serves on a listening socket until SIGTERM, and calls back once it does. To be pickled."""

_SPAWN = multiprocessing.get_context("spawn")  # a fork would copy threads' locks as they stand
_SERVING = b""  # what a worker reports when it serves; else the reason why it cannot

logger = logging.getLogger(__name__)


class WorkerFailed(Exception):
    """A worker could not begin to serve; the text says why."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What workers do, and how long they have to end by themselves after SIGTERM."""

    work: Work
    patience_s: float


class Companion(Protocol):
    """What runs in the parent, for the workers: entered before the first, left after the last."""

    async def __aenter__(self) -> object: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...
    async def serving(self) -> None:
        """Wait until it does what it is there for. Raises: WorkerFailed."""
        ...


class Together:
    """Several companions as one: entered in this order, left in the opposite one."""

    def __init__(self, *companions: Companion) -> None:
        self._companions = companions
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Together":
        async with AsyncExitStack() as entered:
            for companion in self._companions:
                await entered.enter_async_context(companion)
            self._stack = entered.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def serving(self) -> None:
        """Wait for all of them. Raises: WorkerFailed."""
        for companion in self._companions:
            await companion.serving()


class Workers:
    """`count` processes that do the same work on the same socket.

    `announce` is called once, when the first of them serves. On SIGHUP, or when what `watch` was
    given is called, `renew` tells what is to be done from now on; unless it is None, those that
    run get a SIGHUP themselves, and those that come later begin with it.
    """

    def __init__(
        self,
        orders: Orders,
        listener: socket.socket,
        *,
        count: int,
        announce: Callable[[], None],
        renew: Callable[[], Orders | None],
        watch: Callable[[Callable[[], None]], None],
        companion: Companion,
    ) -> None:
        self._orders = orders
        self._listener = listener
        self._count = count
        self._announce = announce
        self._renew = renew
        self._watch = watch
        self._companion = companion
        self._workers: set[Worker] = set()
        self._stopping = False

    def run(self) -> None:
        """Until SIGTERM or SIGINT, which end every worker. To be called in the main thread.

        Raises:
            WorkerFailed: the first worker, or the companion, could not begin to serve.
        """
        asyncio.run(self._accompanied())

    async def _accompanied(self) -> None:
        async with self._companion:
            await self._supervise()

    async def _supervise(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            if not self._stopping and task is not None:
                self._stopping = True
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        self._watch(self._pass_on)
        try:
            first = self._start()
            await first.serving()
            await self._companion.serving()
            self._announce()
            async with asyncio.TaskGroup() as keepers:
                keepers.create_task(self._keep(first))
                for _ in range(self._count - 1):
                    keepers.create_task(self._keep(self._start()))
        except asyncio.CancelledError:
            pass  # a stop that was asked for is a success
        finally:
            self._stopping = True
            await self._end_all()

    def _pass_on(self) -> None:
        orders = None if self._stopping else self._renew()
        if orders is not None:
            self._orders = orders
            for worker in self._workers:
                worker.follow(orders)

    def _start(self) -> "Worker":
        worker = Worker(self._orders, self._listener)
        self._workers.add(worker)
        return worker

    async def _keep(self, worker: "Worker") -> None:
        """Wait for the end of that worker, and of all those that replace it."""
        clock = asyncio.get_running_loop().time
        pause_s = FIRST_PAUSE_S
        while True:
            began = clock()
            with suppress(WorkerFailed):
                await worker.serving()
            await worker.ended()
            logger.warning("worker_ended", extra={"fields": worker.account()})
            self._workers.discard(worker)
            worker.close()
            if clock() - began < YOUNG_S:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                pause_s = FIRST_PAUSE_S
            worker = self._start()

    async def _end_all(self) -> None:
        self._listener.close()  # or callers would wait for an answer that nobody gives
        for worker in self._workers:
            worker.terminate()
        ends = [asyncio.create_task(worker.ended()) for worker in self._workers]
        if ends:
            await asyncio.wait(ends, timeout=self._orders.patience_s)
        for end in ends:
            end.cancel()
        for worker in self._workers:
            worker.close()


class Worker:
    """One of the processes, running since it was made."""

    def __init__(self, orders: Orders, listener: socket.socket) -> None:
        self._orders = orders
        self._problem: str | None = None
        self._reports, theirs = _SPAWN.Pipe(duplex=False)
        self._process = _SPAWN.Process(target=_live, args=(orders.work, listener, theirs))
        resource_tracker.ensure_running()  # which would else unblock SIGINT within the start
        with _blocked(signal.SIGINT, signal.SIGHUP):
            self._process.start()
        theirs.close()

    async def serving(self) -> None:
        """Wait until it serves.

        Raises:
            WorkerFailed: it cannot, or has ended before.
        """
        if self._problem is None:
            await readable(self._reports.fileno())
            try:
                self._problem = self._reports.recv_bytes().decode()
            except EOFError:
                await self.ended()
                self._problem = f"a worker ended ({self._how()}) before it could serve"
        if self._problem:
            raise WorkerFailed(self._problem)

    async def ended(self) -> None:
        """Wait until the process has ended."""
        await readable(self._process.sentinel)
        self._process.join()

    @property
    def problem(self) -> str | None:
        """Why it could not serve; known once `serving` has told."""
        return self._problem or None

    def account(self) -> dict[str, object]:
        """How it ended, for the log."""
        reason = {"reason": self._problem} if self._problem else {}
        return {"pid": self._process.pid, "how": self._how(), **reason}

    def follow(self, orders: Orders) -> None:
        """Have it read the configuration again, as soon as it serves."""
        if orders is not self._orders:
            self._orders = orders
            pid = self._process.pid
            if pid is not None and self._process.exitcode is None:
                os.kill(pid, signal.SIGHUP)  # waits in a process that has not begun to attend

    def terminate(self) -> None:
        """Ask it to end: its open answers have their grace."""
        self._process.terminate()

    def close(self) -> None:
        """End it now if it still runs, and give everything back."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._reports.close()

    def _how(self) -> str:
        status = self._process.exitcode or 0
        return f"status {status}" if status >= 0 else signal.Signals(-status).name


def _live(work: Work, listener: socket.socket, reports: Connection) -> None:
    """What a worker does, from its first to its last moment.

    Ctrl-C goes to every process of a terminal, and one that has not begun would die with a
    traceback. The parent hears it, too, and ends them all: so it was blocked in here until now.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_follow_parent, name="relay-parent", daemon=True).start()
    try:
        work(listener, lambda: reports.send_bytes(_SERVING))
    except (SettingsError, ImportError) as exc:
        reports.send_bytes(str(exc).encode())
        sys.exit(1)


def _follow_parent() -> None:
    """When the parent is gone, end as if it had asked for that: no orphan keeps the address."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        signal.raise_signal(signal.SIGTERM)


@contextmanager
def _blocked(*numbers: signal.Signals) -> Iterator[None]:
    """A process that is started in this block gets these signals once it attends to them.

    This one gets them behind the block, so that none is lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def tell_parent() -> None:
    """In a worker: have the parent hear SIGHUP, which passes it on to all."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        os.kill(parent.pid, signal.SIGHUP)


async def readable(descriptor: int) -> None:
    """Wait until something can be read there."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
