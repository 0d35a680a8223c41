"""One WebSocket's connection under our own server: uvicorn's, with limits of ours.

    frames       one that is larger than max_frame_bytes closes the socket (1009)
    pings        each ping_s; who does not answer for PONG_WAIT_S is closed (1011)
    reading      one message at a time, as uvicorn has it: who sends faster waits
    writing      up to the transport's high-water mark (64 KiB), then whoever writes waits; a client
                 that takes nothing for write_timeout_s is cut
    shutdown     the relay's own Crowd closes sockets, when their answers are out

Nothing is compressed: that would cost each socket 20 kB, and each small chunk more time than all
the rest of its way.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import uvicorn
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.server import ServerProtocol

from relay.settings import Settings
from relay.web.outflow import Outflow

PONG_WAIT_S = 20.0
CLOSE_WAIT_S = 2.0
"""How long a client may take to answer the frame that closes its socket."""

_log = logging.getLogger("relay.web")

_SILENT = logging.Logger("websockets", logging.CRITICAL + 1)
"""That library logs headers at its most talkative, and they hold keys."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """All arguments but the first are those with which uvicorn makes its protocols."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._settings = settings
        now = settings()
        self.conn = ServerProtocol(max_size=now.websocket.max_frame_bytes, logger=_SILENT)
        self.ping_interval = now.websocket.ping_s
        self.ping_timeout = PONG_WAIT_S
        self.close_timeout = CLOSE_WAIT_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        timeout_s = self._settings().write_timeout_s
        self._outflow = Outflow(cast(asyncio.Transport, transport), self.loop, timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._outflow.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._outflow.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._outflow.moved()

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # whoever reads nothing cannot have answers pile up here

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self._outflow.watch()  # what it was told may never leave

    async def run_asgi(self) -> None:
        """As uvicorn's, less its complaint of each handshake that the application refuses."""
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except Exception:  # applications answer for their own faults; this one is of the frame
            _log.exception("internal_error")
            self.send_500_response()
        finally:
            if self.close_timer is None:
                self.transport.close()

    def shutdown(self) -> None:
        if not self.handshake_complete or self.close_sent:
            super().shutdown()
