"""Status by status, origin by origin: who may read an answer is said, once, and nobody else."""

import hashlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import transcripts
from fake_script import Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay, chat

PAGE, STRANGER, NULL = "https://app.example", "https://evil.example", "null"
KEY = "rk-canary-0123456789abcdef"
FRAMES = "https://frames.example"
FRAMED, BUSY = "rk-framed-0123456789abcdef", "rk-busy-0123456789abcdef"
THEIRS = [
    (b"content-type", b"application/json"),
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-credentials", b"true"),
    (b"access-control-expose-headers", b"x-theirs"),
    (b"access-control-allow-private-network", b"true"),
    (b"vary", b"Origin"),
    (b"retry-after", b"0"),
    (b"x-ratelimit-remaining-tokens", b"7"),
]
BODY = transcripts.chat_body("x")
CHAT, MESSAGES, EMBEDDINGS = "/v1/chat/completions", "/v1/messages", "/v1/embeddings"
ORIGINS = (None, PAGE, STRANGER, NULL)


@dataclass(frozen=True)
class Case:
    """A request whose answer has that status, and what the upstream says to it, if it is asked."""

    status: int
    method: str = "POST"
    path: str = CHAT
    key: str = KEY
    body: Any = None
    content_type: str = "application/json"
    upstream: int | None = None


def cases() -> Iterator[Case]:
    for status in (200, 400, 403, 404, 409, 422, 429, 500, 503):
        shown = {403: 502}.get(status, status)
        for path in (CHAT, EMBEDDINGS, MESSAGES):
            overloaded = path == MESSAGES and status == 503  # as Anthropic's API says it
            yield Case(529 if overloaded else shown, path=path, upstream=status)
        yield Case(shown, body=chat(stream=True), upstream=status)
    yield Case(200, method="DELETE", path="/v1/files/x", upstream=200)
    for path in (CHAT, EMBEDDINGS, MESSAGES):
        yield Case(401, path=path, key="rk-wrong")
        yield Case(413, path=path, body=chat("x" * 5000))
    yield Case(400, body=[])
    yield Case(400, path=MESSAGES, body=[])
    yield Case(415, content_type="text/plain")
    yield Case(404, path="/nothing")
    yield Case(404, path="/v1/%2e%2e/admin")
    yield Case(405, method="GET")
    yield Case(429, key=BUSY, upstream=200)


def ask(relay: RunningRelay, case: Case, origin: str | None) -> httpx.Response:
    body = {**chat(), "max_tokens": 5, "input": "x"} if case.body is None else case.body
    headers = {"authorization": f"Bearer {case.key}", "content-type": case.content_type}
    if origin is not None:
        headers["origin"] = origin
    return relay.http.request(case.method, case.path, json=body, headers=headers)


def check(
    headers: httpx.Headers, origin: str | None, allowed: tuple[str, ...], who: object
) -> None:
    given = {name: headers.get_list(name) for name in headers if name.startswith("access-control")}
    if origin not in allowed:
        assert given == {}, who
    else:
        assert given.pop("access-control-allow-origin") == [origin], who
        (exposed,) = given.pop("access-control-expose-headers")
        assert "*" not in exposed
        for name in (
            "x-request-id",
            "retry-after",
            "x-should-retry",
            "server-timing",
            "x-relay-upstream",
        ):
            assert name in exposed.split(", ")
        assert "x-ratelimit-remaining-tokens" in exposed.split(", ")
        assert given == {}, who


@pytest.mark.parametrize("allowed", [(PAGE,), (PAGE, NULL)], ids=["page", "page and null"])
def test_whoever_may_read_an_answer_reads_it_whatever_its_status(
    start_relay: StartRelay, upstream: FakeUpstream, allowed: tuple[str, ...]
) -> None:
    relay = start_relay(
        upstream_url=upstream.url,
        api_keys=[KEY],
        keys=[{"name": "busy", "sha256": _sha256(BUSY), "rpm": 1}],
        cors_origins=allowed,
        passthrough="default,/v1/files*",
        max_body_bytes=4000,
        retries=0,
    )
    assert ask(relay, Case(200, key=BUSY), None).status_code == 200
    for case in cases():
        for origin in ORIGINS:
            if case.upstream is not None:
                upstream.answer(Script(status=case.upstream, body=BODY, headers=THEIRS))
            answer = ask(relay, case, origin)
            assert answer.status_code == case.status, (case, answer.text)
            check(answer.headers, origin, allowed, (case, origin))
            if origin is not None or case.method == "GET":
                assert answer.headers.get_list("vary").count("Origin") == 1, (case, origin)


