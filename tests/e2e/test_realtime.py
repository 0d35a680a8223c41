"""Realtime sessions: sockets that are passed on to an upstream, with the hidden key."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import ledger_file
import limited
import pytest
from fake_realtime import FakeRealtime
from running import UPSTREAM_KEY, RunningRelay, StartRelay, process
from sockets import close_code, dial, told
from waiting import until
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from relay.web.sockets import tunnel

KEY = "rk-realtime-canary-0123456789"
BEARER = {"additional_headers": {"authorization": f"Bearer {KEY}"}}
ADMIN = {"authorization": "Bearer ak-realtime-0123456789"}
HERE = "/v1/realtime?model=gpt-realtime&x=%2F+a"

Start = Any


@pytest.fixture
def realtime() -> Iterator[FakeRealtime]:
    with FakeRealtime() as fake:
        yield fake


@pytest.fixture
def start(start_relay: StartRelay, realtime: FakeRealtime) -> Start:
    """A relay in front of it, with a key."""

    def start(**settings: Any) -> RunningRelay:
        usual = {"upstream_api_key": UPSTREAM_KEY, "api_keys": [KEY], "retries": 0}
        if "upstreams" not in settings:
            usual["upstream_url"] = realtime.url
        else:
            del usual["upstream_api_key"]
        return start_relay(**{**usual, **settings})

    return start


@contextmanager
def opened(relay: RunningRelay, path: str = HERE, **more: Any) -> Iterator[ClientConnection]:
    with dial(relay, path, **(more or BEARER)) as session:
        assert told(session) == {"type": "session.created"}
        yield session


def done(**usage: Any) -> dict[str, Any]:
    return {"type": "response.done", "response": {"usage": usage}}


def respond(session: ClientConnection, *events: Any) -> None:
    """Have the upstream say these, and hear them."""
    session.send(json.dumps({"say": events}))
    for event in events:
        assert told(session) == event


CREATED = {"type": "response.created"}


def test_messages_pass_both_ways_with_the_hidden_key_and_the_very_query(
    start: Start, realtime: FakeRealtime
) -> None:
    extra = {"openai-beta": "realtime=v1", "cookie": "secret=1", "x-forwarded-for": "1.2.3.4"}
    headers = {"authorization": f"Bearer {KEY}", **extra}
    with opened(start(), additional_headers=headers, origin="http://localhost:3000") as session:
        for message in ("h\u00e9llo \u2028", b"\x00\xff" * 40_000, "", b""):
            session.send(message)
            assert session.recv(timeout=20) == message
    [handshake] = realtime.handshakes
    assert handshake.path == "/v1/realtime?model=gpt-realtime&x=%2F+a"
    assert handshake.headers.get_all("authorization") == [f"Bearer {UPSTREAM_KEY}"]
    assert handshake.headers["openai-beta"] == "realtime=v1"
    for name in ("cookie", "origin", "x-forwarded-for", "sec-websocket-extensions"):
        assert name not in handshake.headers
    assert KEY not in str(handshake.headers)


def test_a_browsers_key_and_subprotocols(start: Start, realtime: FakeRealtime) -> None:
    relay = start()
    given = ["realtime", f"openai-insecure-api-key.{KEY}", "openai-beta.realtime-v1"]
    with opened(relay, subprotocols=given) as session:
        assert session.subprotocol == "realtime"
    offered = realtime.handshakes[0].headers["sec-websocket-protocol"]
    assert offered.replace(" ", "") == "realtime,openai-beta.realtime-v1"
    with opened(relay, subprotocols=["relay", f"key.{KEY}"]) as session:
        assert session.subprotocol == "relay"
    assert "sec-websocket-protocol" not in realtime.handshakes[1].headers


@pytest.mark.parametrize(
    ("path", "more", "status", "code"),
    [
        (HERE, {}, 401, "invalid_api_key"),
        (HERE, {"subprotocols": ["openai-insecure-api-key.no"]}, 401, "invalid_api_key"),
        (HERE, {**BEARER, "origin": "https://evil.example"}, 403, "origin_not_allowed"),
        ("/v1/other", BEARER, 404, "not_found"),
        ("/v1/rt/../realtime", BEARER, 404, "not_found"),
        ("/v1/rt/%2e%2e/x", BEARER, 404, "not_found"),
        ("/%76%31/rt/x", BEARER, 404, "not_found"),
        ("/v1/realtime?model=a&mod%65l=b", BEARER, 400, None),
    ],
)
def test_what_may_not_pass_is_refused_before_anything_is_asked(
    start: Start,
    realtime: FakeRealtime,
    path: str,
    more: dict[str, Any],
    status: int,
    code: str | None,
) -> None:
    relay = start(websocket={"passthrough": "/v1/realtime,/v1/rt/*"})
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(relay.root.replace("http", "ws") + path, proxy=None, **more),
    ):
        pass
    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body or b"")["error"]["code"] == code
    assert not realtime.handshakes


def test_other_paths_pass_when_they_are_named(start: Start, realtime: FakeRealtime) -> None:
    with opened(start(websocket={"passthrough": ["/v1/audio/*"]}), "/v1/audio/live"):
        assert realtime.handshakes[0].path == "/v1/audio/live"


def test_codes_of_closes_pass_both_ways(start: Start, realtime: FakeRealtime) -> None:
    relay = start()
    for asked, code in (([4321, "why"], 4321), ([1000, ""], 1000)):
        with opened(relay) as session:
            session.send(json.dumps({"close": asked}))
            with pytest.raises(ConnectionClosed) as closed:
                session.recv(timeout=20)
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, asked[1])
    with opened(relay) as session:
        session.send("drop")
        assert close_code(session) == 1014
    realtime.wait_for(lambda: len(realtime.closes) == 3)
    realtime.closes.clear()
    with opened(relay) as session:
        session.close(4000, "enough")
    with opened(relay) as session:
        session.socket.shutdown(2)
    realtime.wait_for(lambda: len(realtime.closes) == 2)
    assert sorted(realtime.closes) == [(1001, "the client left"), (4000, "enough")]


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        ((400, b'{"error": {"code": "theirs"}}'), 400, "theirs"),
        ((429, b'{"error": {"code": "slow"}}', ("retry-after", "7")), 429, "slow"),
        ((401, b"{}"), 502, "upstream_auth"),
        ((302, b"", ("location", "ws://127.0.0.1:9/")), 502, "upstream_protocol"),
        ((200, b"hello"), 502, "upstream_protocol"),
    ],
)
def test_a_refused_handshake_is_refused_as_a_call_would_be(
    start: Start, realtime: FakeRealtime, refusal: Any, status: int, code: str
) -> None:
    relay = start()
    realtime.refuse(*refusal)
    with pytest.raises(InvalidStatus) as refused, dial(relay, HERE, **BEARER):
        pass
    answer = refused.value.response
    assert answer.status_code == status
    assert json.loads(answer.body or b"")["error"]["code"] == code
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)
    with opened(relay):
        pass


def test_nobody_there_is_told_as_of_calls(start_relay: StartRelay, silent_listener: str) -> None:
    silent = {"name": "silent", "base_url": f"http://{silent_listener}/v1"}
    limits = {"connect_s": 0.1, "first_byte_s": 0.1}
    for upstream, status, code in (
        ({"name": "away", "base_url": "http://127.0.0.1:9/v1"}, 502, "upstream_unreachable"),
        ({"name": "tls", "base_url": "https://127.0.0.1:9/v1"}, 502, "upstream_unreachable"),
        ({**silent, "timeouts": limits}, 504, "upstream_timeout"),
        ({**silent, "kind": "anthropic"}, 503, "no_upstream_available"),
    ):
        relay = start_relay(upstreams=[upstream], retries=0)
        with pytest.raises(InvalidStatus) as refused, dial(relay, HERE):
            pass
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body or b"")["error"]["code"] == code
    relay = start_relay(local="echo")
    with pytest.raises(InvalidStatus) as refused, dial(relay, HERE):
        pass
    assert refused.value.response.status_code == 503


def test_a_model_has_its_target_name_and_fallback_and_keys(
    start: Start, realtime: FakeRealtime
) -> None:
    with FakeRealtime() as backup:
        relay = start(
            upstreams=[
                {"name": "a", "base_url": realtime.url, "api_keys": ["sk-1", "sk-2"]},
                {"name": "b", "base_url": backup.url, "headers": {"x-own": "1"}},
            ],
            models=[
                {
                    "id": "voice",
                    "targets": [{"upstream": "a", "model": "gpt realtime"}],
                    "fallback": [{"upstream": "b"}],
                }
            ],
        )
        realtime.refuse(401, b"{}")
        with opened(relay, "/v1/realtime?x=1&model=voice&y"):
            first, second = realtime.handshakes
            assert first.headers["authorization"] != second.headers["authorization"]
            assert second.path == "/v1/realtime?x=1&model=gpt%20realtime&y"
        realtime.refuse(500, b"{}")
        with opened(relay, "/v1/realtime?model=voice"):
            assert backup.handshakes[0].path == "/v1/realtime?model=voice"
            assert backup.handshakes[0].headers["x-own"] == "1"
        with (
            pytest.raises(InvalidStatus) as refused,
            dial(relay, "/v1/realtime?model=other", **BEARER),
        ):
            pass
        assert refused.value.response.status_code == 404


def test_each_response_has_its_row_with_its_tokens(
    start: Start, realtime: FakeRealtime, tmp_path: Path
) -> None:
    ledger = tmp_path / "relay.db"
    relay = start(
        database_url=ledger_file.url(ledger),
        prices=[{"model": "*", "prompt_usd": 1, "completion_usd": 2}],
    )
    with opened(relay) as session:
        details = {"cached_tokens": 3, "audio_tokens": 5, "text_tokens": 5}
        respond(
            session, CREATED, done(input_tokens=10, output_tokens=4, input_token_details=details)
        )
        respond(session, CREATED, done(input_tokens=1, output_tokens=2))
        session.send("response.done, but no event")
        session.recv(timeout=20)
        session.send('["response.done"]')
        session.recv(timeout=20)
    with opened(relay):
        pass
    with opened(relay) as session:
        respond(session, CREATED)
    realtime.refuse(500, b"{}")
    with pytest.raises(InvalidStatus), dial(relay, HERE, **BEARER):
        pass
    until(lambda: len(relay.relay.crowd) == 0)
    rows = ledger_file.rows_of(relay, ledger)
    assert [(row.status, row.prompt_tokens, row.completion_tokens) for row in rows] == [
        (200, 10, 4),
        (200, 1, 2),
        (200, 0, 0),
        (499, None, None),
        (500, 0, 0),
    ]
    assert (rows[0].cached_tokens, rows[0].cost_nano) == (3, 18_000)
    assert {(row.path, row.model_asked) for row in rows} == {("/v1/realtime", "gpt-realtime")}
    assert len({row.request_id for row in rows}) == len(rows)


def test_limits_and_budgets_hold_while_a_session_lasts(
    start: Start, realtime: FakeRealtime, tmp_path: Path
) -> None:
    keys = {"rk-one": {"parallel": 1}, "rk-few": {"rpm": 2}, "rk-poor": {"budget_nano": 399_000}}
    relay = start(
        **{**limited.settings_of(keys), "budget_journal": tmp_path / "journal", "api_keys": []}
    )

    def bearer(key: str) -> dict[str, Any]:
        return {"additional_headers": {"authorization": f"Bearer {key}"}}

    with opened(relay, **bearer("rk-one")) as session:
        respond(session, CREATED, done(input_tokens=1, output_tokens=1))
        with pytest.raises(InvalidStatus) as refused, dial(relay, HERE, **bearer("rk-one")):
            pass
        assert refused.value.response.status_code == 429
    until(lambda: len(relay.relay.crowd) == 0)
    with opened(relay, **bearer("rk-one")):
        pass
    for key, code in (("rk-few", "rate_limit_exceeded"), ("rk-poor", "insufficient_quota")):
        with opened(relay, **bearer(key)) as session:
            for _ in range(2):
                respond(session, CREATED, done(input_tokens=1, output_tokens=1000))
            event = told(session)
            assert (event["type"], event["error"]["code"]) == ("error", code)
            assert close_code(session) == 1008


def test_a_revoked_key_ends_its_session(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "LOOK_AGAIN_S", 0.0)
    relay = start(admin_key="ak-realtime-0123456789", database_url=f"sqlite:///{tmp_path}/k.db")
    made = relay.http.post("/admin/keys", json={"name": "a"}, headers=ADMIN).json()
    with opened(relay, subprotocols=[f"openai-insecure-api-key.{made['key']}"]) as session:
        session.send("before")
        assert session.recv(timeout=20) == "before"
        relay.http.delete(f"/admin/keys/{made['id']}", headers=ADMIN).raise_for_status()
        session.send("after")
        assert told(session)["error"]["code"] == "invalid_api_key"
        assert close_code(session) == 1008


def test_a_key_has_no_more_sessions_than_sockets_and_faster_clients_wait(start: Start) -> None:
    relay = start(websocket={"max_open": 1, "frames_per_s": 20})
    with opened(relay) as session:
        with pytest.raises(InvalidStatus) as refused, dial(relay, HERE, **BEARER):
            pass
        assert refused.value.response.status_code == 429
        for number in range(25):  # five of them wait for their turn, none is lost
            session.send(str(number))
        assert [session.recv(timeout=20) for _ in range(25)] == [str(n) for n in range(25)]


def test_a_client_that_leaves_before_the_upstream_has_answered(
    start_relay: StartRelay, silent_listener: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "relay.db"
    relay = start_relay(
        upstream_url=f"http://{silent_listener}/v1", database_url=ledger_file.url(ledger)
    )
    with (
        pytest.raises((TimeoutError, InvalidHandshake, OSError)),
        dial(relay, HERE, open_timeout=0.3),
    ):
        pass
    until(lambda: len(relay.relay.crowd) == 0)
    assert relay.relay._now.users.count == 0
    [row] = ledger_file.rows_of(relay, ledger)
    assert (row.status, row.error) == (499, "client_left")


def test_a_shutdown_does_not_wait_for_upstreams_that_do_not_answer(
    tmp_path: Path, silent_listener: str
) -> None:
    url = f"http://{silent_listener}/v1"
    with process(tmp_path, upstream_url=url, shutdown_grace_s=15) as (relay, root):
        client = httpx.URL(root)
        with socket.create_connection((client.host, client.port or 0), timeout=20) as opening:
            opening.sendall(
                b"GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n"
                b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
                b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            until(lambda: httpx.get(f"{root}/healthz", trust_env=False).is_success)
            relay.terminate()
            assert opening.recv(65536).startswith((b"HTTP/1.1 503", b"HTTP/1.1 500"))
        assert relay.wait(timeout=20) == 0


def test_a_shutdown_ends_sessions_as_soon_as_no_response_runs(
    realtime: FakeRealtime, tmp_path: Path
) -> None:
    with process(tmp_path, upstream_url=realtime.url, shutdown_grace_s=15) as (relay, root):
        address = root.replace("http", "ws") + HERE
        with connect(address, proxy=None) as idle, connect(address, proxy=None) as busy:
            assert told(idle) == told(busy)
            respond(busy, CREATED)
            relay.terminate()
            assert close_code(idle) == 1001
            respond(busy, done(input_tokens=1, output_tokens=1))
            assert close_code(busy) == 1001
        output, _ = relay.communicate(timeout=20)
        assert relay.returncode == 0, output
        assert "Traceback" not in output
    assert {code for code, _ in realtime.closes} == {1001}


def test_a_session_that_goes_on_is_ended_when_the_shutdowns_time_is_over(
    realtime: FakeRealtime, tmp_path: Path
) -> None:
    with process(tmp_path, upstream_url=realtime.url, shutdown_grace_s=0.1) as (relay, root):
        with connect(root.replace("http", "ws") + HERE, proxy=None) as busy:
            assert told(busy)
            respond(busy, CREATED)
            relay.terminate()
            assert close_code(busy) == 1001
        assert relay.wait(timeout=20) == 0
