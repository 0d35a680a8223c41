"""A network that can go away: a TCP proxy that drops packets without a word, or refuses.

with Network.in_thread(fake.port) as network:
    ...                      # network.url leads to the upstream
    network.drop()           # nothing is answered any more, not even a SYN; nothing is closed
    network.refuse()         # nobody listens, and what was open is reset
    network.restore()
    network.restore(forgetful=True)     # but what was open stays dead, as behind a router
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Self

from fake_script import PATIENCE_S

HOST = "127.0.0.1"
BACKLOG = 128
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Network:
    """The way to one port of this machine."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server((HOST, 0), backlog=BACKLOG)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}/v1"
        self._passing = asyncio.Event()
        self._passing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._filler: socket.socket | None = None

    @classmethod
    @contextlib.contextmanager
    def in_thread(cls, port: int) -> Iterator[Self]:
        network = cls(port)
        network._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=network._loop.run_forever, name="network", daemon=True)
        thread.start()
        try:
            network.restore()
            yield network
        finally:
            network._do(network._close())
            network._loop.call_soon_threadsafe(network._loop.stop)
            thread.join(PATIENCE_S)
            network._loop.close()

    def drop(self) -> None:
        """From now on packets go nowhere, in either direction."""
        self._do(self._drop())

    def refuse(self) -> None:
        """Reset every connection, and let nobody make a new one."""
        self._do(self._refuse())

    def restore(self, *, forgetful: bool = False) -> None:
        """As if nothing had been; what was dropped meanwhile is lost.

        `forgetful`: the connections that were open then lead nowhere any more, and nobody says so.
        """
        self._do(self._restore(forgetful=forgetful))

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE_S)

    async def _drop(self) -> None:
        self._passing.clear()
        self._stop_accepting()
        # The kernel completes handshakes until the queue is full, and then ignores each SYN.
        self._listener.listen(0)
        self._filler = socket.socket()
        self._filler.setblocking(False)  # the place in the queue may be taken already
        self._filler.connect_ex((HOST, self.port))

    async def _refuse(self) -> None:
        # Before a call can fail: whoever looks then must not find the port open any more.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._stop_accepting()
        self._listener.close()
        await self._reset_all()

    async def _restore(self, *, forgetful: bool) -> None:
        if forgetful:
            self._passing = asyncio.Event()
        if self._listener.fileno() == -1:
            self._listener = socket.create_server((HOST, self.port), backlog=BACKLOG)
        if self._filler is not None:
            self._filler.close()
            self._filler = None
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self._passing.set()
        self._loop.add_reader(self._listener, self._accept)

    async def _close(self) -> None:
        self._stop_accepting()
        self._listener.close()
        if self._filler is not None:
            self._filler.close()
        await self._reset_all()

    def _stop_accepting(self) -> None:
        if self._listener.fileno() != -1:
            self._loop.remove_reader(self._listener)

    async def _reset_all(self) -> None:
        for writer in self._open:
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()
        self._open.clear()
        for pump in self._tasks:
            pump.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it has left
            accepted, _ = self._listener.accept()
            self._begin(self._join(accepted))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, accepted: socket.socket) -> None:
        ours = await asyncio.open_connection(sock=accepted)
        self._open.add(ours[1])
        try:
            theirs = await asyncio.open_connection(HOST, self._to)
        except OSError:
            ours[1].transport.abort()
            self._open.discard(ours[1])
            return
        self._open.add(theirs[1])
        self._begin(self._pump(ours[0], theirs[1]))
        self._begin(self._pump(theirs[0], ours[1]))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing = self._passing
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                if passing.is_set():
                    writer.write(piece)
                    await writer.drain()
            await passing.wait()  # a FIN is a packet, too
        writer.close()
        self._open.discard(writer)
