"""Spans as a collector reads them, against what docs/traces.md says of them."""

import re
import time
from pathlib import Path
from typing import Any

from collector import Collector, Span

from relay.errors import UpstreamUnreachable
from relay.events import AttemptLost, RequestEnded
from relay.settings import UpstreamSettings
from relay.telemetry.spans import OtlpCollector
from relay.telemetry.traced import peer_of
from relay.telemetry.traces import Ended, Traces, current
from relay.types import Call, Usage

DOCUMENT = Path(__file__).parents[2] / "docs" / "traces.md"
CHAT = Call(path="chat/completions?x=y", model="m", payload={"model": "m"}, stream=True)
PEER = peer_of(UpstreamSettings(name="a", base_url="https://api.example/v1"))


class Kept(list[Ended]):
    """Where what has ended goes, in place of a thread."""

    put = list.append

    def start(self) -> None: ...

    async def aclose(self) -> None: ...


def ended(**fields: Any) -> RequestEnded:
    usual: dict[str, Any] = dict.fromkeys(RequestEnded._fields, "")
    usual |= {"at": time.time(), "path": "/v1/chat/completions", "model": "m", "served": "m"}
    usual |= {"target": "a", "status": 200, "attempts": 1, "lost_attempts": 0, "method": "POST"}
    usual |= {"first_token_s": None, "duration_s": 0.2, "usage": Usage(10, 5), "stream": True}
    return RequestEnded(**usual | fields)


def sent(kept: Kept, collector: Collector) -> list[Span]:
    assert OtlpCollector(collector.url, {}).send(kept) == ""
    return collector.spans


def test_what_is_told_is_what_is_documented(collector: Collector) -> None:
    kept = Kept()
    traces = Traces(kept, sample=1)
    traces.enter([])
    trace = current()
    assert trace is not None
    trace.begin(PEER, CHAT).end(UpstreamUnreachable("Nobody is there."))
    won = trace.begin(PEER, CHAT)
    won.answered(200)
    won.end()
    traces.observe(
        ended(
            request_id="r",
            key_id="k",
            team_id="t",
            error="upstream_protocol",
            first_token_s=0.1,
            lost_attempts=1,
            estimated=True,
            usage=Usage(10, 5, 3, 2, 1, 4),
        )
    )
    told: set[tuple[str, str]] = set()
    for span in sent(kept, collector):
        where = {"SERVER": "request", "CLIENT": "attempt"}[span.kind]
        told |= {(name, where) for name in span.attributes}
    rows = re.findall(r"^\| `([a-z_.]+)` \| ([a-z, ]+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert told == {(name, one) for name, where in rows for one in where.split(", ")}


def test_what_is_beside_its_request_belongs_to_none(collector: Collector) -> None:
    kept = Kept()
    traces = Traces(kept, sample=1)
    traces.enter([])
    traces.observe(ended())
    assert current() is None, "what goes on when a request is over is nobody's attempt"


def test_an_attempt_that_others_wait_for_is_told_after_its_request(collector: Collector) -> None:
    kept = Kept()
    traces = Traces(kept, sample=1)
    traces.enter([])
    trace = current()
    assert trace is not None
    attempt = trace.begin(PEER, CHAT)
    traces.observe(ended(status=499, error="client_left", usage=None))
    attempt.answered(200)
    attempt.end()
    request, late = sent(kept, collector)
    assert (request.kind, late.kind) == ("SERVER", "CLIENT")
    assert late.parent == request.id
    assert late["relay.attempt.outcome"] == "answered"


def test_of_two_attempts_at_one_upstream_the_cancelled_one_is_lost(collector: Collector) -> None:
    kept = Kept()
    traces = Traces(kept, sample=1)
    traces.enter([])
    trace = current()
    assert trace is not None
    slow, quick = trace.begin(PEER, CHAT), trace.begin(PEER, CHAT)
    quick.answered(200)
    traces.observe(AttemptLost("r", "a", 2))
    slow.end(KeyboardInterrupt())  # as good as a cancellation
    quick.end()
    traces.observe(ended(attempts=2, lost_attempts=1))
    outcomes = {
        span["relay.attempt"]: span["relay.attempt.outcome"] for span in sent(kept, collector)
    }
    assert (outcomes[1], outcomes[2]) == ("lost", "answered")


def test_upstreams_are_told_by_who_makes_them() -> None:
    def provider(url: str, kind: str = "openai") -> tuple[str, str, int]:
        peer = peer_of(UpstreamSettings(name="x", base_url=url, kind=kind))
        return peer.provider, peer.address, peer.port

    assert provider("https://api.openai.com/v1") == ("openai", "api.openai.com", 443)
    assert provider("http://127.0.0.1:8001/v1") == ("openai", "127.0.0.1", 8001)
    assert provider("http://vllm/v1") == ("openai", "vllm", 80)
    assert provider("https://api.groq.com/openai/v1")[0] == "groq"
    assert provider("https://x.openai.azure.com", "azure")[0] == "azure.ai.openai"
    assert provider("https://api.anthropic.com/v1", "anthropic")[0] == "anthropic"
