"""A stream that began in one process is taken up in another one, as if it were there."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import RunningRelay, chat, process
from servers import RedisServer
from waiting import until

from relay.app import Relay
from relay.serving import build_server, listen
from relay.settings import Settings

KEY, OTHER = "rk-canary-0123456789abcdef", "rk-canary-fedcba9876543210"
STREAM = [(b"content-type", b"text/event-stream")]
PATH = "/v1/chat/completions"
ASKING = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(params=["socket", "redis"])
def pair(request: pytest.FixtureRequest) -> list[RunningRelay]:
    """Two relays as two workers are, or as two replicas."""
    found: list[RunningRelay] = request.getfixturevalue(f"pair_by_{request.param}")
    return found


@pytest.fixture
def pair_by_socket(tmp_path: Path, upstream: FakeUpstream) -> Iterator[list[RunningRelay]]:
    """They meet in a folder."""
    yield from _pair(upstream, tmp_path)


@pytest.fixture
def pair_by_redis(
    tmp_path: Path, upstream: FakeUpstream, redis_server: RedisServer
) -> Iterator[list[RunningRelay]]:
    """They have a Redis in common."""
    yield from _pair(upstream, tmp_path, redis_url=redis_server.url)


def _pair(upstream: FakeUpstream, folder: Path, **more: Any) -> Iterator[list[RunningRelay]]:
    running = []
    for _ in range(2):
        settings = Settings(
            upstream_url=upstream.url,
            api_keys=(KEY, OTHER),
            resume_s=20,
            resume_bytes=1024,
            database_url="none",
            shutdown_grace_s=0.2,
            **more,
        )
        relay = Relay(settings, counted_at=str(folder / "counters"))
        server = build_server(relay)
        listener = listen("127.0.0.1", 0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        root = f"http://127.0.0.1:{listener.getsockname()[1]}"
        running.append(RunningRelay(relay, server, thread, root))
        running[-1].http.get("/healthz").raise_for_status()
    yield running
    for one in running:
        one.stop()


def begin(http: httpx.Client, number: int) -> str:
    """Begin a stream, read so many events, leave; the id of the last one."""
    asking = {**ASKING, "x-relay-resume": "1"}
    with http.stream("POST", PATH, json=chat(stream=True), headers=asking) as answer:
        ids = (line for line in answer.iter_lines() if line.startswith("id: "))
        for _ in range(number):
            last = next(ids)
    return last.removeprefix("id: ")


def again(http: httpx.Client, last: str, **headers: str) -> httpx.Response:
    return http.post(PATH, headers={**ASKING, "last-event-id": last, **headers})


def data_of(answer: httpx.Response) -> list[str]:
    return [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")]


def test_another_worker_reads_the_rest_to_whom_it_belongs(
    pair: list[RunningRelay], upstream: FakeUpstream
) -> None:
    one, two = pair
    gate = Gate()
    pieces = transcripts.chat_stream(["a", *("b" * 40 for _ in range(30))])
    upstream.answer(Script(pieces=pieces, headers=STREAM, piece_gates={2: gate}))
    last = begin(one.http, 2)
    foreign = again(two.http, last, authorization=f"Bearer {OTHER}")
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (404, "stream_not_found")
    headers = {**ASKING, "last-event-id": last}
    with two.http.stream("POST", PATH, headers=headers) as answer:
        assert answer.status_code == 200
        gate.open()
        answer.read()
        found = data_of(answer)
    assert [piece.decode().strip()[6:] for piece in pieces[2:]] == found
    gone = again(two.http, last)
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, "events_gone")
    ids = [line[4:] for line in answer.text.split("\n") if line.startswith("id: ")]
    assert again(two.http, ids[-1]).status_code == 204
    assert len(upstream.requests) == 1


def test_who_comes_through_another_worker_takes_it_all_the_same(
    pair: list[RunningRelay], upstream: FakeUpstream
) -> None:
    one, two = pair
    pieces = transcripts.chat_stream(["a", "never"])
    upstream.answer(Script(pieces=pieces, headers=STREAM, stall_after=2))
    last = begin(one.http, 2)
    headers = {**ASKING, "last-event-id": last}
    with (
        two.http.stream("POST", PATH, headers=headers) as before,
        one.http.stream("POST", PATH, headers=headers) as later,
    ):
        assert later.status_code == 200
        before.read()
        (told,) = data_of(before)
        assert json.loads(told)["error"]["code"] == "stream_taken"
    with two.http.stream("POST", PATH, headers=headers):
        pass  # it leaves, and the stream is nobody's again
    assert again(two.http, last, **{"x-relay-resume": "stop"}).status_code == 204
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
    assert again(two.http, last).status_code == 404


def test_a_stream_of_a_process_that_has_gone_is_gone(
    pair: list[RunningRelay], upstream: FakeUpstream, tmp_path: Path
) -> None:
    one, two = pair
    pieces = transcripts.chat_stream(["a", "never"])
    upstream.answer(Script(pieces=pieces, headers=STREAM, stall_after=2))
    last = begin(one.http, 2)
    with two.http.stream("POST", PATH, headers={**ASKING, "last-event-id": last}) as answer:
        one.server.should_exit = True
        answer.read()
        (told,) = data_of(answer)
        assert json.loads(told)["error"]["code"] in ("overloaded", "stream_not_found")
    one.thread.join()
    assert again(two.http, last).status_code == 404
    shutil.rmtree(tmp_path)  # as if the machine had been another one
    assert again(two.http, last).status_code == 404


def test_while_redis_is_away_the_stream_waits_for_its_client(
    pair_by_redis: list[RunningRelay], upstream: FakeUpstream, redis_server: RedisServer
) -> None:
    one, two = pair_by_redis
    words = [f"word {number} " for number in range(300)]
    pieces = transcripts.chat_stream(words)
    gate = Gate()
    upstream.answer(Script(pieces=pieces, headers=STREAM, piece_gates={2: gate}))
    last = begin(one.http, 2)
    redis_server.stop()
    away = again(two.http, last)
    assert (away.status_code, away.json()["error"]["code"]) == (503, "overloaded")
    assert away.headers["retry-after"] == "1"
    redis_server.start()
    until(lambda: again(two.http, f"{last}9").json()["error"]["message"].startswith("That stream"))
    gate.open()
    headers = {**ASKING, "last-event-id": last}
    with two.http.stream("POST", PATH, headers=headers) as answer:
        found = b"".join(answer.iter_raw(200)).decode()  # piece by piece, so letters have to wait
    assert [line[6:] for line in found.split("\n") if line.startswith("data: ")] == [
        piece.decode().strip()[6:] for piece in pieces[2:]
    ]


def test_real_workers_take_streams_up_whoever_has_them(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    pieces = transcripts.chat_stream(["a", "b", "c"])
    upstream.answer(Script(pieces=pieces, headers=STREAM))
    wanted = {"workers": 2, "resume_s": 20, "upstream_url": upstream.url, "api_keys": KEY}
    with process(tmp_path, **wanted) as (_, root):
        for _ in range(6):
            with httpx.Client(base_url=root, timeout=30, trust_env=False) as http:
                last = begin(http, 2)
            with httpx.Client(base_url=root, timeout=30, trust_env=False) as http:
                assert data_of(again(http, last))[-1] == "[DONE]"
