"""Ends a connection whose client takes nothing of what was written for it.

Nobody else would: a client that stays, and never reads, keeps its connection, its answer and the
upstream's for ever. How fast a client takes it does not matter, as long as something moves.
"""

import array
import asyncio
import fcntl
import logging
import math
import termios
from contextlib import suppress

_log = logging.getLogger("relay.web")


class Outflow:
    """The bytes of one connection that were written and have not left; `limit_s` in seconds."""

    __slots__ = ("_left", "_limit_s", "_loop", "_timer", "_transport")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, limit_s: float
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._limit_s = limit_s
        self._left = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """From now on, until nothing is left, some of it has to leave within each `limit_s`."""
        if self._timer is None and self._transport.get_write_buffer_size():
            self._left = self._unsent()
            self._timer = self._loop.call_later(self._limit_s, self._look)

    def moved(self) -> None:
        """The client has taken some."""
        self._left = math.inf

    def stop(self) -> None:
        """The connection is closed, or somebody else's."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._unsent() < self._left:
            self.watch()
        elif self._transport.get_write_buffer_size():
            _log.warning("client_stalled", extra={"fields": {"limit_s": self._limit_s}})
            self._transport.abort()

    def _unsent(self) -> float:
        """Ours, and the system's: that one takes more only when a third of its own is free."""
        queued = array.array("i", [0])
        with suppress(OSError):
            socket = self._transport.get_extra_info("socket")
            fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, queued)
        return self._transport.get_write_buffer_size() + queued[0]
