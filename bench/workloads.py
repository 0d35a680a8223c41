"""What is asked in a benchmark, and the limits that are promised for it.

The model's name tells the fake upstream what to answer, so nothing but an ordinary chat request
crosses the system under test:

    bench-plain                     one JSON answer
    bench-stream-64-10-stamped      64 chunks, 10 ms apart, each with the time of its sending
    bench-idle                      a head and one chunk, then silence until `GET /release`
"""

import json
from dataclasses import dataclass

CLIENT_KEY = "bench-client-key"
UPSTREAM_KEY = "bench-upstream-key"

CHUNKS = 64
PACE_MS = 10
"""Between two chunks of a paced stream: 100 tokens a second, a fast model."""

KB = 1000
MB = 1000 * KB


@dataclass(frozen=True, slots=True)
class Limit:
    """Highest CPU per request, as a multiple of nginx's."""

    target: float
    floor: float


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of request."""

    name: str
    title: str
    model: str = "bench-plain"
    body_bytes: int = 0
    """Size of the request body; 0: as small as it is."""

    chunks: int = 0
    """Events of the answer before `[DONE]`; 0: the answer is not a stream."""

    weight: int = 1
    """How many small requests one of these is, very roughly: it needs fewer to warm up."""

    tls: bool = False
    setup: str = ""
    """What the relay does beside relaying: "" nothing, "routed" or "counted" (processes.SETUPS)."""

    limit: Limit | None = None

    def body(self) -> bytes:
        """The request's JSON; the model comes first, where the upstream looks for it."""
        messages = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Write a haiku about proxies."},
        ]
        request = {"model": self.model, "messages": messages, "temperature": 0.7}
        if self.chunks:
            request["stream"] = True
        missing = self.body_bytes - len(json.dumps(request))
        if missing > 0:
            words = "lorem ipsum dolor sit amet " * (missing // 27 + 1)
            messages[1]["content"] += words[:missing]
        return json.dumps(request).encode()

    def request(self, host: str) -> bytes:
        """The whole request as it goes over the wire."""
        body = self.body()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\n"
            f"authorization: Bearer {CLIENT_KEY}\r\nuser-agent: relay-bench\r\naccept: */*\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: a kind of request, and how many of them at once."""

    work: Work
    in_flight: int
    rate: int | None = None
    """Requests a second, however long they take; None: the next one follows the last."""

    @property
    def name(self) -> str:
        return f"{self.work.name}@{self.in_flight}" + (f"/{self.rate}ps" if self.rate else "")


SMALL = Limit(3.5, 5.0)
STREAMED = Limit(1.0, 1.3)

CHAT = Work("chat", "small chat, not streamed", limit=SMALL)
STREAM = Work(
    "stream",
    f"stream of {CHUNKS} chunks, as fast as they go",
    f"bench-stream-{CHUNKS}-0",
    chunks=CHUNKS,
    weight=20,
    limit=STREAMED,
)
TLS = Work("tls", "small chat, TLS to the upstream", tls=True, limit=SMALL)
ROUTED = Work("routed", "small chat, its model under [[models]]", setup="routed")
COUNTED = Work("counted", "small chat, key with limits and a budget, ledger", setup="counted")
BODY_1K = Work("body-1k", "1 kB request body", body_bytes=KB)
BODY_100K = Work("body-100k", "100 kB request body", body_bytes=100 * KB, limit=Limit(3.0, 6.0))
BODY_5M = Work("body-5m", "5 MB request body", body_bytes=5 * MB, weight=20)
PACED = Work(
    "paced",
    f"stream of {CHUNKS} chunks, {PACE_MS} ms apart",
    f"bench-stream-{CHUNKS}-{PACE_MS}-stamped",
    chunks=CHUNKS,
    weight=50,
    limit=STREAMED,
)
IDLE = Work("idle", "idle stream", "bench-idle", chunks=2)

USUAL = 16
"""Requests in flight where nothing else is said."""

RATE = 1000
"""Requests a second at which latency under load is measured: nobody is saturated then."""


def plan(*, quick: bool) -> list[Cell]:
    """Everything that is measured, in order."""
    levels = (1, USUAL, 128) if quick else (1, USUAL, 128, 512, 2048)
    return [
        *(Cell(CHAT, level) for level in levels),
        *(Cell(STREAM, level) for level in levels),
        Cell(TLS, USUAL),
        Cell(ROUTED, USUAL),
        Cell(COUNTED, USUAL),
        Cell(BODY_1K, USUAL),
        Cell(BODY_100K, USUAL),
        Cell(BODY_5M, 4),
        Cell(CHAT, 64, rate=RATE),
        Cell(PACED, 1),
        Cell(PACED, 128),
    ]
