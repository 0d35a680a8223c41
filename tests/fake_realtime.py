"""A WebSocket server that stands upstream of a relay, and does as it is told.

with FakeRealtime() as fake:
    fake.refuse(429, b"{}", ("retry-after", "7"))     the next handshake
    ...                                               something that opens fake.url + "/realtime"
    fake.wait_for(lambda: fake.heard)

It says `{"type": "session.created"}`, then each message again. `{"say": [...]}` has it say those
events instead, `{"close": [code, reason]}` close, `"drop"` lose the connection.
"""

import json
import ssl
import threading
from collections.abc import Sequence
from typing import Any, Self

from fake_script import Bell
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve


class FakeRealtime(Bell):
    def __init__(
        self, subprotocols: Sequence[str] = ("realtime",), tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__()
        self.handshakes: list[Request] = []
        self.heard: list[str | bytes] = []
        self.closes: list[tuple[int, str]] = []
        self.gate: threading.Event | None = None
        self._refusals: list[Response] = []
        self._server = serve(
            self._serve,
            "127.0.0.1",
            0,
            ssl=tls,
            process_request=self._check,
            subprotocols=list(subprotocols),
            select_subprotocol=lambda _, offered: next(
                (one for one in subprotocols if one in offered), None
            ),
        )
        self.port = self._server.socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()

    def refuse(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        """Answer the next handshake with that instead."""
        framed = [*headers, ("content-length", str(len(body))), ("connection", "close")]
        self._refusals.append(Response(status, "", Headers(framed), body))

    def _check(self, _: ServerConnection, request: Request) -> Response | None:
        self.handshakes.append(request)
        self.ring()
        if self.gate is not None:
            self.gate.wait(20)
        return self._refusals.pop(0) if self._refusals else None

    def _serve(self, connection: ServerConnection) -> None:
        connection.send('{"type": "session.created"}')
        try:
            for message in connection:
                self.heard.append(message)
                self.ring()
                self._answer(connection, message)
        except ConnectionClosed:
            pass
        received = connection.protocol.close_rcvd
        self.closes.append((received.code, received.reason) if received else (1006, ""))
        self.ring()

    def _answer(self, connection: ServerConnection, message: str | bytes) -> None:
        asked: Any = json.loads(message) if str(message).startswith("{") else {}
        if message == "drop":
            connection.socket.shutdown(2)
        elif "close" in asked:
            connection.close(*asked["close"])
        elif "say" in asked:
            for event in asked["say"]:
                connection.send(event if isinstance(event, str) else json.dumps(event))
        else:
            connection.send(message)
