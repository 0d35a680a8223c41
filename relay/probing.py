"""Active probes: upstreams are asked for their models now and then, and their health hears of it.

A sick upstream is noticed before a client's call runs into it, and a well one is used again without
one. Only where `probe_s` says so: each probe is a request.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence

from relay.errors import BackendError
from relay.health import Health
from relay.settings import UpstreamSettings
from relay.types import Backend, Call
from relay.verdict import judge

MODELS = Call(path="models", method="GET")


class Probing:
    """The probes of all upstreams that want them."""

    def __init__(
        self,
        settings: Sequence[UpstreamSettings],
        backends: Mapping[str, Backend],
        health: Mapping[str, Health],
    ) -> None:
        self._wanted = [
            (backends[one.name], health[one.name], one.probe_s) for one in settings if one.probe_s
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to probe."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(_probe_for_ever(*one)) for one in self._wanted]

    async def aclose(self) -> None:
        """Probe no longer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _probe_for_ever(backend: Backend, health: Health, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s * random.uniform(0.9, 1.1))  # noqa: S311  # not all at once
        await probe(backend, health)


async def probe(backend: Backend, health: Health) -> None:
    """Ask once; the answer says of the target what a client's call would."""
    began = health.now()
    try:
        await backend.complete(MODELS)
    except BackendError as exc:
        judge(health, exc)
    else:
        ended = health.now()
        health.answered(ended - began, ended)
