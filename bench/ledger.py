"""The ledger with millions of rows: what a row costs to keep, how long a report takes.

python -m bench.ledger --rows 10000000 --database sqlite:////tmp/ledger.db
python -m bench.ledger --rows 10000000 --embedded   # a PostgreSQL of its own, from a wheel

Rows are spread over a month, 1,000 keys in 50 teams, each of which uses three of 10 models, and 3
upstreams. They go through `Store.append` in the order of their time, as a relay would write them.
"""

import argparse
import asyncio
import itertools
import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from relay.stores import LedgerRow, RowQuery, Store, UsageQuery, open_store, prepare

MONTH_S = 30 * 86400
BEGINS_AT = 1_767_225_600.0  # 2026-01-01T00:00:00Z
KEYS, TEAMS, MODELS, UPSTREAMS = 1000, 50, 10, 3
MODELS_OF_A_KEY = 3


def rows(count: int) -> Iterator[LedgerRow]:
    """That many requests, a few keys of which make most of them."""
    rng = random.Random(6)
    keys = [f"key_{number:06d}" for number in range(KEYS)]
    weights = list(itertools.accumulate(1 / (place + 10) for place in range(KEYS)))
    for number, key in enumerate(rng.choices(range(KEYS), cum_weights=weights, k=count)):
        model = (key + rng.randrange(MODELS_OF_A_KEY)) % MODELS
        failed = rng.random() < 0.01
        yield LedgerRow(
            at=BEGINS_AT + MONTH_S * number / count,
            request_id=f"req-{number:032x}",
            key_id=keys[key],
            team_id=f"team_{key % TEAMS:03d}",
            caller="bench",
            path="chat/completions",
            model_asked=f"model-{model}",
            model_served=f"vendor/model-{model}",
            upstream=f"upstream-{model % UPSTREAMS}",
            attempts=1,
            lost_attempts=0,
            status=502 if failed else 200,
            error="upstream_unreachable" if failed else "",
            stream=number % 2 == 0,
            prompt_tokens=rng.randrange(4000),
            completion_tokens=rng.randrange(1000),
            cached_tokens=None,
            reasoning_tokens=None,
            audio_tokens=None,
            estimated=False,
            cost_nano=rng.randrange(10_000_000),
            first_token_s=0.4,
            duration_s=2.5,
        )


async def fill(store: Store, count: int, batch: int) -> None:
    """Append them; prints what a row cost in time, and in CPU of this process."""
    made, wall, cpu, told = rows(count), 0.0, 0.0, time.monotonic()
    done = 0
    while chunk := list(itertools.islice(made, batch)):
        began, used = time.perf_counter(), time.process_time()
        await store.append(chunk)
        wall, cpu = wall + time.perf_counter() - began, cpu + time.process_time() - used
        done += len(chunk)
        if time.monotonic() - told > 10:
            told = time.monotonic()
            print(f"{done:,} rows", file=sys.stderr)
    print(
        f"append, {batch} at a time: {wall / count * 1e6:.1f} us a row, {cpu / count * 1e6:.1f} CPU"
    )


async def report(store: Store) -> None:
    """Time the questions that people ask."""
    month = {"begins_at": BEGINS_AT, "ends_at": BEGINS_AT + MONTH_S}
    odd = {"begins_at": BEGINS_AT + 1000.5, "ends_at": BEGINS_AT + MONTH_S - 1000.5}
    questions = {
        "month": UsageQuery(**month),
        "month by day": UsageQuery(**month, group_by=["day"]),
        "month by key": UsageQuery(**month, group_by=["key"]),
        "month by model, upstream": UsageQuery(**month, group_by=["model", "upstream"]),
        "month by key, model, upstream, day": UsageQuery(
            **month, group_by=["key", "model", "upstream", "day"]
        ),
        "month by hour": UsageQuery(**month, group_by=["hour"]),
        "month of one key by day": UsageQuery(**month, group_by=["day"], key_id="key_000007"),
        "month less odd seconds, by model": UsageQuery(**odd, group_by=["model"]),
    }
    day = {"begins_at": month["ends_at"] - 86400, "ends_at": month["ends_at"] - 0.5}
    week = {"begins_at": month["ends_at"] - 7 * 86400, "ends_at": month["ends_at"] - 0.5}
    for span, stretch, by in (
        ("day", day, "hour"),
        ("week", week, "hour"),
        ("month", month, "day"),
    ):
        asked = {**stretch, "percentiles": True}
        questions |= {
            f"dashboard, {span} by {by}": UsageQuery(**asked, group_by=[by]),
            f"dashboard, {span} by key": UsageQuery(**asked, group_by=["key"]),
            f"dashboard, {span} of one key by {by}": UsageQuery(
                **asked, group_by=[by], key_id="key_000007"
            ),
            f"dashboard, {span} of one model by {by}": UsageQuery(
                **asked, group_by=[by], model="vendor/model-3"
            ),
        }
    for name, question in questions.items():
        times = []
        for _ in range(3):
            began = time.perf_counter()
            groups = await store.usage(question)
            times.append(time.perf_counter() - began)
        requests = sum(group.requests for group in groups)
        print(
            f"usage, {name}: first {times[0]:.3f} s, then {min(times):.3f} s"
            f" ({len(groups):,} groups, {requests:,} requests)"
        )
    began = time.perf_counter()
    await store.spent({f"key_{number:06d}": BEGINS_AT + 1000.5 for number in range(KEYS)})
    print(f"spent of {KEYS} keys since an odd second: {time.perf_counter() - began:.3f} s")
    searches = {
        "the latest 50": RowQuery(limit=50),
        "the latest 100 of a rare key": RowQuery(limit=100, key_id="key_000999"),
        "the latest 50 of a model that failed": RowQuery(
            limit=50, model="vendor/model-3", status="failed"
        ),
        "the latest 50 with a status that is never there": RowQuery(limit=50, status=429),
    }
    for name, wanted in searches.items():
        began = time.perf_counter()
        page = await store.search(wanted)
        took_ms = (time.perf_counter() - began) * 1000
        print(f"{name}: {took_ms:.1f} ms ({len(page.rows)} rows, next {page.next_before})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"most memory of this process: {peak / 1024:.0f} MB")


async def run(url: str, count: int, batch: int) -> None:
    """Fill the database unless it is filled, and ask it."""
    await prepare(url)
    store = open_store(url)
    try:
        if await store.recent(limit=1):
            print("there are rows already: only asking", file=sys.stderr)
        else:
            await fill(store, count, batch)
        await report(store)
    finally:
        await store.aclose()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=1000, help="rows of one append")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--database", help="URL of a new database, or of one filled by this")
    where.add_argument("--embedded", action="store_true", help="a PostgreSQL for this run")
    given = parser.parse_args()
    if not given.embedded:
        asyncio.run(run(given.database, given.rows, given.batch))
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from servers import PostgresServer  # noqa: PLC0415 - where the tests are

    server = PostgresServer()
    try:
        server.start()
        asyncio.run(run(server.new_database(), given.rows, given.batch))
    finally:
        server.remove()


if __name__ == "__main__":
    main()
