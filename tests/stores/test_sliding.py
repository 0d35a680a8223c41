"""Minutes that slide, whatever comes when: held against a list of all that was granted."""

from dataclasses import dataclass, field

from counting import BEGIN, Clock, ask, holder, in_memory, in_redis, reserve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import RedisServer

from relay.stores.counters import Granted, Refused
from relay.stores.counters.memory import MemoryCounters
from relay.stores.counters.window import Window

pauses = st.one_of(st.integers(0, 1500), st.integers(0, 70_000)).map(lambda ms: ms / 1000)
calls = st.lists(st.tuples(pauses, st.integers(0, 60)), max_size=60)


@dataclass
class Record:
    """What was granted when; `most` looks at every minute that begins with a grant."""

    granted: list[tuple[float, int]] = field(default_factory=list)

    def most(self) -> tuple[int, int]:
        minutes = [
            [tokens for at, tokens in self.granted if begin <= at < begin + 60]
            for begin, _ in self.granted
        ]
        return max(map(len, minutes), default=0), max(map(sum, minutes), default=0)


@given(calls, st.integers(1, 8), st.integers(1, 100))
async def test_no_minute_has_more_than_its_limit(
    calls: list[tuple[float, int]], rpm: int, tpm: int
) -> None:
    clock, record = Clock(), Record()
    counters = MemoryCounters(clock=clock, wall=clock)
    for pause_s, tokens in calls:
        clock.now += pause_s
        outcome = counters.reserve(ask(holder(rpm=rpm, tpm=tpm), tokens=tokens))
        if isinstance(outcome, Granted):
            record.granted.append((clock.now, tokens))
    requests, tokens = record.most()
    assert requests <= rpm
    assert tokens <= tpm


@given(calls, st.integers(1, 8), st.integers(1, 100), st.integers(1, 60))
async def test_the_wait_that_is_told_is_true(
    calls: list[tuple[float, int]], rpm: int, tpm: int, wanted: int
) -> None:
    clock = Clock()
    counters = MemoryCounters(clock=clock, wall=clock)
    key = holder(rpm=rpm, tpm=tpm)
    for pause_s, tokens in calls:
        clock.now += pause_s
        counters.reserve(ask(key, tokens=tokens))
    call = ask(key, tokens=wanted)
    refused = counters.reserve(call)
    if not isinstance(refused, Refused):
        return
    if refused.never:
        assert wanted > tpm
        return
    assert 0 < refused.wait_s <= 60
    told = clock.now + refused.wait_s
    clock.now = told - 0.002
    assert isinstance(counters.reserve(call), Refused)
    clock.now = told + 0.002
    assert isinstance(counters.reserve(call), Granted)


@given(st.lists(st.tuples(pauses, st.integers(0, 60)), min_size=80, max_size=120))
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
def test_a_minute_has_no_more_entries_than_seconds(calls: list[tuple[float, int]]) -> None:
    window, now = Window(), BEGIN
    for pause_s, tokens in calls:
        now += pause_s / 20
        window.expire(now)
        window.add(now, 1, tokens)
        assert len(window.entries) <= 62
    window.expire(now + 60)
    assert (window.requests, window.tokens, len(window.entries)) == (0, 0, 0)


@dataclass(frozen=True)
class Step:
    """After a pause: a call of some tokens and money, or the end of one that runs."""

    pause_s: float
    ends: int | None
    tokens: int
    nano: int
    sure: bool


steps = st.lists(
    st.builds(
        Step,
        pauses,
        st.none() | st.integers(0, 9),
        st.integers(0, 60),
        st.integers(0, 60),
        st.booleans(),
    ),
    max_size=40,
)
limits = st.fixed_dictionaries(
    {},
    optional={
        "rpm": st.integers(0, 8),
        "tpm": st.integers(0, 100),
        "parallel": st.integers(0, 4),
        "budget_nano": st.integers(0, 300),
        "budget_window": st.sampled_from(["day", "week", "month", "total"]),
        "requests": st.integers(0, 20),
    },
)


@given(steps, limits, limits)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_redis_counts_as_the_memory_does(
    redis_server: RedisServer,
    steps: list[Step],
    of_key: dict[str, int],
    of_team: dict[str, int],
) -> None:
    with redis_server.client() as client:
        client.flushall()
    clock = Clock()
    holders = holder("key", **of_key), holder("team", **of_team)
    # Redis's leases end after 15 minutes of pauses; nobody was killed here.
    async with in_memory(clock) as memory, in_redis(redis_server, lease_s=86_400)(clock) as redis:
        running: list[tuple[Granted, Granted]] = []
        for step in steps:
            clock.now = round(clock.now + step.pause_s, 3)
            if step.ends is not None and running:
                one, other = running.pop(step.ends % len(running))
                memory.settle(one, tokens=step.tokens, cost_nano=step.nano)
                redis.settle(other, tokens=step.tokens, cost_nano=step.nano)
                continue
            call = ask(*holders, sure=step.sure, tokens=step.tokens, cost_nano=step.nano)
            one, other = await reserve(memory, call), await reserve(redis, call)
            if isinstance(one, Granted):
                assert isinstance(other, Granted), other
                counted = [
                    tuple(mine[:2])
                    for mine, limits in zip(one.used, (of_key, of_team), strict=True)
                    if {"rpm", "tpm"} & limits.keys()
                ]
                told = [
                    tuple(theirs[:2])
                    for theirs, limits in zip(other.used, (of_key, of_team), strict=True)
                    if {"rpm", "tpm"} & limits.keys()
                ]
                assert counted == told
                running.append((one, other))
            else:
                assert isinstance(one, Refused)
                assert isinstance(other, Refused), one
                assert abs(one.wait_s - other.wait_s) < 0.01 or (one.never and other.never)
