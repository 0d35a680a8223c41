"""The door of a relay that traces: what happens behind it belongs to the trace of its request."""

from starlette.types import Receive, Scope, Send

from relay.telemetry.traces import Traces
from relay.web.client import AsgiClient, Client
from relay.web.door import Door


class TracedDoor:
    """In front of a door; where nothing is traced there is none."""

    def __init__(self, door: Door, traces: Traces) -> None:
        self._door = door
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.enter(AsgiClient(scope, receive, send))

    async def enter(self, client: Client) -> None:
        """Answer a client; to be awaited in the task of its request."""
        self._traces.enter(client.headers)
        await self._door.enter(client)
