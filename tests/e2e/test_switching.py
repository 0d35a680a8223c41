"""The network goes away and comes back, between a relay in `auto` and its upstream."""

import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from network import Network
from running import RunningRelay, StartRelay, chat
from waiting import until

STREAM = [(b"content-type", b"text/event-stream")]
OFFLINE = {"probe_s": 0.2, "return_after_s": 0.3}
CONNECT_S = 5.0
"""The shortest time limit of a call: the first local answer comes before any of them runs out."""


@pytest.fixture
def network(upstream: FakeUpstream) -> Iterator[Network]:
    with Network.in_thread(upstream.port) as network:
        yield network


@pytest.fixture
def relay(start_relay: StartRelay, network: Network) -> RunningRelay:
    return start_relay(upstream_url=network.url, local="echo", offline=OFFLINE)


def serving(relay: RunningRelay) -> str:
    return str(relay.http.get("/readyz").json()["serving"])


def until_serving(relay: RunningRelay, side: str) -> None:
    until(lambda: serving(relay) == side)


def answered_by(relay: RunningRelay, *, stream: bool = False) -> str:
    """Ask something, which must be answered, and say by whom."""
    answer = relay.ask(stream=stream)
    assert answer.status_code == 200, answer.text
    assert "one two three" in answer.text or stream
    assert not stream or answer.text.endswith("data: [DONE]\n\n")
    return answer.headers["x-relay-upstream"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["drop", "refuse"])
def test_calls_go_to_the_local_model_while_the_network_is_away(
    relay: RunningRelay, network: Network, fault: str, stream: bool
) -> None:
    assert answered_by(relay, stream=stream) == "upstream"
    getattr(network, fault)()
    began = time.monotonic()
    assert answered_by(relay, stream=stream) == "local"
    assert time.monotonic() - began < CONNECT_S
    assert answered_by(relay, stream=stream) == "local"
    network.restore()
    until_serving(relay, "remote")
    assert answered_by(relay, stream=stream) == "upstream"


def test_a_connection_that_the_network_forgot_is_not_used_when_it_is_back(
    relay: RunningRelay, network: Network, upstream: FakeUpstream
) -> None:
    gate = Gate()
    pieces = transcripts.chat_stream(["a"])
    upstream.answer(Script(pieces=pieces, piece_gates={1: gate}, headers=STREAM), times=1)
    with relay.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as other:
        assert answered_by(relay) == "upstream"
        gate.open()
        other.read()
    network.drop()  # two connections are kept
    assert answered_by(relay) == "local"  # which has closed the one that it tried
    network.restore(forgetful=True)
    until_serving(relay, "remote")
    assert answered_by(relay) == "upstream"
    answer = relay.ask()
    assert (answer.headers["x-relay-upstream"], answer.headers["x-relay-attempts"]) == (
        "upstream",
        "1",
    )


@pytest.mark.parametrize("fault", ["drop", "refuse"])
def test_a_breaker_that_the_network_opened_does_not_outlast_it(
    start_relay: StartRelay, network: Network, fault: str
) -> None:
    relay = start_relay(
        upstreams=[
            {
                "name": "upstream",
                "base_url": network.url,
                "breaker": {"failures": 1, "open_s": 600},
            }
        ],
        models=[{"id": "m", "targets": [{"upstream": "upstream"}], "fallback": [{"local": True}]}],
        local="echo",
        offline=OFFLINE,
    )
    getattr(network, fault)()
    assert answered_by(relay) == "local"
    until_serving(relay, "local")
    network.restore()
    until_serving(relay, "remote")
    assert [answered_by(relay), answered_by(relay)] == ["upstream", "upstream"]


@pytest.mark.parametrize("fault", ["drop", "refuse"])
def test_calls_that_wait_for_their_first_byte_are_answered_locally(
    relay: RunningRelay, network: Network, upstream: FakeUpstream, fault: str
) -> None:
    gate = Gate()
    upstream.answer(Script(gate=gate), times=8)
    answers: list[str] = []
    asking = [
        threading.Thread(target=lambda stream=number % 2 == 0: answers.append(ask(relay, stream)))
        for number in range(8)
    ]
    for thread in asking:
        thread.start()
    upstream.wait_for(lambda: len(upstream.requests) == 8)
    getattr(network, fault)()
    for thread in asking:
        thread.join()
    gate.open()
    assert answers == ["local"] * 8


def ask(relay: RunningRelay, stream: bool) -> str:
    return httpx.post(
        f"{relay.url}/chat/completions", json=chat(stream=stream), timeout=30, trust_env=False
    ).headers.get("x-relay-upstream", "")


