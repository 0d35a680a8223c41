"""The settings of WebSockets: what one may send, hold open and ask for at once."""

from typing import Annotated

from pydantic import Field

from relay.settings.upstream import Section
from relay.settings.values import Seconds, SocketPaths


class SocketSettings(Section):
    """The table `[websocket]`; counts are those of one process."""

    max_frame_bytes: Annotated[int, Field(ge=1024)] = Field(
        4 * 1024 * 1024, description="largest message a client may send on a WebSocket"
    )
    frames_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        50.0, description="messages a client may send on one WebSocket each second"
    )
    max_open: Annotated[int, Field(ge=1)] = Field(
        1000, description="open WebSockets of one key in one process"
    )
    max_answers: Annotated[int, Field(ge=1)] = Field(
        8, description="chat answers that may run at once on one WebSocket"
    )
    key_wait_s: Seconds = Field(
        10.0,
        description="how long a WebSocket may take to send its key as its first frame, seconds",
    )
    ping_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        20.0,
        description="seconds between two pings to a WebSocket; one that does not answer for 20 s is"
        " closed; 0: never",
    )
    passthrough: SocketPaths = Field(
        ("/v1/realtime",),
        description="WebSockets under /v1 that are passed on to the upstream, comma separated;"
        " * in a path stands for anything",
    )
