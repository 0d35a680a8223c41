"""What becomes of a call when its target fails: attempts, status, headers, ledger, for each fault.

Two upstreams, the second one good, and a third way without any other target.
"""

import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ledger_file
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from network import Network
from running import RunningRelay, StartRelay
from waiting import until

STREAM = [(b"content-type", b"text/event-stream")]
LIMITS = {"connect_s": 0.3, "first_byte_s": 0.3, "idle_s": 0.3, "total_s": 20}
ENOUGH_RETRIES = 1
PRICE = {"model": "m", "prompt_usd": 1, "completion_usd": 2}
"""So that a token of the prompt costs 1,000 nano-dollars, and one of the completion 2,000."""


@dataclass(frozen=True)
class Fault:
    """`alone` is what a client gets when nobody else is there: status, code, attempts."""

    script: Callable[[bool], Script] | None
    status: int
    code: str | None
    attempts: int = 1
    address: str | None = None
    repeats: bool = True
    """Whether another target is asked."""
    midway: bool = False
    """It strikes when the answer has begun: a stream has its own test then."""


def failing(status: int, *headers: tuple[bytes, bytes], code: str = "x") -> Callable[..., Script]:
    body = json.dumps({"error": {"message": "no", "type": "t", "param": None, "code": code}})
    return lambda _: Script(status=status, headers=headers, body=body.encode())


def answer(streamed: bool) -> Script:
    if streamed:
        events = transcripts.chat_stream(["a", "b"])
        return Script(pieces=events, headers=STREAM)
    return Script(body=transcripts.chat_body("ab"))


def told(streamed: bool) -> Script:
    """The same, with the tokens that the relay asks for."""
    if streamed:
        events = transcripts.chat_stream(["a", "b"], usage=transcripts.USAGE)
        return Script(pieces=events, headers=STREAM)
    return answer(streamed)


def cut(at: int) -> Callable[[bool], Script]:
    """Reset before that byte of the body; nothing of it has come."""
    return lambda _: Script(pieces=[b"x"], headers=STREAM, reset_at=at)


def midway(**fault: Any) -> Callable[[bool], Script]:
    """In the middle of a whole answer, of which two of three pieces have come by then."""
    return lambda _: Script(pieces=[b'{"choices":', b"[", b"]}"], **fault)


RETRY_AFTER = (b"retry-after", b"7")

FAULTS = {
    "refused": Fault(None, 502, "upstream_unreachable", attempts=2, address="refused"),
    "no such host": Fault(None, 502, "upstream_unreachable", attempts=2, address="unknown"),
    "blackhole": Fault(None, 504, "upstream_timeout", attempts=2, address="silent"),
    "TLS failure": Fault(None, 502, "upstream_unreachable", attempts=2, address="no TLS"),
    "stall in the TLS handshake": Fault(
        None, 504, "upstream_timeout", attempts=2, address="silent TLS"
    ),
    "401": Fault(failing(401), 502, "upstream_auth"),
    "403": Fault(failing(403), 502, "upstream_auth"),
    "429": Fault(failing(429), 429, "x"),
    "429 with retry-after": Fault(failing(429, RETRY_AFTER), 429, "x"),
    "500": Fault(failing(500), 500, "x"),
    "503": Fault(failing(503), 503, "x"),
    "503 with retry-after": Fault(failing(503, RETRY_AFTER), 503, "x"),
    "408": Fault(failing(408), 408, "x"),
    "400": Fault(failing(400), 400, "x", repeats=False),
    "404": Fault(failing(404), 404, "x", repeats=False),
    "422": Fault(failing(422), 422, "x", repeats=False),
    "redirect": Fault(failing(302, (b"location", b"/")), 502, "upstream_protocol"),
    "reset before the head": Fault(
        lambda _: Script(raw=b"HTTP/1.1 2", reset_at=5), 502, "upstream_protocol"
    ),
    "no HTTP": Fault(lambda _: Script(raw=b"SSH-2.0\r\n\r\n"), 502, "upstream_protocol"),
    "reset before the first token": Fault(cut(0), 502, "upstream_protocol"),
    "stall before the head": Fault(lambda _: Script(gate=Gate()), 504, "upstream_timeout"),
    "stall before the first token": Fault(
        lambda _: Script(pieces=[b"x"], headers=STREAM, stall_after=0), 504, "upstream_timeout"
    ),
    "reset midway": Fault(midway(reset_at=12), 502, "upstream_protocol", midway=True),
    "closed midway": Fault(midway(close_at=12), 502, "upstream_protocol", midway=True),
    "stall midway": Fault(midway(stall_after=2), 504, "upstream_timeout", midway=True),
}
CASES = [
    pytest.param(name, streamed, id=f"{name}, {'stream' if streamed else 'plain'}")
    for name, fault in FAULTS.items()
    for streamed in (False, True)
    if not (streamed and fault.midway)
]


