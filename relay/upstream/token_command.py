"""A bearer token that a program prints, such as one of Entra's.

    age of the token                  a call
    below 4/5 of token_refresh_s      gets it
    below token_refresh_s             gets it, and the program is run in the background
    above that, or refused (401)      waits for the program

The program is run once at a time, whoever waits for it. A token that was refused is replaced once
in 60 s: if the next one is refused as well, the tokens are not what is wrong.
"""

import asyncio
import contextlib
import math
import os
import shlex
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Sequence

from relay.errors import UpstreamAuth
from relay.settings import SettingsError, UpstreamSettings
from relay.types import RawHeaders
from relay.upstream.key import Key, state, token

RUN_S = 10.0
"""The longest that the program may take."""

RETRY_S = 5.0
"""Seconds between two runs in the background while they fail."""

REPLACE_S = 60.0
"""Seconds between two replacements of a refused token."""

MAX_OUTPUT_BYTES = 64 * 1024

DRAIN_S = 1.0
"""How long the pipe of a program that was killed may take to end."""

_EARLY = 0.8
"""The part of a token's time after which the next one is fetched."""


class CommandToken:
    """The `Keys` of `token_command`."""

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        run_s: float = RUN_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` is a clock in seconds.

        Raises:
            SettingsError: the command's quotes are not closed, or it is empty.
        """
        self._upstream = settings.name
        self._command = _words(settings)
        self._use_s = settings.token_refresh_s
        self._run_s = run_s
        self._now = now
        self._key: Key | None = None
        self._renew_at = self._expires_at = -math.inf
        self._replaced_at = -math.inf
        self._running: asyncio.Task[Key] | None = None

    def take(self) -> Key | None:
        """The token, if it may still be used."""
        now = self._now()
        if now >= self._expires_at:
            return None
        if now >= self._renew_at and self._running is None:
            self._run()
        return self._key

    async def fetch(self) -> Key:
        """A new token. Raises: UpstreamAuth: the program gave none."""
        # Whoever gives up waiting must not take it away from the others.
        return await asyncio.shield(self._running or self._run())

    def refused(self, key: Key, status: int, _: RawHeaders, /) -> bool:
        """The upstream answered 401, 403 or 429; returns whether another token may be tried."""
        if status != 401:
            return False
        if key is not self._key:
            return True
        now = self._now()
        if now - self._replaced_at < REPLACE_S:
            return False
        self._replaced_at = now
        self._renew_at = self._expires_at = -math.inf
        return True

    def failed(self, key: Key) -> None:
        """There is no other one that could do better."""

    def accepted(self, key: Key) -> None:
        """Nothing is on trial."""

    def states(self) -> list[dict[str, object]]:
        """The token, if there is one; `until_s` tells how long it is used."""
        left_s = self._expires_at - self._now()
        if self._key is None or left_s <= 0:
            return []
        return [state(self._key, "ok", left_s)]

    async def aclose(self) -> None:
        """Stop the program."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def _run(self) -> asyncio.Task[Key]:
        self._running = asyncio.get_running_loop().create_task(self._renew())
        self._running.add_done_callback(self._ran)
        return self._running

    def _ran(self, run: asyncio.Task[Key]) -> None:
        self._running = None
        if not run.cancelled() and run.exception() is not None:
            self._renew_at = self._now() + RETRY_S

    async def _renew(self) -> Key:
        try:
            async with asyncio.timeout(self._run_s):
                output = await _output(self._command)
            key = token("token_command", output)
        except TimeoutError:
            raise self._wrong(f"took longer than {self._run_s:g} s") from None
        except OSError as exc:
            raise self._wrong(f"cannot be run ({exc.strerror})") from None
        except ChildProcessFailed as exc:
            raise self._wrong(str(exc)) from None
        except ValueError:
            raise self._wrong("printed no token") from None  # the cause would show what it printed
        now = self._now()
        self._renew_at = now + self._use_s * _EARLY
        self._expires_at = now + self._use_s
        self._key = key
        return key

    def _wrong(self, what: str) -> UpstreamAuth:
        return UpstreamAuth(
            f"The upstream '{self._upstream}' has no token: its token_command {what}."
        )


class ChildProcessFailed(Exception):
    """The program ended badly; the text says how."""


async def _output(command: Sequence[str]) -> bytes:
    """What the program prints, no shell between. Raises: OSError, ChildProcessFailed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, start_new_session=True
    )
    assert process.stdout is not None  # noqa: S101  # a pipe was asked for
    try:
        output = await _read(process.stdout)
        status = await process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it and what it has started
        await _drain(process.stdout)
        await process.wait()
        raise
    if status != 0:
        raise ChildProcessFailed(f"failed with status {status}")
    return output


async def _drain(stream: asyncio.StreamReader) -> None:
    """Read on to the end, so that the pipe is closed, and not left to the end of the loop."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):  # somebody who left the group may hold it open
            while await stream.read(MAX_OUTPUT_BYTES):
                pass
    await asyncio.sleep(0)  # in which the event loop closes it


async def _read(stream: asyncio.StreamReader) -> bytes:
    output = b""
    while piece := await stream.read(MAX_OUTPUT_BYTES):
        output += piece
        if len(output) > MAX_OUTPUT_BYTES:
            raise ChildProcessFailed("printed too much")
    return output


def _words(settings: UpstreamSettings) -> list[str]:
    try:
        words = shlex.split(settings.token_command or "")
    except ValueError as exc:
        reason = str(exc).lower()
    else:
        if words:
            return words
        reason = "it is empty"
    raise SettingsError(f"token_command of the upstream '{settings.name}' cannot be used: {reason}")
