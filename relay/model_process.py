"""The process that has the local model when there are several workers: one, so it is loaded once.

    parent     listens on a unix socket in a directory of its own; starts the process when it is
               needed, starts it again when it dies
    process    `local.host.Host`: answers on that socket
    worker     `local.shared.SharedBackend`: asks there

Another configuration of the local model is another process; the one before ends when the last
worker has left it.
"""

import asyncio
import hashlib
import logging
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from relay.backends import local_mark
from relay.errors import NoUpstream
from relay.local import (
    LocalBackend,
    LocalModel,
    as_backend,
    is_chosen,
    is_needed,
    may_be_needed,
    open_locals,
)
from relay.local.frames import of_failure
from relay.local.host import Host
from relay.local.shared import SharedBackend
from relay.settings import Settings, SettingsError
from relay.telemetry import logs
from relay.workers import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    YOUNG_S,
    Orders,
    Worker,
    WorkerFailed,
    readable,
)

ENDING_LIMIT_S = 5.0
"""What the process has to give the model back when all workers have ended; then it is killed."""

BACKLOG = 128
"""Connections that may wait until the process takes them; more calls wait for one of these."""

LONGEST_SOCKET_PATH = 100
"""Characters; systems allow 104 to 108."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a worker has in place of a local model: where to ask, in `folder`.

    `given`: the model was given in Python, so it is there whatever the settings name.
    """

    folder: Path
    given: bool = False

    def open(self, settings: Settings) -> LocalBackend:
        """The model of those settings, which the parent has."""
        return SharedBackend(self.path(settings))

    def path(self, settings: Settings) -> Path:
        """The socket of the model that those settings amount to."""
        mark = repr(local_mark(settings)).encode()
        return self.folder / hashlib.sha256(mark).hexdigest()[:16]


class ModelProcesses:
    """The one of now, and those before it whose answers are not over yet.

    Entering begins, leaving ends all of them and takes the directory away.
    """

    def __init__(self, settings: Settings, given: LocalModel | LocalBackend | None) -> None:
        """Raises: SettingsError: no socket can be made in the directory for temporary files."""
        self._settings = settings
        self._given = given
        self._folder = tempfile.TemporaryDirectory(prefix="relay-")
        if len(self._folder.name) > LONGEST_SOCKET_PATH - 20:
            raise SettingsError(
                f"the directory for temporary files ({tempfile.gettempdir()}) has too long a name "
                "for sockets: set TMPDIR to a shorter one"
            )
        self.sharing = Sharing(Path(self._folder.name), given is not None)
        self._now: ModelProcess | None = None
        self._before: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ModelProcesses":
        self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._now is not None:
            self._retire(self._now)
        if self._before:  # all workers have gone, so nothing keeps it but the engine itself
            before = set(self._before)
            _done, stuck = await asyncio.wait(before, timeout=ENDING_LIMIT_S)
            for task in stuck:
                task.cancel()
            if stuck:
                await asyncio.wait(stuck)
        self._folder.cleanup()

    async def serving(self) -> None:
        """Wait for the process, if it is needed from the beginning.

        Raises:
            WorkerFailed: the model cannot be opened.
        """
        if self._now is not None and self._at_start():
            await self._now.serving()

    def follow(self, settings: Settings) -> None:
        """Workers that come, or reload, from now on have those settings."""
        before, self._settings = self._now, settings
        path = self.sharing.path(settings)
        if before is not None and before.path == path and self._needed():
            return
        self._now = None
        if before is not None:
            self._retire(before)
        self._begin()

    def _begin(self) -> None:
        if self._needed():
            settings = self._settings
            work = partial(_work, settings, self._given)
            self._now = ModelProcess(
                self.sharing.path(settings),
                Orders(work, ENDING_LIMIT_S),
                at_once=self._at_start(),
            )

    def _needed(self) -> bool:
        return self.sharing.given or may_be_needed(self._settings)

    def _at_start(self) -> bool:
        return self.sharing.given or is_chosen(self._settings) or is_needed(self._settings)

    def _retire(self, process: "ModelProcess") -> None:
        task = asyncio.get_running_loop().create_task(process.aclose())
        self._before.add(task)
        task.add_done_callback(self._before.discard)


class ModelProcess:
    """The process behind one socket: started at once, or when somebody connects first."""

    def __init__(self, path: Path, orders: Orders, *, at_once: bool) -> None:
        self.path = path
        self._orders = orders
        path.unlink(missing_ok=True)  # of one that is about to end: those who look for it come here
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.setblocking(False)
        self._listener.bind(str(path))
        self._listener.listen(BACKLOG)
        self._worker: Worker | None = None
        self._settled = asyncio.Event()
        self._problem: str | None = None
        self._keeping = asyncio.get_running_loop().create_task(self._keep(at_once=at_once))

    async def serving(self) -> None:
        """Wait until it serves, which was to be at once. Raises: WorkerFailed."""
        await self._settled.wait()
        if self._problem is not None:
            raise WorkerFailed(self._problem)

    async def aclose(self) -> None:
        """Have it end once nobody is connected any more, and wait for that."""
        self._keeping.cancel()
        await asyncio.wait([self._keeping])
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.terminate()
            try:
                await worker.ended()
            finally:
                worker.close()
        self._listener.close()

    async def _keep(self, *, at_once: bool) -> None:
        """Start it, and again when it has ended: as soon as somebody asks for it."""
        clock = asyncio.get_running_loop().time
        pause_s = FIRST_PAUSE_S
        while True:
            if not at_once:
                await readable(self._listener.fileno())
            began = clock()
            worker = self._worker = Worker(self._orders, self._listener)
            with suppress(WorkerFailed):
                await worker.serving()
            if at_once:
                self._problem, at_once = worker.problem, False
                self._settled.set()
                if self._problem:
                    return  # the relay ends, and says why
            await worker.ended()
            logger.warning("model_process_ended", extra={"fields": worker.account()})
            self._worker = None
            if worker.problem:
                self._send_away(worker.problem)
            worker.close()
            if clock() - began < YOUNG_S:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                pause_s = FIRST_PAUSE_S

    def _send_away(self, problem: str) -> None:
        """Tell those who wait for a process that cannot begin; they must not wait for ever."""
        told = of_failure(NoUpstream(f"The local model cannot be opened: {problem}"))
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    connection.send(told)


def _work(
    settings: Settings,
    given: LocalModel | LocalBackend | None,
    listener: socket.socket,
    on_serving: Callable[[], None],
) -> None:
    """What the process does, from its first to its last moment."""
    logs.configure(settings.log_level, settings.log_format)
    backend = open_locals(settings) if given is None else as_backend(given, settings)
    asyncio.run(_host(backend, listener, on_serving))


async def _host(
    backend: LocalBackend, listener: socket.socket, on_serving: Callable[[], None]
) -> None:
    host = Host(backend)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, host.end)
    await host.serve(listener, on_serving)