def test_a_relay_that_reaches_nobody_says_so_to_pages(start_relay: StartRelay) -> None:
    relay = start_relay(
        upstream_url="http://127.0.0.1:9/v1", api_keys=[KEY], cors_origins=[PAGE], retries=0
    )
    for path in (CHAT, EMBEDDINGS, MESSAGES):
        for origin in ORIGINS:
            answer = ask(relay, Case(502, path=path), origin)
            assert answer.status_code == 502
            check(answer.headers, origin, (PAGE,), (path, origin))


def test_a_late_upstream_is_told_to_pages(start_relay: StartRelay, silent_listener: str) -> None:
    relay = start_relay(
        upstream_url=f"http://{silent_listener}/v1",
        api_keys=[KEY],
        cors_origins=[PAGE],
        timeouts={"first_byte_s": 0.05},
    )
    for path in (CHAT, EMBEDDINGS, MESSAGES):
        answer = ask(relay, Case(504, path=path), PAGE)
        assert answer.status_code == 504
        check(answer.headers, PAGE, (PAGE,), path)


@pytest.mark.parametrize("allowed", [(PAGE,), (PAGE, NULL)], ids=["page", "page and null"])
@pytest.mark.parametrize(
    ("status", "request_line", "rest"),
    [
        (400, "POST /v1/chat/completions HTTP/1.1", "bad header\r\n\r\n"),
        (400, "POST /v1/chat/completions HTTP/1.1", "content-length: x\r\n\r\n"),
        (400, "POST /v1/chat/completions HTTP/1.1", "transfer-encoding: chunked\r\n\r\nzz\r\n"),
        (400, "CONNECT a:1 HTTP/1.1", "\r\n"),
        (431, "GET / HTTP/1.1", f"x: {'y' * 70_000}\r\n\r\n"),
        (431, "GET / HTTP/1.1", "x: y\r\n" * 201 + "\r\n"),
    ],
)
def test_what_is_no_request_is_answered_for_pages_too(
    start_relay: StartRelay,
    allowed: tuple[str, ...],
    status: int,
    request_line: str,
    rest: str,
) -> None:
    relay = start_relay(local="echo", api_keys=[KEY], cors_origins=allowed)
    for origin in ORIGINS:
        line = "" if origin is None else f"origin: {origin}\r\n"
        head = f"{request_line}\r\nhost: x\r\n{line}authorization: Bearer {KEY}\r\n"
        answered, headers = raw(relay, f"{head}content-type: application/json\r\n{rest}")
        assert answered == status
        check(headers, origin, allowed, origin)
        if origin is not None:
            assert headers["vary"] == "Origin"


def raw(relay: RunningRelay, request: str) -> tuple[int, httpx.Headers]:
    address = httpx.URL(relay.root)
    with socket.create_connection((address.host, address.port or 0), timeout=20) as wire:
        wire.sendall(request.encode())
        with wire.makefile("rb") as answer:
            status = int(answer.readline().split()[1])
            lines = iter(answer.readline, b"\r\n")
            pairs = [line.decode().rstrip().split(": ", 1) for line in lines]
    return status, httpx.Headers([(name, value) for name, value in pairs])


def test_a_key_narrows_the_list_of_the_relay(start_relay: StartRelay) -> None:
    relay = start_relay(
        local="echo",
        keys=[{"name": "framed", "sha256": _sha256(FRAMED), "origins": [FRAMES]}],
        cors_origins=[PAGE, FRAMES],
    )
    seen = {}
    for origin in (*ORIGINS, FRAMES):
        answer = ask(relay, Case(200, key=FRAMED), origin)
        seen[origin] = answer.status_code
        check(answer.headers, origin, (PAGE, FRAMES), origin)
        if answer.status_code != 200:
            assert answer.json()["error"]["code"] == "origin_not_allowed"
    assert seen == {None: 403, PAGE: 403, STRANGER: 403, NULL: 403, FRAMES: 200}


def preflight(relay: RunningRelay, **headers: str) -> httpx.Headers:
    asked = {"origin": PAGE, "access-control-request-method": "POST", **headers}
    answer = relay.http.options(CHAT, headers=asked)
    assert answer.status_code == 204
    return answer.headers


def test_a_private_network_is_opened_by_its_operator_only(start_relay: StartRelay) -> None:
    asked = {"access-control-request-private-network": "true"}
    allow = "access-control-allow-private-network"
    closed = start_relay(local="echo", cors_origins=[PAGE])
    opened = start_relay(local="echo", cors_origins=[PAGE], cors_private_network=True)
    assert allow not in preflight(closed, **asked)
    assert allow not in preflight(opened)
    assert preflight(opened, **asked)[allow] == "true"
    varies = ", ".join(preflight(opened, **asked).get_list("vary")).lower()
    for name in ("origin", "access-control-request-headers", *asked):
        assert name in varies
    stranger = opened.http.options(
        CHAT, headers={"origin": STRANGER, "access-control-request-method": "POST", **asked}
    )
    assert stranger.status_code == 403
    assert allow not in stranger.headers


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
