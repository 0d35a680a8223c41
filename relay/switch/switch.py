"""The switch between the upstreams and the local model.

    an attempt waits in silence --\\
    a connection fails            --> all upstreams are probed --none within reach--> offline
                                                                                      |
    remote <--within reach for return_after_s-- probed every probe_s <----------------/

Going offline ends the attempts that still wait for their first bytes, so that their calls can be
asked locally; an answer that has begun is never touched, and coming back touches nothing at all.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Literal

from relay.errors import (
    BackendError,
    InvalidRequest,
    UpstreamAuth,
    UpstreamProtocol,
    UpstreamStatus,
    UpstreamTimeout,
    UpstreamUnreachable,
    WentOffline,
)
from relay.events import ModeChanged, Observer, ignore
from relay.settings import Mode, OfflineSettings
from relay.switch.kept import KeptMode
from relay.switch.reach import PROBE_LIMIT_S, Probe, Reach, State

PATIENCE_S = 0.5
"""How long nothing may be heard of any upstream, while attempts wait, before they are probed."""

WATCH_S = 0.5
"""How often the file is looked at in which another worker keeps a mode."""

Side = Literal["remote", "local"]
REMOTE: Side = "remote"
LOCAL: Side = "local"

_UNWATCHED: nullcontext[None] = nullcontext()
_ANSWERED = (UpstreamStatus, UpstreamAuth)
_UNANSWERED = (UpstreamUnreachable, UpstreamTimeout, UpstreamProtocol)


class Switch:
    """Which side serves; the package's docstring has the rules.

    `local`: there is a local model. `offline`: how `auto` goes there by itself and comes back; None
    is never. `on_move` is told the side that serves from now on.
    """

    def __init__(
        self,
        *,
        mode: Mode = "remote",
        probes: Mapping[str, Probe] | None = None,
        local: bool = False,
        offline: OfflineSettings | None = None,
        kept: KeptMode | None = None,
        on_move: Callable[[Side], None] | None = None,
        observe: Observer = ignore,
        probe_limit_s: float = PROBE_LIMIT_S,
    ) -> None:
        self.mode: Mode = mode
        self.moves: dict[Side, int] = {REMOTE: 0, LOCAL: 0}
        self.since = time.time()
        self._configured = mode
        self._reach = Reach(probes or {}, limit_s=probe_limit_s)
        self._local = local
        self._settings = offline if local and probes else None
        self._kept = kept
        self._on_move = on_move
        self._observe = observe
        self._offline = False
        self._setting = asyncio.Lock()
        self._waiting: dict[Attempt, None] = {}  # the oldest first
        self._heard_at = 0.0
        self._look_timer: asyncio.TimerHandle | None = None
        self._file_timer: asyncio.TimerHandle | None = None
        self._doubting: asyncio.Task[None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.serving: Side = self._side()
        self._watching = self._watches()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop, asked for once: in Python 3.11 it costs a system call."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    @property
    def upstreams(self) -> Mapping[str, State]:
        """What is known of each upstream; nothing while it makes no difference."""
        return self._reach.states

    def take_over(self, before: "Switch") -> None:
        """Stand where the one before stands, which served until now; before `start`, in the loop.

        What was set by hand holds on, where it can; so does being offline, as long as the upstreams
        are the same ones.
        """
        self.moves = dict(before.moves)
        if before.mode != before._configured:
            with suppress(InvalidRequest):  # what it needs is gone
                self._check(before.mode)
                self.mode = before.mode
        self._watching = self._watches()
        self._offline = before._offline and self._watching and self._reach.sees(before._reach)
        side, self.serving = self.serving, self._side()
        if self._on_move is not None and self.serving != side:
            self._on_move(self.serving)
        if self._offline:
            self._returning = self.loop.create_task(self._come_back())
        if self.serving == before.serving:
            self.since = before.since
        else:
            self.moves[self.serving] += 1
            self._observe(ModeChanged(self.mode, self.serving, "the configuration is another"))

    def start(self) -> None:
        """Take the mode that is kept, and follow it; to be called in the event loop."""
        if self._kept is not None:
            self._follow()

    async def aclose(self) -> None:
        """End what runs in the background."""
        for timer in (self._look_timer, self._file_timer):
            if timer is not None:
                timer.cancel()
        running = [task for task in (self._doubting, self._returning) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def set(self, mode: Mode) -> bool:
        """Change the mode by hand; whether it is kept, over restarts and for the other workers.

        Raises:
            InvalidRequest: nothing is there to serve in that mode.
        """
        self._check(mode)
        async with self._setting:
            if mode != self.mode:
                self._become(mode, offline=False, reason="set by hand")
            if self._kept is None:
                return False
            keep = None if mode == self._configured else mode
            return await asyncio.to_thread(self._kept.write, keep)

    def attempt(self, upstream: str) -> "Attempt | nullcontext[None]":
        """A block around one attempt at a target, until its first bytes or its failure.

        Raises:
            WentOffline: out of the block, when no upstream is within reach any more.
        """
        if self._watching and upstream in self._reach.states:
            return Attempt(self, upstream, self.loop)
        return _UNWATCHED

    async def away(self, error: BackendError) -> bool:
        """Whether a call that failed like this should be asked locally: the network is away.

        When an upstream did not answer, this waits until it is known whether any can be reached.
        """
        if isinstance(error, WentOffline):
            return self.serving == LOCAL
        if not self._watching or not isinstance(error, _UNANSWERED):
            return False
        if self._doubting is not None:  # begun before the failure, so it may tell of better times
            await asyncio.wait([self._doubting])
        self._doubt()
        if self._doubting is not None:
            await asyncio.wait([self._doubting])
        return self.serving == LOCAL

    def reachable(self, upstream: str) -> None:
        """An upstream has answered, whatever it was."""
        self._reach.states[upstream] = "reachable"
        self._heard_at = self.loop.time()

    def unreachable(self, upstream: str) -> None:
        """No connection to an upstream could be made; `away` finds out whether all are so."""
        self._reach.states[upstream] = "unreachable"

    def _check(self, mode: Mode) -> None:
        if mode == "remote" and not self._reach.states:
            raise InvalidRequest("There is no upstream to serve from.", param="mode")
        if mode == "local" and not self._local:
            raise InvalidRequest("There is no local model to serve from.", param="mode")

    def _side(self) -> Side:
        if self.mode == "auto":
            return LOCAL if self._offline or not self._reach.states else REMOTE
        return self.mode

    def _watches(self) -> bool:
        return self.mode == "auto" and self._settings is not None

    def _become(self, mode: Mode, *, offline: bool, reason: str) -> None:
        returning, self._returning = self._returning, None
        if returning is not None:
            returning.cancel()
        before = self.serving
        self.mode, self._offline = mode, offline
        self.serving, self._watching = self._side(), self._watches()
        if not self._watching:
            self._reach.forget()
        self.since = time.time()
        if self.serving != before:
            self.moves[self.serving] += 1
            if self._on_move is not None:
                self._on_move(self.serving)
        self._observe(ModeChanged(mode, self.serving, reason))

    def _follow(self) -> None:
        """Take over a mode that was set by hand, here before a restart or in another worker."""
        assert self._kept is not None  # noqa: S101  # nobody calls this otherwise
        self._file_timer = self.loop.call_later(WATCH_S, self._follow)
        if not self._kept.changed() or self._setting.locked():
            return
        mode = self._kept.read() or self._configured
        if mode == self.mode:
            return
        try:
            self._check(mode)
        except InvalidRequest:
            return  # set by hand when there was what is missing now
        self._become(mode, offline=False, reason="set by hand, as the state file says")

    def _begin(self, attempt: "Attempt") -> None:
        if self._offline:
            raise _went_offline(attempt.upstream)
        self._waiting[attempt] = None
        if self._look_timer is None:
            self._look_timer = self.loop.call_later(PATIENCE_S, self._look)

    def _end(self, attempt: "Attempt", error: BaseException | None) -> None:
        self._waiting.pop(attempt, None)
        if error is None or isinstance(error, _ANSWERED):
            self.reachable(attempt.upstream)
        elif isinstance(error, UpstreamUnreachable):
            self.unreachable(attempt.upstream)

    def _look(self) -> None:
        """Probe when all has been silent for too long, else look again when it would be.

        The one timer is left alone while attempts come and go: most of them never see it.
        """
        self._look_timer = None
        if not self._waiting or self._doubting is not None:
            return
        oldest = next(iter(self._waiting))
        due = max(oldest.began, self._heard_at) + PATIENCE_S
        if due > self.loop.time():
            self._look_timer = self.loop.call_at(due, self._look)
        else:
            self._doubt()

    def _doubt(self) -> None:
        if self._watching and not self._offline and self._doubting is None:
            self._doubting = asyncio.create_task(self._make_sure())

    async def _make_sure(self) -> None:
        try:
            within_reach = await self._reach.look()
        finally:
            self._doubting = None
        if within_reach:
            self._heard_at = self.loop.time()
            if self._look_timer is None:
                self._look()
        elif self._watching:
            self._go_offline()

    def _go_offline(self) -> None:
        self._become("auto", offline=True, reason="no upstream is within reach")
        self._returning = asyncio.create_task(self._come_back())
        for attempt in self._waiting:
            attempt.end()

    async def _come_back(self) -> None:
        """Wait until an upstream is within reach, and has stayed so."""
        assert self._settings is not None  # noqa: S101  # or it had not gone offline
        probe_s, return_after_s = self._settings.probe_s, self._settings.return_after_s
        clock = self.loop.time
        pause_s, since = probe_s, None
        while True:
            await asyncio.sleep(pause_s)
            pause_s = probe_s
            if not await self._reach.look():
                since = None
                continue
            since = clock() if since is None else since
            left_s = since + return_after_s - clock()
            if left_s <= 0:
                break
            pause_s = min(probe_s, left_s)
        self._returning = None  # or it would end itself
        reason = f"an upstream has been within reach for {return_after_s:g} s"
        self._become("auto", offline=False, reason=reason)


class Attempt:
    """One attempt that waits for its first bytes; see `Switch.attempt`."""

    __slots__ = ("_cancelling", "_ended", "_switch", "_task", "began", "upstream")

    def __init__(self, switch: Switch, upstream: str, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101  # whoever awaits an answer runs in one
        self._switch = switch
        self._task = task
        self._cancelling = task.cancelling()
        self._ended = False
        self.upstream = upstream
        self.began = loop.time()

    def __enter__(self) -> None:
        self._switch._begin(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._switch._end(self, error)
        if self._ended:
            # As in asyncio.timeout: only a cancellation that is ours alone becomes our exception.
            ours = self._task.uncancel() <= self._cancelling
            if ours and isinstance(error, asyncio.CancelledError):
                raise _went_offline(self.upstream) from error

    def end(self) -> None:
        """Cancel the block: nothing will come."""
        self._ended = True
        self._task.cancel()


def _went_offline(upstream: str) -> WentOffline:
    return WentOffline(
        f"The upstream '{upstream}' is out of reach, as every other: the network is away."
    )
