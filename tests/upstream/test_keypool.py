"""Which key is used when some are tired or refused."""

from collections.abc import Callable
from hashlib import sha256

import pytest
from upstream.clock import Clock

from relay.errors import UpstreamAuth
from relay.events import Event, KeyRetired
from relay.settings import UpstreamSettings
from relay.upstream.key import Key
from relay.upstream.keypool import KeyPool


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[Event]:
    return []


Open = Callable[..., KeyPool]


@pytest.fixture
def open_pool(clock: Clock, told: list[Event]) -> Open:
    def open_pool(*secrets: str, **more) -> KeyPool:
        settings = UpstreamSettings(name="u", base_url="http://h", api_keys=secrets, **more)
        return KeyPool(settings, observe=told.append, now=clock)

    return open_pool


def positions(pool: KeyPool, count: int) -> list[str]:
    return [pool.take().which.partition(" ")[0] for _ in range(count)]


def taken(pool: KeyPool, position: int) -> Key:
    """That key, in its turn."""
    while not (key := pool.take()).which.startswith(f"{position} "):
        pass
    return key


def test_each_takes_its_turn_and_is_named_without_being_shown(open_pool: Open):
    pool = open_pool("sk-a", "sk-b")
    assert [pool.take().header for _ in range(3)] == [
        (b"authorization", b"Bearer sk-a"),
        (b"authorization", b"Bearer sk-b"),
        (b"authorization", b"Bearer sk-a"),
    ]
    digests = [sha256(secret).hexdigest()[:8] for secret in (b"sk-a", b"sk-b")]
    assert [row["key"] for row in pool.states()] == [f"1 ({digests[0]})", f"2 ({digests[1]})"]


async def test_without_keys_there_is_one_that_shows_nothing(open_pool: Open):
    pool = open_pool()
    key = await pool.fetch()
    assert key.header is None
    assert not pool.refused(key, 401, ())
    assert pool.take() is key
    assert pool.states() == []
    await pool.aclose()


@pytest.mark.parametrize(
    ("headers", "rest_s"),
    [
        ([], 5),
        ([(b"retry-after", b"20")], 20),
        ([(b"retry-after", b"3600")], 60),
        ([(b"retry-after", b"0")], 1),
        ([(b"retry-after", b"nonsense")], 5),
        ([(b"retry-after", b"Wed, 21 Oct 2015 07:28:00 GMT")], 1),
    ],
)
def test_a_tired_key_rests_as_long_as_it_was_told_within_bounds(
    open_pool: Open, clock: Clock, headers, rest_s: int
):
    pool = open_pool("sk-a", "sk-b", "sk-c")
    assert pool.refused(pool.take(), 429, headers)
    assert pool.states()[0]["until_s"] == rest_s
    clock.time += rest_s - 0.01
    assert positions(pool, 4) == ["2", "3", "2", "3"]
    clock.time += 0.02
    assert sorted(positions(pool, 3)) == ["1", "2", "3"]
    assert [row["state"] for row in pool.states()] == ["ok"] * 3


def test_a_rest_is_never_shortened_by_another_call(open_pool: Open):
    pool = open_pool("sk-a", "sk-b")
    key = pool.take()
    pool.refused(key, 429, [(b"retry-after", b"30")])
    pool.refused(key, 429, [])
    assert pool.states()[0]["until_s"] == 30


def test_when_all_rest_the_one_that_is_up_first_goes_on(open_pool: Open):
    pool = open_pool("sk-a", "sk-b")
    assert pool.refused(pool.take(), 429, [(b"retry-after", b"30")])
    assert not pool.refused(pool.take(), 429, [(b"retry-after", b"10")])
    assert positions(pool, 3) == ["2", "2", "2"]
    pool.refused(pool.take(), 429, [(b"retry-after", b"60")])
    assert positions(pool, 3) == ["1", "1", "1"]


def test_a_resting_key_is_used_before_a_retired_one(open_pool: Open):
    pool = open_pool("sk-a", "sk-b")
    assert pool.refused(pool.take(), 401, [])
    assert not pool.refused(pool.take(), 429, [])
    assert positions(pool, 3) == ["2", "2", "2"]


def test_a_retired_key_stays_so_while_there_is_another_and_is_told_of_once(
    open_pool: Open, clock: Clock, told: list[Event]
):
    pool = open_pool("sk-a", "sk-b")
    key = pool.take()
    assert pool.refused(key, 401, [])
    assert pool.refused(key, 401, [])  # a call that was on its way
    pool.accepted(key)  # and one that had been let in before
    clock.time += 100_000
    assert positions(pool, 3) == ["2", "2", "2"]
    assert told == [KeyRetired("u", key.which)]


