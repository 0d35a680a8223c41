"""Sends what has ended to a collector, from a thread: nobody who answers requests waits for it.

    put --> at most MAX_WAITING --every EVERY_S, or when BATCH wait--> spans --> the collector
                 `-- what has no room, or is not taken, is lost: counted, and told once a minute

OpenTelemetry's own `BatchSpanProcessor` is such a queue and such a thread as well, but takes spans,
which would have to be made where requests are answered; and its end waits for 30 seconds.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from relay.telemetry.traces import Ended

MAX_WAITING = 4096
"""Requests; some 3 kB each."""

BATCH = 100
EVERY_S = 1.0

TELL_EVERY_S = 60.0

FLUSH_S = 2.0
"""How long an end may take; less than what a worker has for that before it is killed."""

_log = logging.getLogger("relay.traces")


class Collector(Protocol):
    """Takes spans. `url` is where it is."""

    url: str

    def send(self, ended: Sequence[Ended]) -> str:
        """Send spans of these; "" when they were taken, else why they were not."""
        ...

    def give_up(self) -> None:
        """Have what is being sent end soon; from another thread."""
        ...


class SpanSender:
    """Keeps what has ended until its thread has sent it; `connect` is called in that thread."""

    def __init__(self, connect: Callable[[], Collector]) -> None:
        self._connect = connect
        self._collector: Collector | None = None
        self._waiting: deque[Ended] = deque()
        self._wake = threading.Event()
        self._ending = False
        self._given_up = False
        self._without_room = 0
        self._not_taken = 0
        self._sending = 0
        self._told = 0
        self._told_at = -TELL_EVERY_S
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> int:
        """Requests whose spans nobody will see."""
        return self._without_room + self._not_taken

    def put(self, ended: Ended) -> None:
        """Send that soon. Never blocks."""
        waiting = self._waiting
        if len(waiting) >= MAX_WAITING:
            self._without_room += 1
            return
        waiting.append(ended)
        if len(waiting) == BATCH:
            self._wake.set()

    def start(self) -> None:
        """Begin to send."""
        self._ending = self._given_up = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """Send what is left, for as long as `FLUSH_S`; then what is left is lost."""
        thread = self._thread
        if thread is None:
            return
        self._ending = True
        self._wake.set()
        await asyncio.to_thread(thread.join, FLUSH_S)
        if thread.is_alive():  # it is a daemon, so the process does not wait for it
            self._given_up = True
            self._not_taken += len(self._waiting) + self._sending
            if self._collector is not None:
                self._collector.give_up()
            self._tell("it did not take them in time")

    def _run(self) -> None:
        self._collector = collector = self._connect()
        while not self._ending:
            self._wake.wait(EVERY_S)
            self._wake.clear()
            self._send_all(collector)
        self._send_all(collector)

    def _send_all(self, collector: Collector) -> None:
        why = ""
        while self._waiting and not self._given_up:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            self._sending = len(batch)
            try:
                failed = collector.send(batch)
            except Exception as exc:  # one batch without spans must not end all that follow
                failed = type(exc).__name__
            self._sending = 0
            if self._given_up:
                return  # whoever did that has told
            if failed:
                self._not_taken += len(batch)
                why = failed
        if self.lost > self._told:
            self._tell(why or "more came than could be sent")

    def _tell(self, why: str) -> None:
        now = monotonic()
        if now - self._told_at < TELL_EVERY_S and not self._ending:
            return
        fields = {
            "url": "" if self._collector is None else self._collector.url,
            "requests": self.lost - self._told,
            "reason": why,
        }
        self._told, self._told_at = self.lost, now
        _log.warning("traces_lost", extra={"fields": fields})
