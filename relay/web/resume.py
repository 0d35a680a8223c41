"""Chat streams that outlive their connection: for a while, for the same key, from the next event.

    x-relay-resume: 1          the stream gets ids, and goes on while its client is away
    last-event-id: ID          the rest of it; nothing is asked of an upstream
    last-event-id: ID
      x-relay-resume: stop     nobody wants the rest: it ends, and so does its upstream

The request that began it stays open until the stream has ended, and it alone is counted and kept in
the ledger; whoever comes for the rest only reads.
"""

import asyncio
from contextlib import suppress
from typing import Any

from relay.engine import Engine
from relay.errors import RelayError
from relay.sse import event, is_plain_stream
from relay.types import Answer, RawHeaders
from relay.usage import UsageInStream
from relay.web.chat import ChatEndpoint
from relay.web.client import Client, Wait
from relay.web.far_peers import FarPeers
from relay.web.peers import Peers
from relay.web.presence import Presence
from relay.web.reading import read_body
from relay.web.replies import STREAM_HEADERS, Visit, awaited, send_events
from relay.web.shelf import Shelf, owner_of
from relay.web.tape import PING_LINE, Room, Tape, taken

RESUME = b"x-relay-resume"
LAST_EVENT_ID = b"last-event-id"
RESUMES, STOP = b"1", b"stop"
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


class ResumableChat(ChatEndpoint):
    """The chat route of a relay that keeps streams on a `shelf`, each in that `room`.

    What is on the shelves of other processes comes from its `peers`.
    """

    def __init__(
        self,
        engine: Engine,
        presence: Presence,
        *,
        max_body_bytes: int,
        ping_s: float,
        count: bool,
        shelf: Shelf,
        peers: Peers | FarPeers | None,
        room: Room,
    ) -> None:
        super().__init__(
            engine, presence, max_body_bytes=max_body_bytes, ping_s=ping_s, count=count
        )
        self._shelf = shelf
        self._peers = peers
        self._room = room
        self._told = (RESUME, b"%g" % room.keep_s)

    async def __call__(self, visit: Visit) -> None:
        if LAST_EVENT_ID in visit.headers:
            visit.kept = False  # the request that began the stream is in the ledger
            await self._again(visit, visit.headers[LAST_EVENT_ID].strip())
        else:
            await super().__call__(visit)

    async def _send(self, visit: Visit, answer: Answer, usage: UsageInStream | None) -> None:
        tape = None
        if visit.headers.get(RESUME) == RESUMES and is_plain_stream(answer.headers):
            tape = self._shelf.open(visit.identity, self._room)
        if tape is None:
            await super()._send(visit, answer, usage)
            return
        visit.put_before_client(lambda client: Taped(client, tape, self._told))
        await send_events(visit, answer, ping_s=self._ping_s, ping=PING_LINE, usage=usage)

    async def _again(self, visit: Visit, last: bytes) -> None:
        """Answer with what follows the event of that id, as it comes."""
        try:
            with self._presence.watch(visit) as watch:
                await read_body(visit, max_bytes=self._max_body_bytes)  # nobody needs it again
                watch.listen()
                process = self._shelf.elsewhere(last)
                if process is not None and self._peers is not None:
                    await self._by_peer(self._peers, process, last, visit)
                else:
                    await self._by_shelf(last, visit)
        except RelayError as error:
            if not visit.client.started:
                raise
            visit.trail.error = error.name
            await awaited(visit.end(event(error.envelope())))

    async def _by_shelf(self, last: bytes, visit: Visit) -> None:
        tape, number = self._shelf.find(last, owner_of(visit.identity))
        if _stops(visit):
            tape.give_up()
        if _stops(visit) or tape.is_over(number):
            await awaited(visit.answer(204, [], b""))  # EventSource comes no more then
            return
        with tape.take(number) as reader:
            await self._begin(visit)
            if not await reader.follow(visit.write):
                raise taken()
        await awaited(visit.end())

    async def _by_peer(
        self, peers: Peers | FarPeers, process: str, last: bytes, visit: Visit
    ) -> None:
        owner = owner_of(visit.identity)
        async with peers.ask(process, last, owner, stop=_stops(visit)) as pieces:
            if pieces is None:
                await awaited(visit.answer(204, [], b""))
                return
            await self._begin(visit)
            async for piece in pieces:
                await awaited(visit.write(piece))
            await awaited(visit.end())

    async def _begin(self, visit: Visit) -> None:
        await awaited(visit.begin(200, [EVENTS, *STREAM_HEADERS, self._told]))
        await awaited(visit.write(b""))  # the next event may take its time


class Taped:
    """Stands before a `Client`: what is written goes to a tape, which the client reads.

    Once the answer has begun the client may leave; the request goes on without it.
    """

    def __init__(self, client: Client, tape: Tape, told: tuple[bytes, bytes]) -> None:
        self._client = client
        self._tape = tape
        self._told = told
        self._feeding: asyncio.Task[None] | None = None
        self.write = tape.write

    def __getattr__(self, name: str) -> Any:
        """Whatever is not about the answer is the client's own."""
        return getattr(self._client, name)

    async def begin(self, status: int, headers: RawHeaders, lines: bytes = b"") -> None:
        """The head of the answer; from here on the tape has it."""
        client, tape = self._client, self._tape
        await awaited(client.begin(status, [*headers, self._told], lines))
        left = client.on_leave
        tape.forsaken = left if left is not None else tape.close
        self._feeding = asyncio.get_running_loop().create_task(self._feed())
        client.on_leave = self._leave
        client.task.add_done_callback(self._over)

    def end(self, piece: bytes = b"") -> Wait:
        """The last piece of it; awaited until the client has it, if the client is there."""
        self._tape.end(piece)
        return self._fed()

    async def _fed(self) -> None:
        if self._feeding is not None:
            await asyncio.wait([self._feeding])

    async def _feed(self) -> None:
        with suppress(OSError):  # what some servers raise when the client has left
            with self._tape.take(0) as reader:
                whole = await reader.follow(self._client.write)
            await awaited(self._client.end(b"" if whole else event(taken().envelope())))

    def _leave(self) -> None:
        if self._feeding is not None:
            self._feeding.cancel()

    def _over(self, _: object) -> None:
        """The request has ended, however it did."""
        if not self._tape.ended:
            self._tape.end()
            self._tape.close()
        self._leave()


def _stops(visit: Visit) -> bool:
    return visit.headers.get(RESUME) == STOP
