"""All open WebSockets of this process: how many each key has, and how they end at a shutdown.

drain      no new turns; a socket closes (1001) as soon as no answer runs on it
end_all    answers that still run are ended, each with an error, and the sockets closed
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from relay.errors import RateLimited
from relay.types import Identity


class Guest(Protocol):
    """One open socket."""

    def drain(self) -> Coroutine[Any, Any, None]:
        """Begin nothing any more, and close when nothing runs."""
        ...

    def end(self) -> Coroutine[Any, Any, None]:
        """End what runs, and close."""
        ...


class Crowd:
    """The open sockets."""

    def __init__(self) -> None:
        self.draining = False
        self._guests: set[Guest] = set()
        self._counts: Counter[str] = Counter()
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._guests)

    @contextmanager
    def entered(self, guest: Guest, identity: Identity, most: int) -> Iterator[None]:
        """A block in which the socket is one of its key's, of which there may be so many.

        Raises:
            RateLimited: there are that many.
        """
        who = identity.key_id or identity.name
        if self._counts[who] >= most:
            raise RateLimited(
                f"{most} WebSockets of this key are open, which is all it may have.",
                headers=[(b"retry-after", b"5")],
            )
        self._counts[who] += 1
        self._guests.add(guest)
        if self.draining:
            self._run(guest.drain())
        try:
            yield
        finally:
            self._guests.discard(guest)
            self._counts[who] -= 1
            if not self._counts[who]:
                del self._counts[who]

    def drain(self) -> None:
        """The relay is about to stop; to be called in the event loop."""
        self.draining = True
        for guest in list(self._guests):
            self._run(guest.drain())

    def end_all(self) -> None:
        """The time that open answers had is over."""
        for guest in list(self._guests):
            self._run(guest.end())

    def _run(self, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