class SpeaksNoTls(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"220 ready\r\n")
        self.request.recv(10_000)


@pytest.fixture
def backup() -> Iterator[FakeUpstream]:
    with FakeUpstream.in_thread() as fake:
        yield fake


@pytest.fixture
def addresses() -> Iterator[dict[str, str]]:
    """Where nothing answers, each in its way."""
    closed = socket.socket()  # bound, so that nobody else takes the port, but it does not listen
    closed.bind(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    mute = socket.create_server(("127.0.0.1", 0))  # the kernel accepts, and that is all
    with (
        closed,
        mute,
        Network.in_thread(mute.getsockname()[1]) as away,
        socketserver.ThreadingTCPServer(("127.0.0.1", 0), SpeaksNoTls) as plain,
    ):
        away.drop()
        threading.Thread(target=plain.serve_forever).start()
        yield {
            "refused": f"http://127.0.0.1:{port}/v1",
            "unknown": "http://no-such-host.invalid/v1",
            "silent": away.url,
            "no TLS": f"https://127.0.0.1:{plain.server_address[1]}/v1",
            "silent TLS": f"https://127.0.0.1:{mute.getsockname()[1]}/v1",
        }
        plain.shutdown()


Ask = Callable[[RunningRelay], httpx.Response]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


def relay_for(
    start_relay: StartRelay, first: str, *others: str, ledger: Path | None = None, **model: Any
) -> RunningRelay:
    urls = [first, *others]
    kept = {} if ledger is None else {"database_url": ledger_file.url(ledger), "prices": [PRICE]}
    names = ["first", "second", "third"][: len(urls)]
    return start_relay(
        upstreams=[
            {"name": name, "base_url": url, "timeouts": LIMITS}
            for name, url in zip(names, urls, strict=True)
        ],
        models=[
            {
                "id": "m",
                "targets": [{"upstream": "first"}],
                "fallback": [{"upstream": name} for name in names[1:]],
                **model,
            }
        ],
        retries=ENOUGH_RETRIES,
        **kept,
    )


@pytest.mark.parametrize(("name", "streamed"), CASES)
def test_without_another_target_the_client_hears_of_it(
    start_relay: StartRelay,
    upstream: FakeUpstream,
    addresses: dict[str, str],
    ledger: Path,
    name: str,
    streamed: bool,
) -> None:
    fault = FAULTS[name]
    if fault.script is not None:
        upstream.answer(fault.script(streamed))
    first = addresses.get(fault.address or "", upstream.url)
    relay = relay_for(start_relay, first, ledger=ledger)
    reply = relay.ask(stream=streamed)
    assert reply.status_code == fault.status
    assert reply.json()["error"]["code"] == fault.code
    assert reply.headers["x-relay-attempts"] == str(fault.attempts)
    assert reply.headers["x-relay-upstream"] == "first"
    if "retry-after" in name:
        assert reply.headers["retry-after"] == "7"
    if fault.script is not None:
        assert len(upstream.requests) == fault.attempts
    [row] = ledger_file.rows_of(relay, ledger)
    assert (row.status, row.attempts, row.upstream) == (fault.status, fault.attempts, "first")
    assert row.error == ("upstream_error" if fault.code == "x" else fault.code)
    assert (row.model_asked, row.model_served, row.stream) == ("m", "m", streamed)
    assert (row.prompt_tokens, row.completion_tokens, row.estimated) == (None, None, False)
    assert (row.cost_nano, row.first_token_s) == (0, None)


@pytest.mark.parametrize(("name", "streamed"), CASES)
def test_with_another_target_the_client_does_not_notice(
    start_relay: StartRelay,
    upstream: FakeUpstream,
    backup: FakeUpstream,
    addresses: dict[str, str],
    ledger: Path,
    name: str,
    streamed: bool,
) -> None:
    fault = FAULTS[name]
    if fault.script is not None:
        upstream.answer(fault.script(streamed))
    good = answer(streamed)
    backup.answer(told(streamed))
    first = addresses.get(fault.address or "", upstream.url)
    relay = relay_for(start_relay, first, backup.url, ledger=ledger)
    reply = relay.ask(stream=streamed)
    [row] = ledger_file.rows_of(relay, ledger)
    if not fault.repeats:
        assert reply.status_code == fault.status
        assert reply.headers["x-relay-attempts"] == "1"
        assert not backup.requests
        assert (row.status, row.attempts, row.upstream) == (fault.status, 1, "first")
        return
    assert reply.status_code == 200
    assert reply.content == b"".join(good.writes())
    assert reply.headers["x-relay-upstream"] == "second"
    assert reply.headers["x-relay-attempts"] == str(fault.attempts + 1)
    assert len(backup.requests) == 1
    assert (row.status, row.attempts, row.upstream) == (200, fault.attempts + 1, "second")
    assert (row.error, row.estimated) == ("", False)
    assert (row.prompt_tokens, row.completion_tokens, row.cost_nano) == (3, 5, 13_000)
    assert (row.first_token_s is not None) == streamed


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("reset_at", "upstream_protocol"),
        ("close_at", "upstream_protocol"),
        ("stall_after", "upstream_timeout"),
    ],
)
def test_after_the_first_bytes_nobody_else_is_asked(
    start_relay: StartRelay,
    upstream: FakeUpstream,
    backup: FakeUpstream,
    ledger: Path,
    how: str,
    code: str,
) -> None:
    events = transcripts.chat_stream(["a" * 400, "b"])
    at = 2 if how == "stall_after" else len(events[0] + events[1])
    strikes: dict[str, Any] = {how: at}
    upstream.answer(Script(pieces=events, headers=STREAM, **strikes))
    relay = relay_for(start_relay, upstream.url, backup.url, ledger=ledger)
    reply = relay.ask(stream=True)
    assert (reply.status_code, reply.headers["x-relay-upstream"]) == (200, "first")
    assert reply.headers["x-relay-attempts"] == "1"
    assert b"[DONE]" not in reply.content
    assert json.loads(reply.content.split(b"data: ")[-1])["error"]["code"] == code
    assert not backup.requests
    [row] = ledger_file.rows_of(relay, ledger)
    assert (row.status, row.error, row.attempts) == (200, code, 1)
    assert (row.completion_tokens, row.estimated) == (100, True)
    assert row.prompt_tokens is not None
    assert row.cost_nano == row.prompt_tokens * 1000 + 200_000
    assert row.first_token_s is not None
    assert row.first_token_s <= row.duration_s


