"""Upstreams are killed, stalled and revived at random under a steady load: nobody is lost.

`RELAY_CHAOS_S` says for how long, `RELAY_CHAOS_STREAMS` how many at once. A real session, which
takes longer than a test may otherwise:

    RELAY_CHAOS_S=300 RELAY_CHAOS_STREAMS=200 python -m pytest -s -o faulthandler_timeout=0 \\
        tests/e2e/test_chaos.py
"""

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import transcripts
from fake_script import Gate, Script
from fake_upstream import FakeUpstream, Received
from running import RunningRelay, StartRelay, chat

ADMIN_KEY = "ak-0123456789"
ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
STREAM = [(b"content-type", b"text/event-stream")]
DURATION_S = float(os.environ.get("RELAY_CHAOS_S", "6"))
STREAMS = int(os.environ.get("RELAY_CHAOS_STREAMS", "40"))
CHUNKS = 5
GOOD = transcripts.chat_stream([str(number) for number in range(CHUNKS)])


class Frail:
    """An upstream that fails as `mood` says, at an address that stays."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mood = "good"
        self.arrived: Counter[str] = Counter()
        self.fake: FakeUpstream
        self._life = ExitStack()
        self._port = 0
        self.revive()
        self.url = f"http://127.0.0.1:{self._port}/v1"

    def kill(self) -> None:
        """Close the port and every connection."""
        self._life.close()

    def revive(self) -> None:
        self.fake = self._life.enter_context(FakeUpstream.in_thread(port=self._port))
        self.fake.answer(self._reply)
        self._port = self.fake.port

    def _reply(self, received: Received) -> Script:
        self.arrived[json.loads(received.body)["messages"][0]["content"]] += 1
        if self.mood == "stalled":
            return Script(gate=Gate())
        if self.mood == "failing":
            return Script(status=500, body=b"{}")
        if self.mood == "resetting":
            return Script(pieces=GOOD, headers=STREAM, reset_at=0)
        return Script(pieces=GOOD, headers=STREAM, delay_piece_s=0.01)


@pytest.fixture
def frail() -> Iterator[list[Frail]]:
    upstreams = [Frail("a"), Frail("b")]
    yield upstreams
    for upstream in upstreams:
        upstream.kill()


@pytest.fixture
def relay(
    start_relay: StartRelay, frail: list[Frail], upstream: FakeUpstream, tmp_path: Path
) -> RunningRelay:
    """A relay over two frail upstreams and, behind them, one that never fails."""
    upstream.answer(lambda _: Script(pieces=GOOD, headers=STREAM))
    limits = {"connect_s": 2, "first_byte_s": 1, "idle_s": 5, "total_s": 60}
    patient = limits | {"first_byte_s": 20}  # it shares this process with hundreds of streams
    places = [*((one.name, one.url, limits) for one in frail), ("sure", upstream.url, patient)]
    return start_relay(
        local="echo",
        admin_key=ADMIN_KEY,
        state_file=tmp_path / "state.json",
        upstreams=[
            {"name": name, "base_url": url, "timeouts": limits, "breaker": {"open_s": 0.5}}
            for name, url, limits in places
        ],
        models=[
            {
                "id": "m",
                "targets": [{"upstream": one.name} for one in frail],
                "policy": "weighted",
                "fallback": [{"upstream": "sure"}],
            }
        ],
        retries=1,
    )


async def stir(frail: list[Frail], until: float) -> int:
    """Change somebody's mood, again and again; how often somebody was killed."""
    dice = random.Random(5)
    killed = 0
    while asyncio.get_running_loop().time() < until:
        one = dice.choice(frail)
        one.mood = dice.choice(["good", "good", "stalled", "failing", "resetting", "dead"])
        if one.mood == "dead":
            await asyncio.to_thread(one.kill)
            killed += 1
            await asyncio.sleep(dice.uniform(0.1, 0.5))
            await asyncio.to_thread(one.revive)
            one.mood = "good"
        await asyncio.sleep(dice.uniform(0.05, 0.5))
    for one in frail:
        one.mood = "good"
    return killed


async def load(relay: RunningRelay, until: float) -> tuple[Counter[str], dict[str, int]]:
    """Streams, one after the other on each of so many lines: how they ended, and their attempts."""
    ended: Counter[str] = Counter()
    attempts: dict[str, int] = {}
    limits = httpx.Limits(max_connections=STREAMS)
    async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as client:

        async def line(number: int) -> None:
            turn = 0
            while asyncio.get_running_loop().time() < until:
                name = f"{number}-{turn}"
                turn += 1
                body = chat(name, stream=True)
                reply = await client.post(f"{relay.url}/chat/completions", json=body)
                attempts[name] = int(reply.headers["x-relay-attempts"])
                if reply.status_code != 200:
                    target = reply.headers["x-relay-upstream"]
                    ended[f"status {reply.status_code} of {target}"] += 1
                elif reply.content == b"".join(GOOD):
                    ended["whole"] += 1
                elif b'"error"' in reply.content and b"[DONE]" not in reply.content:
                    ended["cut, and said so"] += 1
                else:
                    ended["wrong"] += 1

        await asyncio.gather(*(line(number) for number in range(STREAMS)))
    return ended, attempts


async def test_no_call_is_lost_that_somebody_could_have_answered(
    relay: RunningRelay, frail: list[Frail], upstream: FakeUpstream
) -> None:
    until = asyncio.get_running_loop().time() + DURATION_S
    (ended, attempts), killed = await asyncio.gather(load(relay, until), stir(frail, until))
    print(
        f"{sum(ended.values())} streams: {dict(ended)}; {killed} kills; "
        f"attempts {dict(sorted(Counter(attempts.values()).items()))}"
    )
    assert set(ended) <= {"whole", "cut, and said so"}
    assert ended["whole"] > 10 * ended["cut, and said so"]
    arrived = sum((one.arrived for one in frail), Counter())
    arrived += Counter(
        json.loads(request.body)["messages"][0]["content"] for request in upstream.requests
    )
    doubled = {name for name, times in arrived.items() if times > attempts[name]}
    assert not doubled
    health = relay.relay.router.health
    assert {name: one.in_flight for name, one in health.items() if one.in_flight} == {}
    assert len(relay.relay.presence) == 0
    # The idle connections are closed by a move: those that are open then were lost on the way.
    moved = relay.http.put("/admin/mode", json={"mode": "local"}, headers=ADMIN)
    assert moved.json()["serving"] == "local"
    for fake in (*(one.fake for one in frail), upstream):
        await fake.until(lambda fake=fake: not fake.open_connections)