def test_of_retired_keys_the_oldest_is_tried_at_once_and_then_once_a_minute(
    open_pool: Open, clock: Clock, told: list[Event]
):
    pool = open_pool("sk-a", "sk-b")
    for _ in range(2):
        pool.refused(pool.take(), 401, [])
        clock.time += 1
    tried = []
    for _ in range(4):
        key = pool.take()
        tried.append(key.which[0])
        with pytest.raises(UpstreamAuth, match="tried again every 60 s"):
            pool.take()
        assert not pool.refused(key, 401, [])
        clock.time += 59.9
        with pytest.raises(UpstreamAuth):
            pool.take()
        clock.time += 0.2
    assert tried == ["1", "2", "1", "2"]
    assert len(told) == 2


@pytest.mark.parametrize("status", [200, 429])
def test_a_retired_key_that_is_taken_again_is_back(open_pool: Open, clock: Clock, status: int):
    pool = open_pool("sk-a", "sk-b")
    for position in (1, 2):
        pool.refused(taken(pool, position), 401, [])
    key = pool.take()
    assert key.on_trial
    if status == 200:
        pool.accepted(key)
    else:
        assert not pool.refused(key, status, [])
    assert positions(pool, 3) == ["1", "1", "1"]
    assert not key.on_trial


def failing(pool: KeyPool, position: int, times: int) -> None:
    """All keys in turn: that one fails, so many times; the others do well."""
    while times:
        key = pool.take()
        if key.which.startswith(f"{position} "):
            pool.failed(key)
            times -= 1
        elif key.on_trial:
            pool.accepted(key)


BREAKER = {"failures": 3, "open_s": 10}


def test_a_key_that_alone_fails_rests_as_the_breaker_says(open_pool: Open, clock: Clock):
    pool = open_pool("sk-a", "sk-b", breaker=BREAKER)
    failing(pool, 1, times=2)
    assert [row["state"] for row in pool.states()] == ["ok", "ok"]
    failing(pool, 1, times=1)
    assert positions(pool, 4) == ["2"] * 4
    assert pool.states()[0] == {**pool.states()[0], "state": "resting", "until_s": 10}


@pytest.mark.parametrize("well", [True, False])
def test_after_its_rest_one_call_tries_a_key_that_failed(open_pool: Open, clock: Clock, well: bool):
    pool = open_pool("sk-a", "sk-b", breaker=BREAKER)
    failing(pool, 1, times=3)
    clock.time += 10
    tried = taken(pool, 1)
    assert positions(pool, 3) == ["2"] * 3  # until that call has been answered
    if well:
        pool.accepted(tried)
        assert sorted(positions(pool, 4)) == ["1", "1", "2", "2"]
    else:
        clock.time += 9
        pool.failed(tried)
        clock.time += 9
        assert positions(pool, 3) == ["2"] * 3


def test_a_trial_that_nobody_answers_is_followed_by_another(open_pool: Open, clock: Clock):
    pool = open_pool("sk-a", "sk-b", breaker=BREAKER)
    failing(pool, 1, times=3)
    for _ in range(2):
        clock.time += 10
        assert "1" in positions(pool, 2)
        assert positions(pool, 3) == ["2"] * 3


def test_failures_of_all_keys_are_the_upstreams(open_pool: Open):
    pool = open_pool("sk-a", "sk-b", breaker=BREAKER)
    for _ in range(20):
        pool.failed(pool.take())
    assert [row["state"] for row in pool.states()] == ["ok", "ok"]
    assert sorted(positions(pool, 4)) == ["1", "1", "2", "2"]


def test_a_key_that_fails_is_used_while_the_others_rest(open_pool: Open):
    pool = open_pool("sk-a", "sk-b", breaker=BREAKER)
    pool.refused(taken(pool, 1), 429, [(b"retry-after", b"30")])
    for _ in range(5):
        pool.failed(taken(pool, 2))
    assert [row["state"] for row in pool.states()] == ["resting", "ok"]


def test_an_answer_between_failures_lets_the_count_begin_anew(open_pool: Open):
    pool = open_pool("sk-a", "sk-b", breaker=BREAKER)
    failing(pool, 1, times=2)
    pool.accepted(taken(pool, 1))
    failing(pool, 1, times=2)
    assert [row["state"] for row in pool.states()] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("kind", "header"),
    [
        ("openai", (b"authorization", b"Bearer sk-a")),
        ("azure", (b"api-key", b"sk-a")),
        ("anthropic", (b"x-api-key", b"sk-a")),
    ],
)
def test_the_kind_of_upstream_says_which_header_carries_the_key(open_pool: Open, kind, header):
    assert open_pool("sk-a", kind=kind).take().header == header
