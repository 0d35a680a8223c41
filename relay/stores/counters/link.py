"""One connection to Redis for a whole process: scripts go out together, and nobody waits for long.

What is called while others are on their way leaves with the next batch. A call waits for at most
two batches, so each has half of the time. When one fails, all that wait fail at once, and those who
come find the link down until it is up again; what need not be answered waits here meanwhile.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from hashlib import sha1
from typing import Any

from hiredis import pack_command
from redis.asyncio import Connection, ConnectionPool
from redis.exceptions import ClusterDownError, NoScriptError, RedisError, ResponseError

from relay.stores.counters.patience import Patience

PORT = 6379
"""Where a URL names none."""

MAX_BATCH = 256
"""How many commands leave together."""

MAX_UNSENT = 100_000
"""How many commands wait while Redis is away; older ones are given up, and leases end by time."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0
"""How long the link waits between two attempts to be up again."""

ASKING = pack_command(("ASKING",))
"""Goes before a command for a slot that the server is about to get."""

FAILURES = (RedisError, OSError, TimeoutError, EOFError)

_log = logging.getLogger(__name__)


class LinkDown(Exception):
    """Redis did not answer in time, or is known to be away."""


class Script:
    """A script by what Redis calls it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class Command:
    """A script with its keys and arguments, as it is sent, and who waits for its answer.

    `undo` makes what is to be sent when it may have been done, and nobody knows. `again` makes what
    is sent when it may have been done, and it does not know.
    """

    script: InitVar[Script]
    keys: Sequence[str]
    arguments: InitVar[Sequence[Any]]
    answer: "asyncio.Future[Any] | None" = None
    undo: "Callable[[], Command] | None" = None
    again: "Callable[[], Command] | None" = None
    hops: int = 0
    """How often another server was named for it."""
    asking: bool = False
    """It goes to a server that is about to get its slot."""
    packed: bytes = field(init=False)

    def __post_init__(self, script: Script, arguments: Sequence[Any]) -> None:
        # What cannot be packed is its maker's trouble, not that of all who share the link. By
        # hiredis, since redis-py takes ten times as long.
        words = ("EVALSHA", script.digest, len(self.keys), *self.keys, *arguments)
        self.packed = bytes(pack_command(words))

    def repeated(self) -> "Command":
        """What is sent when it may have been done, or said elsewhere while Redis was away."""
        make = self.undo or self.again
        return self if make is None else make()


Elsewhere = Callable[[Command, ResponseError], bool]
"""Takes a command to the server that an error names; whether it did."""


class RedisLink:
    """`timeout_s` is what a call may wait. It opens with the first command.

    `where` is another server than that of the URL, which has the same name and password.
    """

    def __init__(
        self,
        url: str,
        scripts: Sequence[Script],
        *,
        timeout_s: float,
        where: tuple[str, int] | None = None,
        elsewhere: Elsewhere,
    ) -> None:
        self.up = True
        # Times are ours: one for a whole batch.
        self._pool = ConnectionPool.from_url(url, socket_timeout=None)
        options = self._pool.connection_kwargs
        if where is not None:
            options |= {"host": where[0] or options["host"], "port": where[1]}
        self.address = (options.get("host", "localhost"), options.get("port", PORT))
        self._elsewhere = elsewhere
        self._scripts = scripts
        self._batch_s = timeout_s / 2
        self._unsent: deque[Command] = deque()
        self._work = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._connection: Connection | None = None

    async def call(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Any],
        *,
        undo: Callable[[], Command],
    ) -> Any:
        """What the script answers.

        Raises:
            LinkDown: nobody knows whether it was done; then it is undone as soon as possible.
        """
        if not self.up:
            raise LinkDown
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._put(Command(script, keys, arguments, answer, undo))
        return await answer

    def send(self, command: Command) -> None:
        """Have it done when Redis is there."""
        if len(self._unsent) >= MAX_UNSENT:
            self._unsent.popleft()
        self._put(command if self.up else command.repeated())

    def take_over(self, command: Command) -> None:
        """Do what another server has sent here."""
        if self.up or command.answer is None:
            self.send(command)
        elif not command.answer.done():
            command.answer.set_exception(LinkDown())

    async def aclose(self) -> None:
        """Send what waits if Redis is there, and close."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
            if self._connection is not None:
                await self._deliver(self._connection)
        await self._drop()

    def _put(self, command: Command) -> None:
        self._unsent.append(command)
        self._work.set()
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with Patience(self._batch_s):
                    self._connection = await self._connect()
            except FAILURES as exc:
                await self._fall(exc)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            if not self.up:
                self.up = True
                _log.warning("redis_is_back")
            while await self._deliver(self._connection):
                self._work.clear()
                await self._work.wait()

    async def _connect(self) -> Connection:
        connection: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # untyped there, as above
            await self._load(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _load(self, connection: Connection) -> None:
        for script in self._scripts:
            await connection.send_command("SCRIPT", "LOAD", script.text)
            await connection.read_response()

    async def _deliver(self, connection: Connection) -> bool:
        """Send all that waits; whether that went well."""
        while self._unsent:
            batch = [self._unsent.popleft() for _ in range(min(MAX_BATCH, len(self._unsent)))]
            batch = [one for one in batch if one.answer is None or not one.answer.done()]
            try:
                async with Patience(self._batch_s):
                    answers = await self._exchange(connection, batch)
            except FAILURES as exc:
                self._undo(batch)
                await self._fall(exc)
                return False
            except asyncio.CancelledError:
                self._undo(batch)
                raise
            for command, answer in zip(batch, answers, strict=True):
                if not (isinstance(answer, ResponseError) and self._elsewhere(command, answer)):
                    _tell(command, answer, self)
        return True

    async def _exchange(self, connection: Connection, batch: Sequence[Command]) -> list[Any]:
        packed = [ASKING + one.packed if one.asking else one.packed for one in batch]
        await connection.send_packed_command(b"".join(packed))
        answers = []
        for command in batch:
            if command.asking:
                await _answer(connection)
            answers.append(await _answer(connection))
        for place, answer in enumerate(answers):
            if isinstance(answer, NoScriptError):  # somebody has flushed them
                await self._load(connection)
                await connection.send_packed_command(batch[place].packed)
                answers[place] = await _answer(connection)
        return answers

    def _undo(self, batch: Sequence[Command]) -> None:
        """Each of these may have been done: to be said again in that knowledge, first of all."""
        self._unsent.extendleft(command.repeated() for command in reversed(batch))
        for command in batch:
            if command.answer is not None and not command.answer.done():
                command.answer.set_exception(LinkDown())

    async def _fall(self, exc: BaseException) -> None:
        if self.up:
            self.up = False
            reason = type(exc).__name__  # the text may have the address, and that a password
            _log.warning("redis_is_away", extra={"fields": {"reason": reason}})
        waiting, self._unsent = self._unsent, deque()
        for command in waiting:
            if command.answer is None:
                self._unsent.append(command.repeated())
            elif not command.answer.done():
                command.answer.set_exception(LinkDown())
        await self._drop()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


async def _answer(connection: Connection) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as exc:
        if isinstance(exc, ClusterDownError):
            raise  # as good as away, for a while
        return exc


def _tell(command: Command, answer: Any, link: RedisLink) -> None:
    waiting = command.answer
    if isinstance(answer, ResponseError):
        _log.error("redis_refused", extra={"fields": {"reason": str(answer)}})
        if waiting is not None and not waiting.done():
            waiting.set_exception(LinkDown())
    elif waiting is not None:
        if not waiting.done():
            waiting.set_result(answer)
        elif command.undo is not None:  # nobody waits any more for what was granted
            link.send(command.undo())
