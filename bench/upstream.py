"""A fake OpenAI server that costs next to nothing: the far end of a benchmark.

    python -m bench.upstream --cert cert.pem --key key.pem

prints `{"plain": PORT, "tls": PORT}` and serves until it is terminated. It knows as much of HTTP as
the benchmark needs: requests with a content-length, one at a time on a connection. What is answered
is told by the model's name, see `workloads.py`. `GET /release` ends the idle streams and answers
how many there were; `GET /stats` answers how many POST requests came.
"""

import argparse
import asyncio
import json
import re
import ssl
import time
from collections.abc import Callable
from typing import cast

import uvloop

BACKLOG = 4096
LOOKED_AT_BYTES = 4096
"""How much of a body is looked at: a stream's whole request, and the beginning of a large one."""

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
MODEL = re.compile(rb'"model": *"bench-(plain|idle|stream-(\d+)-(\d+)(-stamped)?)"')
WANTS_USAGE = re.compile(rb'"include_usage": *true')

STAMP_DIGITS = 19
"""Nanoseconds of the monotonic clock, which all processes of a machine share; always as long."""


def plain_answer() -> bytes:
    """A chat completion, head and body."""
    message = {
        "role": "assistant",
        "content": "Bytes come and bytes go; the middle keeps no copy, the wire is quiet.",
    }
    completion = {
        "id": "chatcmpl-bench0123456789abcdef",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "bench-plain",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 24, "completion_tokens": 12, "total_tokens": 36},
        "system_fingerprint": "fp_bench",
    }
    return json_answer("200 OK", completion)


def json_answer(status: str, value: object) -> bytes:
    """A JSON answer of known length."""
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def event(delta: str, finish: str = "null") -> bytes:
    """One chunk of a stream as an HTTP chunk."""
    return framed(
        'data: {"id":"chatcmpl-bench0123456789abcdef","object":"chat.completion.chunk",'
        '"created":1700000000,"model":"bench-stream",'
        f'"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}\n\n'
    )


def framed(text: str) -> bytes:
    """An HTTP chunk."""
    return f"{len(text):x}\r\n{text}\r\n".encode()


PLAIN = plain_answer()
NOT_FOUND = json_answer("404 Not Found", {"error": {"message": "the benchmark asks no such thing"}})
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
NO_STAMP = "0" * STAMP_DIGITS
STAMPED = event(f'{{"content":"{NO_STAMP}"}}').replace(NO_STAMP.encode(), b"%019d")
TOKEN = event(f'{{"content":"{"token".ljust(STAMP_DIGITS)}"}}')
USAGE = framed(
    'data: {"id":"chatcmpl-bench0123456789abcdef","object":"chat.completion.chunk",'
    '"created":1700000000,"model":"bench-stream","choices":[],'
    '"usage":{"prompt_tokens":24,"completion_tokens":64,"total_tokens":88}}\n\n'
)
END = framed("data: [DONE]\n\n") + b"0\r\n\r\n"


class Upstream:
    """What the connections share."""

    def __init__(self) -> None:
        self.requests = 0
        self.held: set[Connection] = set()

    async def listen(self, port: int = 0, context: ssl.SSLContext | None = None) -> asyncio.Server:
        """Serve on loopback; port 0 takes a free one."""
        return await asyncio.get_running_loop().create_server(
            lambda: Connection(self), "127.0.0.1", port, ssl=context, backlog=BACKLOG
        )

    def release(self) -> int:
        """End the idle streams; how many there were."""
        held, self.held = self.held, set()
        for connection in held:
            connection.end_idle()
        return len(held)


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._held = b""
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._upstream.held.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._unread_bytes:
            self._unread_bytes -= len(data)
        else:
            self._held += data
            if not self._has_begun():
                return
        if self._unread_bytes < 0:
            self._refuse("501 Not Implemented")  # pipelined, or more than was announced
        elif not self._unread_bytes:
            asked, self._held = self._held, b""
            self._answer(asked)

    def _has_begun(self) -> bool:
        """Whether the head, and as much of the body as is looked at, are there."""
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return False
        if self._held.startswith(b"GET "):
            return True
        length = LENGTH.search(self._held, 0, end + 2)
        if length is None:
            self._refuse("411 Length Required")
            return False
        body_bytes, here = int(length[1]), len(self._held) - end - 4
        if here < min(body_bytes, LOOKED_AT_BYTES):
            return False
        self._unread_bytes = body_bytes - here
        return True

    def _refuse(self, status: str) -> None:
        self._transport.write(json_answer(status, {"error": {"message": status}}))
        self._transport.close()

    def _answer(self, asked: bytes) -> None:
        if asked.startswith(b"GET "):
            self._transport.write(self._about(asked))
            return
        self._upstream.requests += 1
        model = MODEL.search(asked)
        if model is None:
            self._transport.write(NOT_FOUND)
        elif model[1] == b"plain":
            self._transport.write(PLAIN)
        elif model[1] == b"idle":
            self._transport.write(STREAM_HEAD + TOKEN)
            self._upstream.held.add(self)
        else:
            last = USAGE + END if WANTS_USAGE.search(asked) else END
            Stream(self._transport, self._loop, model, last).step()

    def _about(self, asked: bytes) -> bytes:
        if asked.startswith(b"GET /release "):
            return json_answer("200 OK", {"released": self._upstream.release()})
        if asked.startswith(b"GET /stats "):
            held = len(self._upstream.held)
            return json_answer("200 OK", {"requests": self._upstream.requests, "held": held})
        return NOT_FOUND

    def end_idle(self) -> None:
        """Send an idle stream's second chunk, and its end."""
        self._transport.write(TOKEN + END)


class Stream:
    """An answer in chunks, each its own write and so its own packet.

    uvloop gathers what is written within one turn of the loop, so each chunk takes a turn.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        model: re.Match[bytes],
        end: bytes,
    ) -> None:
        self._transport = transport
        self._left = int(model[2])
        self._end = end
        self._head = STREAM_HEAD
        self._stamped = model[4] is not None
        pace_s = int(model[3]) / 1000
        self._again: Callable[[], object] = (
            (lambda: loop.call_later(pace_s, self.step))
            if pace_s
            else (lambda: loop.call_soon(self.step))
        )

    def step(self) -> None:
        """Write the next chunk; after the last one, the end."""
        if self._transport.is_closing():
            return
        if not self._left:
            self._transport.write(self._end)
            return
        chunk = STAMPED % time.monotonic_ns() if self._stamped else TOKEN
        self._transport.write(self._head + chunk)
        self._head = b""
        self._left -= 1
        self._again()


async def serve(cert: str, key: str) -> None:
    """Listen with and without TLS, say where, and serve."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    upstream = Upstream()
    servers = {"plain": await upstream.listen(), "tls": await upstream.listen(context=context)}
    ports = {name: server.sockets[0].getsockname()[1] for name, server in servers.items()}
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="A fake OpenAI server for benchmarks.")
    parser.add_argument("--cert", required=True, help="PEM file for the TLS port")
    parser.add_argument("--key", required=True, help="PEM file of its private key")
    options = parser.parse_args()
    uvloop.run(serve(options.cert, options.key))


if __name__ == "__main__":
    main()
