"""The processes of several replicas, which have only a Redis in common: see `peers.py`.

box asks:PROCESS     what others want of that process: event's id, owner, whether to stop, TO
box to:TO            its answer, frame by frame
mark here:TO         somebody waits for it; without the mark the reader has left
mark alive:PROCESS   somebody looks into the first box
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson

from relay.errors import Overloaded
from relay.local import frames
from relay.stores import StoreUnavailable
from relay.web.peers import Lines, end, pieces_of, read_to
from relay.web.shelf import Owner, Shelf, not_found

MARK_S = 5.0
"""How long a mark holds: whoever set it looks after it each second."""

BOX_S = 30.0
MOST_WAITING = 64
"""Letters in a box; then their writer waits."""

PAUSE_S = 0.05
LOOK_S = 1.0


class FarPeers:
    """The shelves of all replicas, by the `post` they share."""

    def __init__(self, shelf: Shelf, post: Any) -> None:
        self._shelf = shelf
        self._post = post
        self._attending: asyncio.Task[None] | None = None
        self._answers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Be there for the others, also when Redis is not there yet."""
        self._attending = asyncio.get_running_loop().create_task(self._attend())

    async def aclose(self) -> None:
        """Be there no more."""
        if self._attending is not None:
            self._attending.cancel()
            await asyncio.wait([self._attending])
        await end(self._answers)
        with suppress(StoreUnavailable):
            await self._post.remove(f"alive:{self._shelf.process}")
        await self._post.aclose()

    @asynccontextmanager
    async def ask(
        self, process: str, event_id: bytes, owner: Owner, *, stop: bool
    ) -> AsyncIterator[AsyncIterator[bytes] | None]:
        """As `Peers.ask`. Raises also: Overloaded: Redis is away."""
        post, to = self._post, secrets.token_hex(16)
        asked = {"id": event_id.decode(), "owner": owner, "stop": stop, "to": to}
        try:
            if not await post.is_marked(f"alive:{process}"):
                raise not_found()
            await post.mark(f"here:{to}", ttl_s=MARK_S)
            await post.send(f"asks:{process}", orjson.dumps(asked), ttl_s=MARK_S)
            lines = _Box(post, process, to)
            more = await lines.next(frames.HEAD)
            yield pieces_of(lines) if more == b"true" else None
        except StoreUnavailable as exc:
            raise Overloaded(
                f"The process that has the stream cannot be asked: {exc}",
                headers=[(b"retry-after", b"1")],
            ) from exc
        finally:
            with suppress(StoreUnavailable):
                await post.remove(f"here:{to}", f"to:{to}")

    async def _attend(self) -> None:
        process = self._shelf.process
        while True:
            try:
                await self._post.mark(f"alive:{process}", ttl_s=MARK_S)
                letter = await self._post.next(f"asks:{process}")
            except StoreUnavailable:
                await asyncio.sleep(LOOK_S)
                continue
            if letter is not None:
                answer = asyncio.get_running_loop().create_task(self._answer(orjson.loads(letter)))
                self._answers.add(answer)
                answer.add_done_callback(self._answers.discard)

    async def _answer(self, asked: dict[str, Any]) -> None:
        to = asked["to"]

        async def send(kind: bytes, content: bytes) -> None:
            await self._post.send(f"to:{to}", kind + content, ttl_s=BOX_S)
            # Another process takes them.
            while await self._post.waiting(f"to:{to}") > MOST_WAITING:  # noqa: ASYNC110
                await asyncio.sleep(PAUSE_S)

        async def leave() -> None:
            while await self._post.is_marked(f"here:{to}"):  # noqa: ASYNC110  # likewise
                await asyncio.sleep(LOOK_S)

        reading = asyncio.ensure_future(read_to(self._shelf, asked, send))
        leaving = asyncio.ensure_future(leave())
        try:
            await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (reading, leaving):
                one.cancel()
            await asyncio.gather(reading, leaving, return_exceptions=True)


class _Box(Lines):
    """The answer of a process, as it comes."""

    def __init__(self, post: Any, process: str, to: str) -> None:
        self._post = post
        self._process = process
        self._to = to

    async def read(self) -> tuple[bytes, bytes]:
        while True:
            letter = await self._post.next(f"to:{self._to}")
            await self._post.mark(f"here:{self._to}", ttl_s=MARK_S)
            if letter is not None:
                return letter[:1], letter[1:]
            if not await self._post.is_marked(f"alive:{self._process}"):
                raise frames.Lost
