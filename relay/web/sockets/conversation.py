"""The frames of a client on `/ws`: they begin turns, end them, or are wrong.

    {"query": …, "history": …}               a classic turn, one at a time      classic.py
    {"type": "chat", "id": …, "request": …}  a chat turn, several at a time     chat.py
    {"type": "stop", "id": …}                ends that turn; without an id, the classic one

An error is told in a frame and leaves the socket open, but for these: more frames a second than
are allowed, and a key that does not hold any more (both close it, 1008).
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from relay.errors import (
    Conflict,
    InvalidApiKey,
    InvalidRequest,
    NotPermitted,
    RateLimited,
    RelayError,
)
from relay.types import Identity
from relay.web.presence import ClientLeft, ShuttingDown
from relay.web.sockets.chat import ChatAnswer
from relay.web.sockets.classic import ClassicAnswer
from relay.web.sockets.credential import Credential, identity_of
from relay.web.sockets.frames import GOING_AWAY, POLICY_VIOLATION, error_frame, read_frame
from relay.web.sockets.pace import Pace
from relay.web.sockets.turn import Latest, Telling, Turn
from relay.web.sockets.wire import Wire

MAX_ID_CHARACTERS = 256

CLASSIC = ""
"""What stands for the id of the classic turn, which has none."""


class Conversation:
    """The turns of one socket; each asks for the configuration and the key as they are then."""

    def __init__(self, wire: Wire, latest: Latest, credential: Credential) -> None:
        self._wire = wire
        self._latest = latest
        self._credential = credential
        self._turns: dict[str, Turn] = {}
        self._draining = False
        self._to_tell = 0
        self._closing: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._pace = Pace()

    async def run(self) -> None:
        """Take frames until the client leaves; answers still running then are ended."""
        try:
            while True:
                await self._take(await self._wire.receive())
        except ClientLeft:
            return
        finally:
            if running := [turn.task for turn in self._running()]:
                for task in running:
                    task.cancel()
                await asyncio.wait(running)

    async def drain(self) -> None:
        """Begin no turn any more, and close when none runs."""
        self._draining = True
        self._close_if_idle()

    async def end(self) -> None:
        """End the turns that run, tell it, and close."""
        self._draining = True
        with self._telling(), suppress(ClientLeft):
            await asyncio.gather(*(turn.shut_down() for turn in self._running()))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """A block in which a last frame is still to be sent."""
        self._to_tell += 1
        try:
            yield
        finally:
            self._to_tell -= 1
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._draining and not self._to_tell and not self._turns:
            closing = self._wire.close(GOING_AWAY, "the relay is stopping")
            self._closing = self._loop.create_task(closing)

    async def _take(self, message: str | bytes) -> None:
        frame: dict[str, Any] = {}
        try:
            self._check_pace()
            frame = read_frame(message)
            await self._act(frame, message)
        except _Unwanted as unwanted:
            await self._wire.send(error_frame(unwanted.error, **_about(frame)))
            await self._wire.close(POLICY_VIOLATION, unwanted.error.message)
        except RelayError as error:
            await self._wire.send(error_frame(error, **_about(frame)))

    def _check_pace(self) -> None:
        if self._pace.excess(self._latest().limits.frames_per_s):
            raise _Unwanted(RateLimited("More frames came each second than are taken."))

    async def _act(self, frame: dict[str, Any], message: str | bytes) -> None:
        kind = frame.get("type")
        if kind == "chat":
            id_ = _id(frame)
            if id_ in self._turns:
                raise Conflict(
                    f"An answer with the id '{id_}' is still running, and goes on.", param="id"
                )
            await self._begin(id_, ChatAnswer(id_, frame, message))
        elif kind == "stop":
            turn = self._turns.get(CLASSIC if frame.get("id") is None else _id(frame))
            if turn is not None:
                with self._telling():
                    await turn.stop()
        elif kind is not None:
            raise InvalidRequest("The 'type' of a frame is chat or stop.", param="type")
        elif "query" in frame or "key" not in frame:  # a key that is not needed is no matter
            if CLASSIC in self._turns:
                raise InvalidRequest("An answer is still running; wait for it or stop it first.")
            await self._begin(CLASSIC, ClassicAnswer(frame))

    async def _begin(self, id_: str, telling: Telling) -> None:
        # The configuration may be another than that of the last turn, the key no longer one.
        turns = self._latest()
        identity = await self._identity()
        if self._draining:
            raise ShuttingDown
        if len(self._turns) >= turns.limits.max_answers:
            raise RateLimited(
                f"{turns.limits.max_answers} answers are running on this socket, which is all it "
                "may have."
            )
        turn = self._turns[id_] = Turn(self._wire, turns, identity, telling)
        turn.task.add_done_callback(lambda _: self._ended(id_))

    async def _identity(self) -> Identity:
        try:
            return await identity_of(self._credential, self._latest().keyring)
        except (InvalidApiKey, NotPermitted) as error:
            raise _Unwanted(error) from error

    def _running(self) -> list[Turn]:
        return [turn for turn in self._turns.values() if not turn.task.done()]

    def _ended(self, id_: str) -> None:
        del self._turns[id_]
        self._close_if_idle()


class _Unwanted(Exception):
    """The socket is closed after that error."""

    def __init__(self, error: RelayError) -> None:
        super().__init__(error.message)
        self.error = error


def _id(frame: dict[str, Any]) -> str:
    id_ = frame.get("id")
    if not isinstance(id_, str) or not 0 < len(id_) <= MAX_ID_CHARACTERS:
        raise InvalidRequest(
            f"'id' must be a string of 1 to {MAX_ID_CHARACTERS} characters.", param="id"
        )
    return id_


def _about(frame: dict[str, Any]) -> dict[str, Any]:
    """Which frame an error is about: classic ones have no id, others null if theirs is none."""
    if frame and "type" not in frame:
        return {}
    id_ = frame.get("id")
    return {"id": id_ if isinstance(id_, str) else None}