def test_the_chain_goes_on_to_the_local_model(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(failing(500)(False))
    relay = start_relay(
        upstream_url=upstream.url,
        local="echo",
        models=[{"id": "m", "targets": [{"upstream": "upstream"}], "fallback": [{"local": True}]}],
    )
    for streamed in (False, True):
        reply = relay.ask("one two", stream=streamed)
        assert reply.status_code == 200
        assert reply.headers["x-relay-upstream"] == "local"
        assert reply.headers["x-relay-attempts"] == "2"
        assert b"two" in reply.content


def test_a_busy_target_is_asked_again_after_its_time_when_the_model_says_so(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(failing(429, (b"retry-after-ms", b"50"))(False), times=2)
    relay = relay_for(start_relay, upstream.url, retries=2)
    reply = relay.ask()
    assert reply.status_code == 200
    assert reply.headers["x-relay-attempts"] == "3"


def test_a_wait_that_is_too_long_is_the_clients(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(failing(429, (b"retry-after", b"3600"))(False))
    relay = relay_for(start_relay, upstream.url, retries=2)
    reply = relay.ask()
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "3600")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("streamed", [False, True])
def test_a_prompt_that_is_too_long_goes_where_there_is_room(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream, streamed: bool
) -> None:
    upstream.answer(failing(400, code="context_length_exceeded")(streamed))
    backup.answer(answer(streamed))
    relay = relay_for(
        start_relay,
        upstream.url,
        backup.url,
        fallback=[],
        context_fallback=[{"upstream": "second", "model": "long"}],
    )
    reply = relay.ask(stream=streamed)
    assert reply.status_code == 200
    assert reply.headers["x-relay-upstream"] == "second"
    assert json.loads(backup.requests[0].body)["model"] == "long"


def test_a_breaker_leaves_a_dead_target_alone_and_lets_one_call_try(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    upstream.answer(failing(500)(False))
    relay = start_relay(
        upstreams=[
            {"name": "a", "base_url": upstream.url, "breaker": {"failures": 3, "open_s": 1}},
            {"name": "b", "base_url": backup.url},
        ],
        models=[{"id": "m", "targets": [{"upstream": "a"}], "fallback": [{"upstream": "b"}]}],
    )
    for _ in range(10):
        assert relay.ask().status_code == 200
    assert len(upstream.requests) < 10
    health = relay.relay.router.health["a"]
    assert health.opened >= 1
    upstream.answer(answer(streamed=False))
    until(lambda: relay.ask().headers["x-relay-upstream"] == "a")  # its time is over: one may try
    assert health.state == "closed"


def test_when_all_are_left_alone_one_is_asked_all_the_same(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(failing(500)(False))
    relay = relay_for(start_relay, upstream.url)
    statuses = [relay.ask().status_code for _ in range(10)]
    assert statuses == [500] * 10
    assert len(upstream.requests) == 10
