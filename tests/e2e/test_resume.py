"""Streams that outlive their connection: the rest, once, in order, for the same key."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import ledger_file
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import OpenAI
from running import RunningRelay, StartRelay, chat
from waiting import until

from relay.settings import Settings

KEY, OTHER = "rk-canary-0123456789abcdef", "rk-canary-fedcba9876543210"
STREAM = [(b"content-type", b"text/event-stream")]
PATH = "/v1/chat/completions"
PAGE = "http://localhost:3000"

Event = tuple[str, str]
"""The id of an event, and its data."""


def asking(key: str = KEY, **headers: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", **headers}


@contextmanager
def begun(
    relay: RunningRelay, *, key: str = KEY, resume: bool = True, **headers: str
) -> Iterator[httpx.Response]:
    wish = {"x-relay-resume": "1"} if resume else {}
    body = chat(stream=True)
    asked = asking(key, **wish, **headers)
    with relay.http.stream("POST", PATH, json=body, headers=asked) as answer:
        assert answer.status_code == 200
        yield answer


def again(relay: RunningRelay, last: str, key: str = KEY, **headers: str) -> httpx.Response:
    """What follows that event, to the end."""
    return relay.http.post(PATH, json=chat(stream=True), headers=resuming(last, key, **headers))


def resuming(last: str, key: str = KEY, **headers: str) -> dict[str, str]:
    return asking(key, **{"last-event-id": last}, **headers)


def events(answer: httpx.Response) -> Iterator[Event]:
    """As a browser's EventSource reads them, but for events of several lines."""
    name, data, held = "", None, b""
    for piece in answer.iter_bytes():
        *lines, held = (held + piece).split(b"\n")
        for line in lines:
            field, _, value = line.decode().partition(":")
            if field == "id":
                name = value.strip()
            elif field == "data":
                data = value.removeprefix(" ")
            elif not line and data is not None:
                yield name, data
                data = None


def first(answer: httpx.Response, number: int) -> list[Event]:
    found: list[Event] = []
    for one in events(answer):
        found.append(one)
        if len(found) == number:
            break
    return found


def text_of(found: list[Event]) -> str:
    assert found[-1][1] == "[DONE]"
    chunks = [json.loads(data) for _, data in found[:-1]]
    return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


def keeping(start_relay: StartRelay, upstream: FakeUpstream, **more: Any) -> RunningRelay:
    wanted = {"resume_s": 20, "upstream_url": upstream.url, "api_keys": [KEY, OTHER]}
    return start_relay(**wanted | more)


def says(words: list[str], **more: Any) -> Script:
    return Script(pieces=transcripts.chat_stream(words), headers=STREAM, **more)


@pytest.fixture
def relay(start_relay: StartRelay, upstream: FakeUpstream) -> RunningRelay:
    return keeping(start_relay, upstream)