def test_no_call_fails_while_the_network_comes_and_goes(
    relay: RunningRelay, network: Network
) -> None:
    stop = threading.Event()
    failures: list[str] = []

    def keep_asking(stream: bool) -> None:
        with httpx.Client(base_url=relay.root, timeout=30, trust_env=False) as http:
            while not stop.is_set():
                answer = http.post("/v1/chat/completions", json=chat(stream=stream))
                if answer.status_code != 200:
                    failures.append(answer.text)

    callers = [threading.Thread(target=keep_asking, args=(number % 2 == 0,)) for number in range(3)]
    for caller in callers:
        caller.start()
    try:
        for fault in (network.drop, network.refuse):
            fault()
            until_serving(relay, "local")
            network.restore()
            until_serving(relay, "remote")
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert failures == []


def test_a_stream_that_has_begun_is_not_cut(
    relay: RunningRelay, network: Network, upstream: FakeUpstream
) -> None:
    gate = Gate()
    pieces = transcripts.chat_stream(["a", "b"])
    upstream.answer(Script(pieces=pieces, piece_gates={2: gate}, headers=STREAM), times=1)
    with relay.http.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as answer:
        stream = answer.iter_raw()
        received = b""
        while len(received) < len(pieces[0] + pieces[1]):
            received += next(stream)
        network.drop()
        assert ask(relay, stream=True) == "local"
        network.restore()
        until_serving(relay, "remote")
        gate.open()
        received += b"".join(stream)
    assert received == b"".join(pieces)


@pytest.mark.parametrize("status", [500, 503])
def test_an_error_of_the_upstream_moves_nothing(
    relay: RunningRelay, upstream: FakeUpstream, status: int
) -> None:
    upstream.answer(Script(status=status, body=b"{}"), path="/v1/chat/completions")
    assert relay.ask().status_code == status
    assert serving(relay) == "remote"


def test_an_upstream_that_is_late_moves_nothing(
    start_relay: StartRelay, network: Network, upstream: FakeUpstream
) -> None:
    relay = start_relay(
        upstream_url=network.url, local="echo", offline=OFFLINE, timeouts={"first_byte_s": 1.2}
    )
    gate = Gate()
    upstream.answer(Script(gate=gate), times=1)
    answer = relay.ask()
    gate.open()
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    assert serving(relay) == "remote"


def test_one_upstream_within_reach_is_enough(
    start_relay: StartRelay, network: Network, upstream: FakeUpstream
) -> None:
    relay = start_relay(
        upstreams=[
            {"name": "away", "base_url": network.url},
            {"name": "near", "base_url": upstream.url},
        ],
        local="echo",
        offline=OFFLINE,
        retries=0,
    )
    network.refuse()
    answer = relay.ask()
    assert answer.json()["error"]["code"] == "upstream_unreachable"
    assert serving(relay) == "remote"


def test_a_model_names_the_local_one_that_stands_in_for_it(
    start_relay: StartRelay, network: Network
) -> None:
    relay = start_relay(
        upstream_url=network.url,
        local_models=[{"id": "small", "backend": "echo"}, {"id": "large", "backend": "echo"}],
        models=[
            {
                "id": "m",
                "targets": [{"upstream": "upstream"}],
                "fallback": [{"local": True, "model": "large"}],
            },
            {"id": "n", "targets": [{"upstream": "upstream"}]},
        ],
        local_map={"n": "small"},
        offline=OFFLINE,
    )
    network.refuse()
    moved = [relay.ask(), relay.ask(), relay.ask(model="n")]  # on its way, then at once
    assert [one.headers["x-relay-upstream"] for one in moved] == ["local"] * 3
    assert [one.json()["model"] for one in moved] == ["large", "large", "n"]


def test_a_local_model_that_nobody_chose_does_not_step_in(
    start_relay: StartRelay, network: Network
) -> None:
    relay = start_relay(upstream_url=network.url, admin_key="ak-0123456789", retries=0)
    network.refuse()
    answer = relay.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unreachable")


@pytest.mark.parametrize("mode", ["remote", "auto"])
def test_uploads_are_not_asked_again(start_relay: StartRelay, network: Network, mode: str) -> None:
    relay = start_relay(upstream_url=network.url, local="echo", mode=mode, retries=0)
    network.refuse()
    answer = relay.http.post("/v1/embeddings", content=json.dumps({"model": "m", "input": "x"}))
    assert answer.json()["error"]["code"] == "upstream_unreachable"
