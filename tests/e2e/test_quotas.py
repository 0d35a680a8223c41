"""Keys with limits, at a whole relay: what passes, what is refused, and what is told of it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import limited
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from limited import COST_NANO, KEY
from running import RunningRelay, StartRelay, chat
from websockets.sync.client import connect

STREAM = [(b"content-type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json")]
THEIRS = [
    (b"x-ratelimit-limit-requests", b"9999"),
    (b"x-ratelimit-remaining-tokens", b"77"),
    (b"retry-after-ms", b"5"),
]

Limited = Callable[..., RunningRelay]


@pytest.fixture
def start_limited(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path
) -> Iterator[Limited]:
    """A relay in front of the fake upstream, whose one key has these limits."""

    def start(
        *,
        team: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        **of: Any,
    ) -> RunningRelay:
        usual = {
            "budget_journal": tmp_path / "journal",
            **limited.settings_of({KEY: {"team": team, **of}, "rk-free": {}}),
            "upstream_url": upstream.url,
        }
        relay = start_relay(**{**usual, **(settings or {})})
        relay.http.headers["authorization"] = f"Bearer {KEY}"
        return relay

    return start


def statuses(relay: RunningRelay, times: int, **fields: Any) -> list[int]:
    """So many calls at once."""
    with ThreadPoolExecutor(times) as pool:
        return sorted(pool.map(lambda _: relay.ask(**fields).status_code, range(times)))


def headers_of(answer: httpx.Response) -> dict[str, str]:
    return {k: v for k, v in answer.headers.items() if "ratelimit" in k or k == "retry-after"}


async def test_22_two_hundred_at_once_against_a_budget_for_ten_are_ten(
    start_limited: Limited, upstream: FakeUpstream
) -> None:
    gate = Gate()
    upstream.answer(Script(body=transcripts.chat_body("x"), headers=JSON, gate=gate))
    relay = start_limited(budget_nano=10 * COST_NANO)

    def heard(found: Counter[int | str]) -> None:
        if found[429] == 190:
            gate.open()

    assert await limited.ask_all([relay.root], 200, heard=heard) == {429: 190, 200: 10}
    assert len([one for one in upstream.requests if one.path.endswith("completions")]) == 10
    last = relay.ask()
    assert last.status_code == 429
    error = last.json()["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", "insufficient_quota")
    assert last.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("streamed", [False, True])
def test_22_a_call_that_is_given_up_makes_room_for_the_next(
    start_limited: Limited, upstream: FakeUpstream, streamed: bool
) -> None:
    relay = start_limited(parallel=1, budget_nano=COST_NANO)
    upstream.answer(Script(gate=Gate()), times=5)
    upstream.answer(Script(body=transcripts.chat_body("x"), headers=JSON))
    for number in range(1, 6):
        with (
            httpx.Client(base_url=relay.root, headers=relay.http.headers, trust_env=False) as one,
            pytest.raises(httpx.ReadTimeout),
        ):
            timeout = httpx.Timeout(30, read=0.05 if number > 1 else 0.3)
            one.post("/v1/chat/completions", json=chat(stream=streamed), timeout=timeout)
        upstream.wait_for(
            lambda number=number: (
                len(upstream.requests) == number
                and all(one.connection.closed_at for one in upstream.requests)
            )
        )
    upstream.wait_for(lambda: not relay.relay.presence.open)
    assert statuses(relay, 1) == [200]
    assert statuses(relay, 1) == [429]


def test_22_a_failure_gives_back_what_was_reserved(
    start_limited: Limited, upstream: FakeUpstream
) -> None:
    relay = start_limited(parallel=1, budget_nano=COST_NANO, settings={"retries": 0})
    upstream.answer(Script(status=500, body=b"{}", headers=JSON), times=3)
    upstream.answer(Script(raw=b"no HTTP\r\n\r\n"), times=3)
    found = [relay.ask(stream=bool(number % 2)).status_code for number in range(6)]
    assert found == [500, 500, 500, 502, 502, 502]
    assert relay.http.post("/v1/chat/completions", json={"model": 1}).status_code == 400
    assert relay.ask().status_code == 200


def test_headers_tell_the_callers_limits_and_not_the_hidden_keys(
    start_limited: Limited, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(body=transcripts.chat_body("x"), headers=[*JSON, *THEIRS]))
    relay = start_limited(rpm=2, tpm=1000)
    answer = relay.ask(max_tokens=50)
    told = headers_of(answer)
    tokens = int(told.pop("x-ratelimit-remaining-tokens"))
    assert 900 < tokens < 950
    assert told == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "1m0s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-reset-tokens": "1m0s",
    }
    assert answer.headers["retry-after-ms"] == "5", "what is not about limits passes"
    # The first has told that it used 8.
    upstream.answer(Script(pieces=transcripts.chat_stream(["x"]), headers=[*STREAM, *THEIRS]))
    told = headers_of(relay.ask(max_tokens=50, stream=True))
    assert int(told["x-ratelimit-remaining-tokens"]) == pytest.approx(tokens - 8, abs=5)
    refused = relay.ask()
    assert refused.status_code == 429
    told = headers_of(refused)
    assert told["x-ratelimit-remaining-requests"] == "0"
    assert 50 < int(told["retry-after"]) <= 60
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize("key", ["rk-free", KEY])
def test_who_has_no_limits_a_minute_sees_the_upstreams(
    start_limited: Limited, upstream: FakeUpstream, key: str
) -> None:
    upstream.answer(Script(body=transcripts.chat_body("x"), headers=[*JSON, *THEIRS]))
    relay = start_limited(parallel=5)
    relay.http.headers["authorization"] = f"Bearer {key}"
    assert headers_of(relay.ask()) == {
        "x-ratelimit-limit-requests": "9999",
        "x-ratelimit-remaining-tokens": "77",
    }


def test_anthropics_clients_are_told_in_their_form(
    start_limited: Limited, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(body=transcripts.chat_body("x"), headers=[*JSON, *THEIRS]))
    relay = start_limited(rpm=1)
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    for status, left in ((200, "0"), (429, "0")):
        answer = relay.http.post("/v1/messages", json=body)
        assert answer.status_code == status, answer.text
        assert answer.headers["anthropic-ratelimit-requests-limit"] == "1"
        assert answer.headers["anthropic-ratelimit-requests-remaining"] == left
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert int(answer.headers["retry-after"]) > 50


def test_limits_hold_at_key_and_team(start_limited: Limited) -> None:
    relay = start_limited(rpm=10, team={"rpm": 3})
    assert statuses(relay, 8) == [200] * 3 + [429] * 5
    assert "its team" in relay.ask().json()["error"]["message"]


def test_lists_count_for_nothing_and_other_calls_do(
    start_limited: Limited, upstream: FakeUpstream
) -> None:
    relay = start_limited(rpm=2)
    for _ in range(3):
        assert relay.http.get("/v1/models").status_code == 200
    upstream.answer(Script(body=b"{}", headers=JSON), path="/v1/embeddings")
    found = [
        relay.http.post("/v1/embeddings", json={"model": "m", "input": "x"}).status_code
        for _ in range(3)
    ]
    assert found == [200, 200, 429]


def test_tokens_that_an_upstream_tells_are_what_counts(
    start_limited: Limited, upstream: FakeUpstream
) -> None:
    usage = {"prompt_tokens": 500, "completion_tokens": 100, "total_tokens": 600}
    events = transcripts.chat_stream(["x"], usage=usage)
    upstream.answer(Script(pieces=events, headers=STREAM))
    relay = start_limited(tpm=1000)
    answer = relay.ask(stream=True, max_tokens=10)
    assert answer.status_code == 200
    assert b"usage" not in answer.content, "it was the relay that asked for it"
    assert json.loads(upstream.requests[0].body)["stream_options"] == {"include_usage": True}
    assert statuses(relay, 1, max_tokens=390) == [429]
    assert statuses(relay, 1, stream=True, max_tokens=300) == [200]


def test_each_turn_of_a_socket_is_a_call(start_limited: Limited) -> None:
    relay = start_limited(rpm=2, parallel=1, settings={"upstream_url": None, "local": "echo"})
    address = relay.root.replace("http", "ws") + "/ws"
    protocols: Any = ["relay", f"key.{KEY}"]
    with connect(address, subprotocols=protocols) as socket:
        ends = []
        for _ in range(3):
            socket.send(json.dumps({"query": "hi", "history": []}))
            frame = {"status": 202}
            while frame["status"] == 202:
                frame = json.loads(socket.recv(timeout=20))
            ends.append(frame["status"])
    assert ends == [200, 200, 429]


def test_a_browsers_token_is_good_for_so_many_requests(start_limited: Limited) -> None:
    relay = start_limited(rpm=100)
    answer = relay.http.post("/v1/client_secrets", json={"max_requests": 3})
    assert answer.status_code == 200, answer.text
    relay.http.headers["authorization"] = f"Bearer {answer.json()['value']}"
    assert statuses(relay, 7) == [200] * 3 + [429] * 4
    refused = relay.ask()
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert refused.headers["x-ratelimit-remaining-requests"] == "97", (
        "its key's, which lost nothing"
    )


@pytest.mark.parametrize("database", ["none", "sqlite"])
def test_a_budget_holds_over_a_restart(
    start_limited: Limited, upstream: FakeUpstream, tmp_path: Path, database: str
) -> None:
    """By the journal where there is no ledger, and by the ledger where there is one."""
    url = "none" if database == "none" else f"sqlite:///{tmp_path}/relay.db"
    settings = {"database_url": url, "ledger_flush_s": 0.1}
    upstream.answer(Script(body=transcripts.chat_body("x"), headers=JSON))
    relay = start_limited(budget_nano=3 * COST_NANO, settings=settings)
    assert relay.ask(max_tokens=5).status_code == 200
    relay.stop()
    assert (tmp_path / "journal").read_bytes() == (
        b'["key_limited",0,1000]\n' if database == "none" else b""
    )
    again = start_limited(budget_nano=3 * COST_NANO, settings=settings)
    assert statuses(again, 5, max_tokens=5) == [200] * 2 + [429] * 3


def test_models_without_a_price_may_be_refused(start_limited: Limited) -> None:
    settings = {"unpriced_models": "refuse", "prices": []}
    relay = start_limited(budget_nano=1, settings=settings)
    answer = relay.ask()
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_allowed", "model")
    assert "'m' has no price here" in error["message"]
    relay = start_limited(budget_nano=1, settings={"prices": []})
    assert relay.ask().status_code == 200