def test_a_stream_that_does_not_ask_passes_byte_for_byte(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    words = ["a", "b", "c"]
    upstream.answer(says(words))
    with begun(relay, resume=False) as answer:
        assert answer.read() == b"".join(transcripts.chat_stream(words))
        assert "x-relay-resume" not in answer.headers
    plain = relay.http.post(PATH, json=chat(), headers=asking(**{"x-relay-resume": "1"}))
    assert "x-relay-resume" not in plain.headers


def test_a_relay_that_keeps_nothing_says_so_by_its_silence(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = keeping(start_relay, upstream, resume_s=0)
    with begun(relay) as answer:
        assert b"id:" not in answer.read()
        assert "x-relay-resume" not in answer.headers


@pytest.fixture(params=["remote", "local"])
def either(
    request: pytest.FixtureRequest, start_relay: StartRelay, upstream: FakeUpstream
) -> tuple[RunningRelay, Callable[[list[str]], None]]:
    """A relay, and what has it say those words next."""
    if request.param == "remote":
        relay = keeping(start_relay, upstream)
        return relay, lambda words: upstream.answer(says(words), times=1)
    said: list[str] = []

    class Model:
        def generate(self, prompt: object) -> Iterator[str]:
            yield from said

    def say(words: list[str]) -> None:
        said[:] = words

    return start_relay(local=Model(), resume_s=20, api_keys=[KEY]), say


@given(
    words=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=9), min_size=1),
    cuts=st.lists(st.integers(1, 4), max_size=4),
    through_cors=st.booleans(),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stream_cut_at_any_events_is_the_same_text(
    either: tuple[RunningRelay, Callable[[list[str]], None]],
    upstream: FakeUpstream,
    words: list[str],
    cuts: list[int],
    through_cors: bool,
) -> None:
    relay, say = either
    say(words)
    asked = len(upstream.requests)
    extra = {"origin": PAGE} if through_cors else {}
    with begun(relay, **extra) as answer:
        assert answer.headers["x-relay-resume"] == "20"
        found = first(answer, 1)
    for cut in cuts:
        with relay.http.stream("POST", PATH, headers=resuming(found[-1][0], **extra)) as answer:
            if answer.status_code == 204:
                break
            found += first(answer, cut)
    rest = again(relay, found[-1][0], **extra)
    if rest.status_code == 200:
        found += events(rest)
    assert text_of(found) == "".join(words)
    names, numbers = zip(*(name.rsplit(".", 1) for name, _ in found), strict=True)
    assert len(set(names)) == 1
    assert [int(number) for number in numbers] == list(range(1, len(found) + 1))
    assert again(relay, found[-1][0]).status_code == 204
    assert len(upstream.requests) - asked <= 1


def test_the_later_reader_takes_it_and_the_one_before_is_told(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    gate = Gate()
    upstream.answer(says(["a", "b", "c"], piece_gates={2: gate}))
    with begun(relay) as before:
        seen = events(before)
        last = [next(seen), next(seen)][-1][0]
        headers = resuming(last)
        with relay.http.stream("POST", PATH, headers=headers) as later:
            _, told = next(seen)
            assert json.loads(told)["error"]["code"] == "stream_taken"
            gate.open()
            assert next(seen, None) is None
            rest = list(events(later))
    assert [json.loads(data)["choices"][0]["delta"].get("content") for _, data in rest[:2]] == [
        "b",
        "c",
    ]
    assert rest[-1][1] == "[DONE]"


def contents(found: list[Event]) -> list[str | None]:
    return [json.loads(data)["choices"][0]["delta"].get("content") for _, data in found]


def left_after(relay: RunningRelay, number: int, key: str = KEY, **headers: str) -> str:
    """Begin a stream, read so many events, leave; the id of the last one."""
    with begun(relay, key=key, **headers) as answer:
        assert "x-relay-resume" in answer.headers
        return first(answer, number)[-1][0]


def test_another_key_gets_404_and_so_does_what_is_no_id(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(says(["a", "b"]))
    last = left_after(relay, 1)
    stream, _, number = last.rpartition(".")
    wrong = [f"{stream}.99", f"{stream[:-1]}.{number}", "17", "", f"{last}x"]
    answers = [again(relay, last, OTHER), *(again(relay, one) for one in wrong)]
    for answer in answers:
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("stream_not_found", "last-event-id")
    assert again(relay, last, "rk-unknown").status_code == 401
    assert again(relay, last).status_code == 200
    assert len(upstream.requests) == 1


def test_what_comes_while_nobody_listens_is_there_and_one_row_tells_of_it(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path
) -> None:
    path = tmp_path / "relay.db"
    relay = keeping(start_relay, upstream, database_url=ledger_file.url(path))
    gate = Gate()
    script = says(["a", "b"], piece_gates={2: gate})
    upstream.answer(script)
    last = left_after(relay, 2)
    gate.open()
    until(lambda: upstream.requests[0].answered)
    rest = again(relay, last)
    found = list(events(rest))
    assert contents(found[:1]) == ["b"]
    assert found[-1][1] == "[DONE]"
    assert rest.headers["content-type"].startswith("text/event-stream")
    (row,) = ledger_file.rows_of(relay, path)
    assert (row.status, row.error, row.stream) == (200, "", True)


def test_a_stream_for_which_nobody_comes_is_given_up_and_accounted(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path
) -> None:
    path = tmp_path / "relay.db"
    relay = keeping(start_relay, upstream, database_url=ledger_file.url(path), resume_s=0.2)
    upstream.answer(says(["a", "never"], stall_after=2))
    last = left_after(relay, 2)
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
    until(lambda: again(relay, last).status_code == 404)
    (row,) = ledger_file.rows_of(relay, path)
    assert (row.status, row.error, row.estimated) == (499, "client_left", True)


def test_a_stream_that_has_ended_is_forgotten_after_a_while(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = keeping(start_relay, upstream, resume_s=0.1)
    with begun(relay) as answer:
        last = first(answer, 100)[-1][0]
    until(lambda: again(relay, last).status_code == 404)


def test_whoever_stops_a_stream_ends_its_upstream_at_once(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(says(["a", "never"], stall_after=2))
    last = left_after(relay, 2)
    stop = {"x-relay-resume": "stop"}
    assert again(relay, last, OTHER, **stop).status_code == 404
    assert again(relay, last, **stop).status_code == 204
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None)
    assert again(relay, last, **stop).status_code == 404


def test_a_stop_ends_the_answer_of_whoever_reads(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(says(["a", "never"], stall_after=2))
    last = left_after(relay, 2)
    with relay.http.stream("POST", PATH, headers=resuming(last)) as reading:
        assert again(relay, last, **{"x-relay-resume": "stop"}).status_code == 204
        assert list(events(reading)) == []


def test_events_that_had_to_make_room_are_gone_and_that_is_said(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = keeping(start_relay, upstream, resume_bytes=2048)
    words = [f"word {number} " for number in range(40)]
    upstream.answer(says(words))
    with begun(relay) as answer:
        found = list(events(answer))
    assert text_of(found) == "".join(words)
    gone = again(relay, found[0][0])
    assert gone.status_code == 410
    assert gone.json()["error"]["code"] == "events_gone"
    assert list(events(again(relay, found[-3][0]))) == found[-2:]


def test_nothing_is_lost_while_nobody_listens_however_little_room_there_is(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = keeping(start_relay, upstream, resume_bytes=1024)
    words = [f"word {number} " for number in range(200)]
    gate = Gate()
    upstream.answer(says(words, piece_gates={3: gate}))
    with begun(relay) as answer:
        found = first(answer, 3)
    gate.open()
    found += events(again(relay, found[-1][0]))
    assert text_of(found) == "".join(words)


def test_the_error_that_ends_a_stream_is_kept_like_its_events(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    whole = b"".join(transcripts.chat_stream(["a", "b"]))
    upstream.answer(says(["a", "b"], reset_at=len(whole) - 30))
    with begun(relay) as answer:
        found = list(events(answer))
    error = json.loads(found[-1][1])["error"]
    assert error["type"] == "upstream_error"
    assert list(events(again(relay, found[0][0]))) == found[1:]


def test_a_stream_in_a_shutdown_ends_with_its_error_for_who_came_back(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(says(["a", "never"], stall_after=2))
    last = left_after(relay, 2)
    with relay.http.stream("POST", PATH, headers=resuming(last)) as reading:
        relay.server.should_exit = True
        (_, told), *_ = events(reading)
        assert json.loads(told)["error"]["code"] == "overloaded"


def test_streams_beyond_the_bound_are_ordinary_ones_until_others_have_ended(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = keeping(start_relay, upstream, resume_streams=2, resume_streams_per_key=1)
    gate = Gate()
    held = says(["a", "b"], piece_gates={2: gate})
    for _ in range(2):
        upstream.answer(held, times=1)
    with begun(relay) as one, begun(relay, key=OTHER) as two, begun(relay) as more:
        assert ["x-relay-resume" in answer.headers for answer in (one, two, more)] == [
            True,
            True,
            False,
        ]
        gate.open()
        for answer in (one, two, more):
            answer.read()
    with begun(relay) as later:  # the one that has ended makes room
        assert "x-relay-resume" in later.headers


def test_the_bound_of_the_process_holds_for_all_keys_together(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = keeping(start_relay, upstream, resume_streams=1)
    upstream.answer(says(["a", "never"], stall_after=2), times=1)
    left_after(relay, 2)
    with begun(relay, key=OTHER) as more:
        assert "x-relay-resume" not in more.headers


def test_what_is_recorded_is_the_whole_answer(
    start_relay: StartRelay, upstream: FakeUpstream, tmp_path: Path
) -> None:
    path = tmp_path / "relay.db"
    admin = {"authorization": "Bearer ak-0123456789"}
    relay = keeping(
        start_relay, upstream, database_url=ledger_file.url(path), admin_key="ak-0123456789"
    )
    wanted = {"name": "kept", "keep_bodies": True}
    key = relay.http.post("/admin/keys", json=wanted, headers=admin).json()["key"]
    words = ["alpha ", "beta ", "gamma"]
    upstream.answer(says(words))
    with begun(relay, key=key) as answer:
        found = first(answer, 2)
    found += events(again(relay, found[-1][0], key))
    assert text_of(found) == "".join(words)


def test_the_official_client_reads_ids_pings_and_comments(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    relay = keeping(start_relay, upstream, ping_s=0.02)
    gate = Gate()
    pieces = transcripts.chat_stream(["a", "b"])
    pieces = [pieces[0], b": one comment\n\n", b"id: theirs\r\n" + pieces[1], *pieces[2:]]
    upstream.answer(Script(pieces=pieces, headers=STREAM, piece_gates={3: gate}))
    with (
        OpenAI(base_url=relay.url, api_key=KEY, http_client=relay.http) as client,
        client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "x"}],
            stream=True,
            extra_headers={"x-relay-resume": "1"},
        ) as stream,
    ):
        text = ""
        for chunk in stream:
            text += chunk.choices[0].delta.content or ""
            if text == "a":
                threading.Timer(0.1, gate.open).start()
    assert text == "ab"


def test_a_pinged_stream_keeps_no_pings(start_relay: StartRelay, upstream: FakeUpstream) -> None:
    relay = keeping(start_relay, upstream, ping_s=0.01)
    gate = Gate()
    upstream.answer(says(["a", "b"], piece_gates={2: gate}))
    with begun(relay) as answer:
        lines = answer.iter_lines()
        found = []
        while not (found and found[-1] == ": ping"):
            found.append(next(lines))
        assert found[-2] == ""
    gate.open()
    last = next(line for line in found if line.startswith("id: ")).removeprefix("id: ")
    until(lambda: upstream.requests[0].answered)
    rest = again(relay, last).text
    assert rest.startswith("id: ")
    assert ": ping" not in rest


def test_a_reload_changes_nothing_for_streams_that_have_begun(
    relay: RunningRelay, upstream: FakeUpstream
) -> None:
    gate = Gate()
    upstream.answer(says(["a", "b"], piece_gates={2: gate}))
    last = left_after(relay, 2)
    now = relay.relay
    other = Settings(**{**now.settings.model_dump(exclude_unset=True), "resume_s": 10.0})
    built = now.build(other)
    done = threading.Event()

    def change() -> None:
        now.replace(built)
        done.set()

    (open_request,) = now.presence.open
    open_request._task.get_loop().call_soon_threadsafe(change)
    assert done.wait(20)
    gate.open()
    rest = again(relay, last)
    assert rest.headers["x-relay-resume"] == "10"
    assert contents(list(events(rest))[:1]) == ["b"]
