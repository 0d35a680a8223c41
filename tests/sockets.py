"""WebSocket clients of the tests."""

import json
import socket
from typing import Any

import httpx
import transcripts
from fake_script import Script
from running import RunningRelay, chat
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

EVENTS = [(b"content-type", b"text/event-stream")]


def dial(relay: RunningRelay, path: str = "/ws", **more: Any) -> ClientConnection:
    """A socket of that relay."""
    return connect(relay.root.replace("http", "ws") + path, proxy=None, **more)


def ask(socket: ClientConnection, id_: str, text: str = "one two", **fields: Any) -> None:
    """Send a chat frame."""
    socket.send(json.dumps({"type": "chat", "id": id_, "request": chat(text, **fields)}))


def told(socket: ClientConnection) -> dict[str, Any]:
    """The next frame."""
    frame: dict[str, Any] = json.loads(socket.recv(timeout=20))
    return frame


def answer(socket: ClientConnection) -> list[dict[str, Any]]:
    """The frames up to one that ends an answer."""
    frames = []
    while True:
        frames.append(told(socket))
        if frames[-1]["type"] != "chunk":
            return frames


def close_code(socket: ClientConnection) -> int | None:
    """The code with which the other end closes it, whatever it sends before."""
    try:
        while True:
            socket.recv(timeout=20)
    except ConnectionClosed as closed:
        return None if closed.rcvd is None else closed.rcvd.code


def stalling(*words: str) -> Script:
    """An upstream's answer of those words, behind which nothing comes any more."""
    pieces = transcripts.chat_stream([*words, "never"])
    return Script(pieces=pieces, stall_after=len(words) + 1, headers=EVENTS)


def raw(relay: RunningRelay) -> socket.socket:
    """An open socket whose client does nothing by itself: no pong, no close."""
    address = httpx.URL(relay.root)
    client = socket.create_connection((address.host, address.port or 0), timeout=20)
    client.sendall(
        b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    return client


def masked(text: str, opcode: int = 1) -> bytes:
    """A client's frame."""
    body = text.encode()
    assert len(body) < 126, "short ones only"
    return bytes([0x80 | opcode, 0x80 | len(body), 0, 0, 0, 0]) + body
