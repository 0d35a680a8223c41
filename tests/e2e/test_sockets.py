"""WebSockets at a whole relay: whose they are, what they may, what is noted, how they end."""

import hashlib
import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import ledger_file
import limited
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay, process
from sockets import EVENTS, answer, ask, close_code, dial, masked, raw, stalling, told
from waiting import until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from relay.web.sockets import protocol

KEY = "rk-socket-canary-0123456789"
ADMIN = {"authorization": "Bearer ak-socket-0123456789"}
PAGE = "https://page.example"


def with_key(key: str = KEY, **more: Any) -> dict[str, Any]:
    return {"subprotocols": ["relay", f"key.{key}"], **more}


def first_frame(relay: RunningRelay, key: str, **more: Any) -> dict[str, Any]:
    """What a key in the first frame comes to, with one question behind it."""
    with dial(relay, **more) as socket:
        socket.send(json.dumps({"key": key}))
        ask(socket, "a")
        return answer(socket)[-1]


def test_the_key_comes_in_three_places_and_may_be_a_browsers_token(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", api_keys=[KEY])
    bearer = {"authorization": f"Bearer {KEY}"}
    made = relay.http.post("/v1/client_secrets", json={"max_requests": 2}, headers=bearer).json()
    with dial(relay, additional_headers=bearer) as socket:
        ask(socket, "a")
        assert answer(socket)[-1]["type"] == "done"
    with dial(relay, **with_key(made["value"])) as socket:
        assert socket.subprotocol == "relay"
        ask(socket, "a")
        assert answer(socket)[-1]["type"] == "done"
    assert first_frame(relay, KEY)["type"] == "done"
    assert first_frame(relay, made["value"])["type"] == "done"
    used_up = first_frame(relay, made["value"])
    assert (used_up["status"], used_up["error"]["code"]) == (429, "insufficient_quota")


def test_two_keys_in_a_handshake_are_refused(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", api_keys=[KEY])
    for more in (
        with_key(additional_headers={"authorization": f"Bearer {KEY}"}),
        {"subprotocols": [f"key.{KEY}", f"key.{KEY}"]},
    ):
        with pytest.raises(InvalidStatus) as refused, dial(relay, **more):
            pass
        assert refused.value.response.status_code == 401


def test_a_keys_own_origins_hold_wherever_the_key_comes(start_relay: StartRelay) -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    own = {"name": "page", "sha256": digest, "origins": [PAGE]}
    relay = start_relay(local="echo", keys=[own], cors_origins=[PAGE, "https://other.example"])
    assert first_frame(relay, KEY, origin=PAGE)["type"] == "done"
    with dial(relay, origin="https://other.example") as socket:
        socket.send(json.dumps({"key": KEY}))
        refused = told(socket)
        assert (refused["status"], refused["error"]["code"]) == (403, "origin_not_allowed")
        assert close_code(socket) == 1008
    with (
        pytest.raises(InvalidStatus) as handshake,
        dial(relay, **with_key(origin="https://other.example")),
    ):
        pass
    assert handshake.value.response.status_code == 403


def test_a_keys_networks_are_held_against_what_trusted_proxies_tell(
    start_relay: StartRelay,
) -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    own = {"name": "office", "sha256": digest, "networks": ["203.0.113.0/24"]}
    there = {"x-forwarded-for": "203.0.113.9"}
    for trusted, allowed in (("127.0.0.0/8,10.0.0.0/8", True), ("10.0.0.0/8", False), ("", False)):
        relay = start_relay(local="echo", keys=[own], trusted_proxies=trusted)
        with dial(relay, additional_headers=there) as socket:
            socket.send(json.dumps({"key": KEY}))
            if allowed:
                ask(socket, "a")
                assert answer(socket)[-1]["type"] == "done"
            else:  # asking would be too late: it is being closed
                assert told(socket)["error"]["code"] == "address_not_allowed"
        relay.http.headers.update({**there, "authorization": f"Bearer {KEY}"})
        assert relay.ask().status_code == (200 if allowed else 403)


def test_a_key_that_is_revoked_asks_nothing_more(start_relay: StartRelay, tmp_path: Path) -> None:
    relay = start_relay(
        local="echo", admin_key="ak-socket-0123456789", database_url=f"sqlite:///{tmp_path}/k.db"
    )
    key = relay.http.post("/admin/keys", json={"name": "one"}, headers=ADMIN).json()
    with dial(relay, **with_key(key["key"])) as socket:
        ask(socket, "a")
        assert answer(socket)[-1]["type"] == "done"
        relay.http.delete(f"/admin/keys/{key['id']}", headers=ADMIN).raise_for_status()
        ask(socket, "b")
        refused = told(socket)
        assert (refused["id"], refused["error"]["code"]) == ("b", "invalid_api_key")
        assert close_code(socket) == 1008


def test_limits_are_those_of_http_and_come_back(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path
) -> None:
    keys = {"rk-few": {"rpm": 2}, "rk-one": {"parallel": 1}, "rk-poor": {"budget_nano": 10}}
    journal = tmp_path / "journal"
    settings = limited.settings_of(keys)
    relay = start_relay(upstream_url=upstream.url, budget_journal=journal, **settings)
    with dial(relay, **with_key("rk-few")) as socket:
        for id_, kind in (("a", "done"), ("b", "done"), ("c", "error")):
            ask(socket, id_)
            last = answer(socket)[-1]
            assert last["type"] == kind
        assert (last["status"], last["error"]["code"]) == (429, "rate_limit_exceeded")
        assert last["retry_after_s"] > 0
    with dial(relay, **with_key("rk-poor")) as socket:
        ask(socket, "a")
        answer(socket)  # costs more than there is
        ask(socket, "b")
        assert answer(socket)[-1]["error"]["code"] == "insufficient_quota"
    bearer = {"authorization": "Bearer rk-one"}
    for stop in (True, False):
        upstream.answer(stalling("a"), times=1)
        with dial(relay, **with_key("rk-one")) as socket:
            ask(socket, "runs")
            assert told(socket)["id"] == "runs"
            ask(socket, "waits")
            assert answer(socket)[-1]["status"] == 429
            relay.http.headers.update(bearer)
            assert relay.ask().status_code == 429
            if stop:
                socket.send('{"type": "stop", "id": "runs"}')
                assert answer(socket)[-1]["type"] == "done"
                ask(socket, "next")
                assert answer(socket)[-1]["type"] == "done"
    until(lambda: relay.relay._now.users.count == 0)  # leaving gives the place back, too
    assert relay.ask().status_code == 200


def test_each_answer_has_one_row_however_it_ended(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path
) -> None:
    ledger = tmp_path / "relay.db"
    relay = start_relay(
        upstream_url=upstream.url, api_keys=[KEY], database_url=ledger_file.url(ledger)
    )
    with dial(relay, **with_key()) as socket:
        ask(socket, "whole")
        answer(socket)
        upstream.answer(Script(status=500, body=b"{}"), times=1)
        ask(socket, "fails")
        answer(socket)
        ask(socket, "at once")
        socket.send('{"type": "stop", "id": "at once"}')
        answer(socket)
        upstream.answer(stalling("a" * 40), times=2)
        ask(socket, "stopped")
        told(socket), told(socket)
        socket.send('{"type": "stop", "id": "stopped"}')
        told(socket)
        ask(socket, "left")
        told(socket), told(socket)
        socket.send('{"type": "chat", "id": "wrong", "request": {}}')  # asks nothing
        told(socket)
    until(lambda: relay.relay._now.users.count == 0)
    rows = ledger_file.rows_of(relay, ledger)
    assert [row.status for row in rows[:2]] == [200, 500]
    assert [row.status for row in rows[2:]] in ([499] * 3, [200, 499, 499])
    assert {(row.path, row.model_asked, row.stream) for row in rows[-2:]} == {("/ws", "m", True)}
    assert all(row.error == "client_left" for row in rows[-2:])
    assert len({row.request_id for row in rows}) == 5


def test_more_frames_than_are_allowed_close_the_socket(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", websocket={"frames_per_s": 3})
    with dial(relay) as socket:
        for _ in range(8):
            socket.send('{"type": "stop"}')
        assert told(socket)["error"]["code"] == "rate_limit_exceeded"
        assert close_code(socket) == 1008


def test_a_key_has_no_more_sockets_than_are_allowed(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", api_keys=[KEY, "rk-other"], websocket={"max_open": 1})
    with dial(relay, **with_key()) as first:
        for more in (with_key(), {}):
            with dial(relay, **more) as second:
                if not more:
                    second.send(json.dumps({"key": KEY}))
                assert told(second)["error"]["code"] == "rate_limit_exceeded"
                assert close_code(second) == 1013
        with dial(relay, **with_key("rk-other")) as other:
            ask(other, "a")
            assert answer(other)[-1]["type"] == "done"
        ask(first, "a")
        assert answer(first)[-1]["type"] == "done"
    until(lambda: len(relay.relay.crowd) == 0)
    with dial(relay, **with_key()) as third:
        ask(third, "a")
        assert answer(third)[-1]["type"] == "done"


def test_sockets_that_have_not_sent_their_key_are_few_and_leave_at_once(
    tmp_path: Path, start_relay: StartRelay
) -> None:
    relay = start_relay(local="echo", api_keys=[KEY], websocket={"max_open": 1})
    with dial(relay) as first:
        until(lambda: len(relay.relay.crowd) == 1)
        with dial(relay) as second:
            assert close_code(second) == 1013
        first.send(json.dumps({"key": KEY}))
        ask(first, "a")
        assert answer(first)[-1]["type"] == "done"
    settings = {"local": "echo", "api_keys": KEY, "shutdown_grace_s": 15}
    with process(tmp_path, **settings) as (stopping, root):
        with connect(root.replace("http", "ws") + "/ws", proxy=None) as waiting:
            stopping.terminate()
            assert close_code(waiting) == 1001
        assert stopping.wait(timeout=20) == 0


def test_a_frame_that_is_too_large_closes_the_socket(start_relay: StartRelay) -> None:
    relay = start_relay(local="echo", websocket={"max_frame_bytes": 5000})
    with dial(relay) as socket:
        ask(socket, "a", "x" * 4000)
        assert answer(socket)[-1]["type"] == "done"
        ask(socket, "b", "x" * 6000)
        assert close_code(socket) == 1009
    with dial(relay) as socket:
        with suppress(ConnectionClosed):  # which may happen before the second one is out
            socket.send(iter(["x" * 3000, "x" * 3000]))  # in fragments
        assert close_code(socket) == 1009


def test_who_does_not_answer_pings_is_closed(
    start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "PONG_WAIT_S", 0.1)
    relay = start_relay(local="echo", websocket={"ping_s": 0.05})
    with raw(relay) as silent:
        heard = b""
        while piece := silent.recv(65536):
            heard += piece
    assert heard[:2] == b"\x89\x04"
    assert struct.pack("!H", 1011) in heard


def test_a_slow_reader_slows_its_own_upstream_and_is_cut_and_holds_up_nobody(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = start_relay(upstream_url=upstream.url, write_timeout_s=0.5)
    pieces = transcripts.chat_stream(["x" * 30_000] * 2000)
    upstream.answer(Script(pieces=pieces, headers=EVENTS), times=1)
    with raw(relay) as slow:
        slow.sendall(
            masked(
                '{"type":"chat","id":"a","request":{"model":"m","messages":'
                '[{"role":"user","content":"x"}]}}'
            )
        )
        upstream.wait_for(lambda: upstream.requests)
        for _ in range(1000):  # answers to these would pile up, too
            slow.sendall(masked("hello", opcode=9))
        with dial(relay) as quick:
            ask(quick, "b")
            assert answer(quick)[-1]["type"] == "done"
        upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
    assert upstream.requests[0].pieces_sent < 1000  # 30 MB, most of it in the system's own buffers
    until(lambda: len(relay.relay.crowd) == 0)


def test_a_shutdown_lets_answers_finish_and_closes_the_others(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    gate = Gate()
    pieces = transcripts.chat_stream(["a", "b"])
    upstream.answer(Script(pieces=pieces, piece_gates={2: gate}, headers=EVENTS))
    with process(tmp_path, upstream_url=upstream.url, shutdown_grace_s=15) as (relay, root):
        address = root.replace("http", "ws") + "/ws"
        with connect(address, proxy=None) as idle, connect(address, proxy=None) as busy:
            ask(busy, "a")
            assert told(busy)["id"] == "a"
            relay.terminate()
            assert close_code(idle) == 1001
            ask(busy, "b")
            frames = answer(busy)
            late = next(frame for frame in frames if frame["type"] == "error")
            assert (late["id"], late["status"]) == ("b", 503)
            gate.open()
            assert answer(busy)[-1] == {"type": "done", "id": "a"}
            assert close_code(busy) == 1001
        output, _ = relay.communicate(timeout=20)
        assert relay.returncode == 0, output
        assert "Traceback" not in output


def test_an_answer_that_does_not_finish_before_the_shutdown_is_told_so(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    ledger = tmp_path / "relay.db"
    upstream.answer(stalling("a"))
    settings = {"shutdown_grace_s": 0.1, "database_url": ledger_file.url(ledger), "api_keys": KEY}
    with process(tmp_path, upstream_url=upstream.url, **settings) as (relay, root):
        address = root.replace("http", "ws") + "/ws"
        with connect(address, proxy=None, **with_key()) as socket:
            ask(socket, "a")
            assert told(socket)["type"] == "chunk"
            relay.terminate()
            ended = answer(socket)[-1]
            assert (ended["id"], ended["status"]) == ("a", 503)
            assert "shutting down" in ended["error"]["message"]
            assert close_code(socket) == 1001
        output, _ = relay.communicate(timeout=20)
        assert relay.returncode == 0, output
        assert "Traceback" not in output
    [row] = ledger_file.rows(ledger)
    assert (row.status, row.error) == (503, "overloaded")
