"""Who comes in, and what a fault of ours looks like from outside."""

import asyncio
import socket
from typing import Any

import pytest
from fake_script import Script
from fake_upstream import FakeUpstream
from running import UPSTREAM_KEY, RunningRelay, StartRelay, chat

from relay.keys import Keyring
from relay.ledger import NO_LEDGER
from relay.prices import Prices
from relay.web.accounts import Accounts
from relay.web.door import Door
from relay.web.replies import Visit, awaited
from relay.web.users import Users

KEYS = ("rk-first-0123456789", "rk-second-0123456789")


@pytest.fixture
def guarded(start_relay: StartRelay) -> RunningRelay:
    return start_relay(local="echo", api_keys=KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_each_configured_key_opens(guarded: RunningRelay, key: str) -> None:
    for scheme in ("Bearer", "bearer"):
        headers = {"authorization": f"{scheme} {key}"}
        assert guarded.http.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer wrong")],
        [(b"authorization", b"Basic " + KEYS[0].encode())],
        [(b"authorization", KEYS[0].encode())],
        [(b"authorization", b"Bearer " + KEYS[0].encode() + b"x")],
        [(b"authorization", b"Bearer " + KEYS[0][:-1].encode())],
        [(b"authorization", b"Bearer \xff\xfe\x80")],
        [(b"authorization", "Bearer schlüssel".encode())],
        [(b"authorization", b"Bearer " + b"x" * 5000)],
        [(b"authorization", b"Bearer " + KEYS[0].encode()), (b"authorization", b"Bearer x")],
        [(b"x-api-key", KEYS[0].encode())],
        [(b"cookie", b"authorization=Bearer " + KEYS[0].encode())],
    ],
)
def test_anything_else_is_401_in_the_envelope(
    guarded: RunningRelay, headers: list[tuple[bytes, bytes]]
) -> None:
    for answer in (
        guarded.http.post("/v1/chat/completions", json=chat(), headers=headers),
        guarded.http.get("/v1/models", headers=headers),
    ):
        assert answer.status_code == 401
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
        assert KEYS[0] not in answer.text


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/docs", "/dashboard", "/static/chat.js"]
)
def test_the_page_the_probes_and_the_documentation_need_no_key(
    guarded: RunningRelay, path: str
) -> None:
    assert guarded.http.get(path).status_code == 200


def test_whether_a_key_is_needed_is_told(guarded: RunningRelay, echo: RunningRelay) -> None:
    assert guarded.http.get("/readyz").json()["needs_key"] is True
    assert echo.http.get("/readyz").json()["needs_key"] is False


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/models",
        b"//v1/models",
        b"/healthz/../v1/models",
        b"/healthz/%2e%2e/v1/models",
        b"/static/../v1/models",
        b"/static/%2e%2e/v1/models",
        b"/static/..%2fv1/models",
        b"/V1/models",
        b"/v1/models?/healthz",
        b"/v1/models#/healthz",
        b"/v1/%6dodels",
        b"/nothing",
        b"http://127.0.0.1/v1/models",
    ],
)
@pytest.mark.parametrize("host", [b"127.0.0.1", b"x/healthz?", b"evil.example", b"healthz"])
def test_no_path_or_host_gets_round_the_key(
    guarded: RunningRelay, target: bytes, host: bytes
) -> None:
    """Asserts that only an answer without models comes, whatever its status."""
    with socket.create_connection(guarded.server.servers[0].sockets[0].getsockname()) as client:
        client.sendall(
            b"GET " + target + b" HTTP/1.1\r\nhost: " + host + b"\r\nconnection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b'"object":"list"' not in answer
    assert answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 404", b"HTTP/1.1 400"))


def test_a_fault_of_ours_is_500_with_the_request_id_and_nothing_else(
    start_relay: StartRelay, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        name = "broken"

        def cards(self) -> Any:
            raise RuntimeError("a detail with sk-secret-0123456789")

        def start(self) -> None: ...
        def state(self) -> str:
            return "ready"

        async def aclose(self) -> None: ...
        async def complete(self, call: Any) -> Any:
            raise RuntimeError("a detail with sk-secret-0123456789")

        def stream(self, call: Any) -> Any:
            raise RuntimeError("a detail with sk-secret-0123456789")

    relay = start_relay(local=Broken(), cors_origins=["*"])
    for answer in (
        relay.ask(),
        relay.ask(stream=True),
        relay.http.get("/v1/models"),
    ):
        assert answer.status_code == 500
        error = answer.json()["error"]
        assert error["code"] == "internal_error"
        assert answer.headers["x-request-id"] in error["message"]
        assert "a detail" not in answer.text
    browser = relay.http.get("/v1/models", headers={"origin": "http://page.example"})
    assert browser.status_code == 500
    assert browser.headers["access-control-allow-origin"] == "*"


def test_a_canary_key_is_in_no_answer_whatever_fails(
    start_relay: StartRelay, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    relay = start_relay(
        upstream_url=upstream.url, upstream_api_key=UPSTREAM_KEY, api_keys=KEYS, retries=0
    )
    key = {"authorization": f"Bearer {KEYS[0]}"}
    scripts = [
        Script(status=401, body=UPSTREAM_KEY.encode()),
        Script(status=403, body=UPSTREAM_KEY.encode()),
        Script(status=302, headers=[(b"location", UPSTREAM_KEY.encode())]),
        Script(raw=b"HTTP/1.1 nonsense " + UPSTREAM_KEY.encode() + b"\r\n\r\n"),
        Script(raw=b"", reset_at=0),
    ]
    seen = []
    for script in scripts:
        upstream.answer(script, times=2)
        for streamed in (False, True):
            answer = relay.http.post(
                "/v1/chat/completions", json=chat(stream=streamed), headers=key
            )
            seen.append(f"{answer.status_code} {answer.headers} {answer.text}")
    everything = "\n".join([*seen, caplog.text])
    for secret in (UPSTREAM_KEY, *KEYS):
        assert secret not in everything


async def test_a_fault_while_one_call_is_closed_takes_no_other_with_it() -> None:
    closed: list[str] = []

    def observe(event: Any, /) -> None:
        closed.append(event.request_id)
        if len(closed) == 1:
            raise RuntimeError("this observer is broken")

    async def endpoint(visit: Visit) -> None:
        await awaited(visit.answer(204, [], b""))

    async def nothing(*_: Any) -> None: ...

    users = Users()
    door = Door(
        nothing,
        direct={("GET", "/here"): endpoint},
        passthrough=None,  # type: ignore[arg-type]  # no call gets there
        keyring=Keyring({}, anonymous=True),
        admin_key=None,  # type: ignore[arg-type]
        metrics_key=None,  # type: ignore[arg-type]
        accounts=Accounts(observe, NO_LEDGER, Prices()),
        users=users,
    )
    faults: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
    scopes = [
        {
            "type": "http",
            "method": "GET",
            "path": "/here",
            "headers": [(b"x-request-id", name.encode())],
        }
        for name in ("a", "b", "c")
    ]
    await asyncio.gather(*(door(scope, nothing, nothing) for scope in scopes))
    gone = loop.create_future()
    users.when_gone(lambda: gone.set_result(None))
    await gone
    assert closed == ["a", "b", "c"]
    assert [str(fault) for fault in faults] == ["this observer is broken"]
