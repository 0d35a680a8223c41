"""Finding the addresses of a host, so that a silent name server holds up nobody else.

The system's resolver blocks its thread, for 10 s and more when nothing answers, and cannot be
stopped. An event loop has few threads for it (uvloop two), so one upstream whose name server is
silent would keep every other from being found. Here each upstream has threads of its own: calls at
the same time share a lookup, and one that has been silent for a while is not waited for by those
who come later, since its question may have been lost with the network of that time.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

STALE_S = 1.0
"""A lookup that is older is not joined: it may wait for an answer that was lost."""

MAX_LOOKUPS = 6
"""Threads of one upstream at once; who comes then joins the latest lookup, however old."""

Look = Callable[[str, int], Sequence[str]]
"""Finds the addresses of a host, and blocks meanwhile. Raises: OSError, UnicodeError."""


def look_up(host: str, port: int) -> Sequence[str]:
    """What the system finds, its favourite first. Raises: OSError, UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Resolver:
    """Finds one host; to be called in one event loop."""

    def __init__(self, look: Look = look_up, *, stale_s: float = STALE_S) -> None:
        self._look = look
        self._stale_s = stale_s
        self._running = 0
        self._waited_for: dict[asyncio.Future[Sequence[str]], float] = {}  # the oldest first

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Its addresses, the system's favourite first. Raises: OSError, UnicodeError."""
        now = asyncio.get_running_loop().time()
        latest = next(reversed(self._waited_for), None)
        stale = latest is None or now - self._waited_for[latest] >= self._stale_s
        if latest is None or (stale and self._running < MAX_LOOKUPS):
            latest = self._begin(host, port)
            self._waited_for[latest] = now
        return await asyncio.shield(latest)  # whoever gives up must not end it for the others

    def _begin(self, host: str, port: int) -> asyncio.Future[Sequence[str]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[str]] = loop.create_future()

        def work() -> None:
            found: Sequence[str] | Exception
            try:
                found = self._look(host, port)
            except (OSError, UnicodeError) as exc:
                found = exc
            with suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(self._end, future, found)

        # A daemon, as no pool's thread is: the end of the relay must not wait for it.
        threading.Thread(target=work, name="relay-resolver", daemon=True).start()
        self._running += 1
        return future

    def _end(self, future: asyncio.Future[Sequence[str]], found: Sequence[str] | Exception) -> None:
        self._running -= 1
        if not isinstance(found, Exception):
            answered = list(self._waited_for)  # what one has found is the others' answer, too
            self._waited_for.clear()
            for one in answered:
                one.set_result(found)
        elif self._waited_for.pop(future, None) is not None:
            future.set_exception(found)
