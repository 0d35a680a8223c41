"""A second target for a late first one; one call for many that are the same."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream
from running import RunningRelay, StartRelay, chat
from waiting import until

STREAM = [(b"content-type", b"text/event-stream")]


@pytest.fixture
def backup() -> Iterator[FakeUpstream]:
    with FakeUpstream.in_thread() as fake:
        yield fake


def hedging(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream, after_s: float
) -> RunningRelay:
    return start_relay(
        upstreams=[
            {"name": "a", "base_url": upstream.url},
            {"name": "b", "base_url": backup.url},
        ],
        models=[
            {
                "id": "m",
                "targets": [{"upstream": "a"}, {"upstream": "b"}],
                "hedge_after_s": after_s,
            }
        ],
    )


def good(text: str, *, streamed: bool) -> Script:
    if streamed:
        return Script(pieces=transcripts.chat_stream([text]), headers=STREAM)
    return Script(body=transcripts.chat_body(text))


@pytest.mark.parametrize("streamed", [False, True])
def test_the_second_answers_for_a_late_first_which_is_cancelled(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream, streamed: bool
) -> None:
    upstream.answer(Script(gate=Gate()))
    backup.answer(good("quick", streamed=streamed))
    relay = hedging(start_relay, upstream, backup, 0.05)
    reply = relay.ask(stream=streamed)
    assert b"quick" in reply.content
    assert reply.headers["x-relay-upstream"] == "b"
    assert reply.headers["x-relay-attempts"] == "2"
    upstream.wait_for(lambda: upstream.requests[0].closed_at is not None, timeout_s=5)
    assert {h.in_flight for h in relay.relay.router.health.values()} == {0}


@pytest.mark.parametrize("streamed", [False, True])
def test_a_first_that_is_in_time_is_the_only_one(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream, streamed: bool
) -> None:
    upstream.answer(good("first", streamed=streamed))
    relay = hedging(start_relay, upstream, backup, 20)
    reply = relay.ask(stream=streamed)
    assert reply.headers["x-relay-attempts"] == "1"
    assert not backup.requests


@pytest.mark.parametrize("streamed", [False, True])
def test_the_first_may_still_win(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream, streamed: bool
) -> None:
    gate = Gate()
    late = good("late", streamed=streamed)
    script = Script(body=late.body, pieces=late.pieces, headers=late.headers, gate=gate)
    upstream.answer(script)
    backup.answer(Script(gate=Gate()))
    relay = hedging(start_relay, upstream, backup, 0.05)
    opener = threading.Thread(
        target=lambda: (backup.wait_for(lambda: backup.requests), gate.open())
    )
    opener.start()
    reply = relay.ask(stream=streamed)
    opener.join()
    assert b"late" in reply.content
    assert reply.headers["x-relay-upstream"] == "a"
    backup.wait_for(lambda: backup.requests[0].closed_at is not None, timeout_s=5)


def test_a_first_that_fails_at_once_is_followed_as_ever(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    upstream.answer(Script(status=500, body=b"{}"))
    backup.answer(good("b", streamed=False))
    reply = hedging(start_relay, upstream, backup, 20).ask()
    assert (reply.status_code, reply.headers["x-relay-attempts"]) == (200, "2")


def test_when_both_fail_the_client_hears_of_the_last(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    upstream.answer(Script(status=500, body=b'{"error":{"code":"a"}}', delay_head_s=0.3))
    backup.answer(Script(status=500, body=b'{"error":{"code":"b"}}'))
    reply = hedging(start_relay, upstream, backup, 0.05).ask()
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "a"
    assert reply.headers["x-relay-attempts"] == "2"


def test_a_client_that_leaves_ends_both(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    for fake in (upstream, backup):
        fake.answer(Script(gate=Gate()))
    relay = hedging(start_relay, upstream, backup, 0.05)

    async def leave() -> None:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            asking = asyncio.create_task(client.post(f"{relay.url}/chat/completions", json=chat()))
            await asyncio.to_thread(backup.wait_for, lambda: backup.requests)
            asking.cancel()
            await asyncio.wait([asking])

    asyncio.run(leave())
    for fake in (upstream, backup):
        fake.wait_for(lambda fake=fake: fake.requests[0].closed_at is not None, timeout_s=5)


def test_a_body_that_is_read_once_is_sent_to_one_target(
    start_relay: StartRelay, upstream: FakeUpstream, backup: FakeUpstream
) -> None:
    upstream.answer(Script(body=b'{"text":"x"}', delay_head_s=0.3))
    relay = hedging(start_relay, upstream, backup, 0.05)
    sound = {"file": ("sound.wav", bytes(200_000))}
    reply = relay.http.post("/v1/audio/transcriptions", data={"model": "m"}, files=sound)
    assert reply.content == b'{"text":"x"}'
    assert reply.headers["x-relay-attempts"] == "1"
    assert bytes(200_000) in upstream.requests[0].body
    assert not backup.connections


def single(start_relay: StartRelay, upstream: FakeUpstream, **settings: Any) -> RunningRelay:
    return start_relay(
        upstream_url=upstream.url,
        models=[{"id": "m", "targets": [{"upstream": "upstream"}], "single_flight": True}],
        **settings,
    )


async def ask_all(relay: RunningRelay, bodies: list[dict[str, Any]], **headers: str) -> list[Any]:
    async with httpx.AsyncClient(timeout=30, trust_env=False, headers=headers) as client:
        url = f"{relay.url}/chat/completions"
        return await asyncio.gather(*(client.post(url, json=body) for body in bodies))


def test_identical_calls_share_one(start_relay: StartRelay, upstream: FakeUpstream) -> None:
    gate = Gate()
    upstream.answer(Script(body=transcripts.chat_body("x"), gate=gate))
    relay = single(start_relay, upstream)

    def open_when_all_are_there() -> None:
        until(lambda: relay.relay.in_flight == 20)
        gate.open()

    threading.Thread(target=open_when_all_are_there).start()
    replies = asyncio.run(ask_all(relay, [chat()] * 20))
    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.content for reply in replies}) == 1
    assert len({reply.headers["x-request-id"] for reply in replies}) == 20
    assert {reply.headers["x-relay-attempts"] for reply in replies} == {"1"}
    assert len(upstream.requests) == 1


def key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


def test_other_words_streams_and_other_keys_do_not_share(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    upstream.answer(Script(body=transcripts.chat_body("x"), delay_head_s=0.3))
    relay = single(start_relay, upstream, api_keys=["one", "two"])

    async def everyone() -> list[Any]:
        return await asyncio.gather(
            ask_all(
                relay, [chat("a"), chat("b"), chat("a", stream=True)], authorization="Bearer one"
            ),
            ask_all(relay, [chat("a")], authorization="Bearer two"),
        )

    asyncio.run(everyone())
    assert len(upstream.requests) == 4


def test_a_call_with_less_time_does_not_wait_for_one_with_more(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    gate = Gate()
    upstream.answer(Script(body=transcripts.chat_body("x"), gate=gate))
    relay = single(start_relay, upstream)

    async def both() -> tuple[int, int]:
        patient = asyncio.create_task(ask_all(relay, [chat()]))
        await asyncio.to_thread(upstream.wait_for, lambda: upstream.requests)
        hasty = {"x-relay-timeouts": "first_byte_s=0.05"}
        [late] = await ask_all(relay, [chat()], **hasty)
        gate.open()
        [answered] = await patient
        return late.status_code, answered.status_code

    assert asyncio.run(both()) == (504, 200)


def test_another_feature_is_another_call(start_relay: StartRelay, upstream: FakeUpstream) -> None:
    upstream.answer(Script(body=transcripts.chat_body("x"), delay_head_s=0.3))
    relay = single(start_relay, upstream)

    async def everyone() -> None:
        features = [
            {},
            {"openai-beta": "a"},
            {"openai-beta": "b"},
            {"x-stainless-retry-count": "1"},
        ]
        await asyncio.gather(*(ask_all(relay, [chat()], **one) for one in features))

    asyncio.run(everyone())
    assert len(upstream.requests) == 3


def test_a_shared_failure_is_everyones(start_relay: StartRelay, upstream: FakeUpstream) -> None:
    upstream.answer(Script(status=400, body=b'{"error":{"code":"no"}}', delay_head_s=0.3))
    replies = asyncio.run(ask_all(single(start_relay, upstream), [chat()] * 5))
    assert [(reply.status_code, reply.json()["error"]["code"]) for reply in replies] == [
        (400, "no")
    ] * 5
    assert {reply.headers["x-relay-attempts"] for reply in replies} == {"1"}
    assert len(upstream.requests) == 1


def test_one_that_leaves_does_not_end_the_others_call_and_the_last_does(
    start_relay: StartRelay, upstream: FakeUpstream
) -> None:
    gate = Gate()
    upstream.answer(Script(body=transcripts.chat_body("x"), gate=gate), times=1)
    upstream.answer(Script(gate=Gate()))
    relay = single(start_relay, upstream)

    async def some_leave() -> int:
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:

            def ask() -> "asyncio.Task[httpx.Response]":
                return asyncio.create_task(
                    client.post(
                        f"{relay.url}/chat/completions",
                        content=json.dumps(chat()),
                        headers={"content-type": "application/json"},
                    )
                )

            first = ask()
            await asyncio.to_thread(upstream.wait_for, lambda: upstream.requests)
            second = ask()
            await asyncio.to_thread(_until_waiting, relay, 2)
            first.cancel()
            await asyncio.to_thread(_until_waiting, relay, 1)
            gate.open()
            status = (await second).status_code
            third = ask()
            await asyncio.to_thread(upstream.wait_for, lambda: len(upstream.requests) == 2)
            third.cancel()
            await asyncio.wait([first, third])
            return status

    assert asyncio.run(some_leave()) == 200
    upstream.wait_for(lambda: upstream.requests[1].closed_at is not None, timeout_s=5)


def _until_waiting(relay: RunningRelay, calls: int) -> None:
    while len(relay.relay.presence) != calls:
        relay.http.get("/healthz")
