"""Another configuration for a relay that runs: on SIGHUP, `POST /admin/reload`, or by itself.

    read       the same sources as at the start: file, .env, environment, flags
    check      together with what cannot change while it runs (`FIXED`)
    build      all of it, in a thread; a fault until here is said, and changes nothing
    replace    one assignment: new requests meet the new, open ones end on the old

With several workers their parent hears the signal, checks, and has each of them do the same.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.backends import Backends, already_open, open_backends
from relay.events import Observer, Reloaded, ReloadRefused, RestartNeeded, ignore
from relay.local import LocalBackend, LocalModel
from relay.settings import Settings, SettingsError, load_settings, settings_files
from relay.telemetry import logs
from relay.watch import FileWatch
from relay.web.admin_reload import Outcome

if TYPE_CHECKING:  # it starts the reloader, so it has to be imported first
    from relay.app import Relay

FIXED = (
    *("host", "port", "workers", "database_url", "redis_url", "state_file"),
    *("ledger_flush_s", "ledger_keep_days", "bodies_keep_days", "redact_bodies"),
    *("database_pool_size", "redis_timeout_s", "limits_without_redis", "budget_journal"),
    *("metrics", "traces_url", "traces_sample", "traces_headers"),
)
"""What is opened once, when the process starts."""

GIVEN = "these settings were given by a program, so there is nothing to read again"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the settings came from, besides files and environment: as `load_settings` takes it."""

    flags: Mapping[str, Any] = field(default_factory=dict)
    config: str | None = None

    def load(self) -> Settings:
        """All of them, as they are now. Raises: SettingsError."""
        return load_settings(self.flags, config=self.config)

    def files(self) -> tuple[Path, ...]:
        """Those that may change; none while it cannot be told."""
        try:
            return settings_files(self.config)
        except SettingsError:
            return ()


class Reloader:
    """Looks after one relay. `spread` is called when a caller of the admin API has changed it."""

    def __init__(
        self,
        relay: "Relay",
        sources: Sources | None,
        *,
        spread: Callable[[], None] | None = None,
    ) -> None:
        self._relay = relay
        self._sources = sources
        self._spread = spread
        self._terminal = Terminal()
        self._lock = asyncio.Lock()
        self._asked: asyncio.Task[Outcome] | None = None
        self._watch = None if sources is None else FileWatch(sources.files, self.ask)
        relay.reload = self.reload_now

    def attend(self) -> None:
        """From now on SIGHUP reloads; so does a changed file, if it is to be watched.

        In a worker (one that can `spread`) the files are its parent's business.
        """
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hear)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        self._switch_watch()

    def _hear(self) -> None:
        if self._spread is not None or not self._terminal.hung_up():
            self.ask()

    def ask(self) -> None:
        """Reload soon; asking again before it has begun changes nothing."""
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_task(self._reload())

    async def reload_now(self) -> Outcome:
        """Reload, here and in the other workers; what becomes of it here."""
        outcome = await self._reload()
        if self._spread is not None and not outcome.error:
            self._spread()
        return outcome

    async def _reload(self) -> Outcome:
        async with self._lock:
            if self._asked is asyncio.current_task():
                self._asked = None  # whoever asks from here on has seen a later file
            outcome = await self._apply()
        tell(outcome, self._relay.metrics.observe)
        return outcome

    async def _apply(self) -> Outcome:
        if self._sources is None:
            return Outcome(error=GIVEN)
        relay, running = self._relay, self._relay.settings
        try:
            settings, after_restart = settle(running, await asyncio.to_thread(self._sources.load))
            with _logs(running, settings):
                built = await asyncio.to_thread(relay.build, settings)
        except SettingsError as exc:
            return Outcome(error=str(exc))
        changed = differing(running, settings)
        if changed or built.backends.marks != relay.backends.marks:
            relay.replace(built)
        self._switch_watch()
        return Outcome(changed, after_restart)

    def _switch_watch(self) -> None:
        if self._watch is not None and self._spread is None:
            self._watch.switch(self._relay.settings.watch_config)


class Supervision:
    """The same for the parent of workers: it checks, and says what is wrong, once for all."""

    def __init__(
        self,
        settings: Settings,
        sources: Sources | None,
        *,
        local: LocalModel | LocalBackend | None,
        opened: LocalBackend | None,
    ) -> None:
        self.settings = settings
        self._sources = sources
        self._local = local
        self._backends: Backends | None = already_open(settings, opened)
        self._watch: FileWatch | None = None
        self._terminal = Terminal()

    def renew(self) -> Settings | None:
        """What the workers should have now; None when that is wrong, which has been said."""
        if self._terminal.hung_up():
            return None
        if self._sources is None:
            tell(Outcome(error=GIVEN))
            return None
        try:
            settings, _ = settle(self.settings, self._sources.load())
            self._backends = open_backends(settings, given=self._local, before=self._backends)
        except SettingsError as exc:
            tell(Outcome(error=str(exc)))
            return None
        logs.configure(settings.log_level, settings.log_format)
        self.settings = settings
        if self._watch is not None:
            self._watch.switch(settings.watch_config)
        return settings

    def watch(self, changed: Callable[[], None]) -> None:
        """Look after the files, if that is wanted; to be called in the event loop."""
        if self._sources is not None:
            self._watch = FileWatch(self._sources.files, changed)
            self._watch.switch(self.settings.watch_config)


class Terminal:
    """The terminal at which the relay was started, if any: when it closes, it says SIGHUP, too."""

    def __init__(self) -> None:
        # Whoever starts a program by nohup wants it to outlive the terminal.
        self._there = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _reachable()

    def hung_up(self) -> bool:
        """Whether it has closed; then the relay ends, as programs at a terminal do."""
        gone = self._there and not _reachable()
        if gone:
            signal.raise_signal(signal.SIGTERM)
        return gone


def _reachable() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def settle(running: Settings, wanted: Settings) -> tuple[Settings, tuple[str, ...]]:
    """What of the wanted settings can be had now, and the names of those that need a restart.

    Raises:
        SettingsError: they do not go together with what stays.
    """
    fixed = tuple(name for name in FIXED if getattr(wanted, name) != getattr(running, name))
    settings = wanted.model_copy(update={name: getattr(running, name) for name in fixed})
    if faults := settings.faults():
        raise SettingsError("\n".join(faults))
    return settings, fixed


def differing(before: Settings, after: Settings) -> tuple[str, ...]:
    """The names of the settings that are not the same."""
    return tuple(
        name for name in Settings.model_fields if getattr(before, name) != getattr(after, name)
    )


def tell(outcome: Outcome, observe: Observer = ignore) -> None:
    """Write what became of a reload into the log, and tell that observer."""
    if outcome.error:
        refused = ReloadRefused(outcome.error)
        logs.of_reload(refused)
        observe(refused)
        return
    reloaded = Reloaded(outcome.changed)
    logs.of_reload(reloaded)
    observe(reloaded)
    if outcome.after_restart:
        logs.of_reload(RestartNeeded(outcome.after_restart))


@contextmanager
def _logs(running: Settings, wanted: Settings) -> Iterator[None]:
    """Logs as they are wanted: what is built leaves out what nobody reads. A failure undoes it."""
    logs.configure(wanted.log_level, wanted.log_format)
    try:
        yield
    except BaseException:
        logs.configure(running.log_level, running.log_format)
        raise


@contextmanager
def held() -> Iterator[None]:
    """SIGHUP waits: it would end a process that has not begun to `attend`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
