"""What a small call costs where replicas share PostgreSQL and Redis: the table of docs/scale.md.

python -m bench.stores [--seconds S] [--rounds N]

One relay, a PostgreSQL and a Redis of this run's own, from wheels; needs what `make test` installs.
CPU of each program from before the first call until all rows are written, over the calls.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import uvloop

from bench import processes
from bench.load import Load
from bench.measure import LIMIT_S
from bench.processes import KEY, LIMITS, PRICES, Cores, FakeUpstream, Server
from bench.workloads import CHAT

IN_FLIGHT = 32
WARM_UP_S = 1.0
WRITTEN_AFTER_S = 2.5
"""By then the rows of the last second are in the database."""

SETUPS = {
    "a key, nothing kept": ("", ()),
    "a key, the ledger": (KEY + PRICES, ("PostgreSQL",)),
    "and a limit of requests per minute": (
        KEY + "rpm = 100000000\n" + PRICES,
        ("PostgreSQL", "Redis"),
    ),
    "all limits": (KEY + LIMITS + PRICES, ("PostgreSQL", "Redis")),
    "all limits at key and team": (
        f'{KEY}team = "bench"\n{LIMITS}\n[[teams]]\nname = "bench"\n{LIMITS}{PRICES}',
        ("PostgreSQL", "Redis"),
    ),
}
"""What the configuration holds, and which stores there are."""

SETTINGS = {"PostgreSQL": "RELAY_DATABASE_URL", "Redis": "RELAY_REDIS_URL"}


def family_cpu_s(root: int) -> float:
    """CPU time of a process and of all that it has started, so far; sessions do not matter."""
    found = dict(processes.running())
    family, seen = [str(root)], set[str]()
    while family:
        parent = family.pop()
        if parent in found:
            seen.add(parent)
            family += [pid for pid, fields in found.items() if fields[1] == parent]
    return sum(processes.cpu_s(found[pid]) for pid in seen)


async def cost(relay: Server, stores: Iterable[int], seconds: float) -> list[float]:
    """CPU microseconds a call: of the relay, then of each store (by process id)."""

    def used() -> list[float]:
        return [relay.cpu_s(), *map(family_cpu_s, stores)]

    load = Load(relay.port, CHAT.request(f"127.0.0.1:{relay.port}"))
    try:
        await load.open(IN_FLIGHT)
        warm = await load.run(IN_FLIGHT * 10, limit_s=LIMIT_S)
        warm = await load.run(int(warm.rate * WARM_UP_S), limit_s=LIMIT_S)
        calls = int(warm.rate * seconds)
        await asyncio.sleep(WRITTEN_AFTER_S)
        before = used()
        await load.run(calls, limit_s=LIMIT_S)
        await asyncio.sleep(WRITTEN_AFTER_S)
        return [(now - then) / calls * 1e6 for now, then in zip(used(), before, strict=True)]
    finally:
        load.close()


def run(target: FakeUpstream, folder: Path, cores: Cores, options: argparse.Namespace) -> None:
    """Measure all, print a table."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from servers import PostgresServer, RedisServer  # noqa: PLC0415 - where the tests are

    postgres, redis = PostgresServer(), RedisServer()
    try:
        postgres.start()
        redis.start()
        pids = {"PostgreSQL": postgres.pid, "Redis": redis.pid}
        print("| | relay | PostgreSQL | Redis |\n|---|---|---|---|")
        for number, (title, (setup, stores)) in enumerate(SETUPS.items()):
            urls = {"PostgreSQL": postgres.new_database(), "Redis": redis.url}
            env = {SETTINGS[store]: urls[store] for store in stores}
            where = folder / str(number)
            with processes.relay(where, cores, target, config=setup, settings=env) as relay:
                rounds = [
                    uvloop.run(cost(relay, pids.values(), options.seconds))
                    for _ in range(options.rounds)
                ]
            ours, *theirs = (median(one) for one in zip(*rounds, strict=True))
            shown = [
                f"{us:.0f} µs" if store in stores else "–"
                for store, us in zip(pids, theirs, strict=True)
            ]
            print(f"| {title} | {ours:.0f} µs | {' | '.join(shown)} |", flush=True)
    finally:
        postgres.remove()
        redis.remove()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of each, of which the median counts")
    options = parser.parse_args()
    processes.raise_file_limit()
    cores = Cores.available()
    os.sched_setaffinity(0, {cores.load})
    with (
        tempfile.TemporaryDirectory(prefix="relay-bench-") as folder,
        processes.upstream(Path(folder), cores) as target,
    ):
        run(target, Path(folder), cores, options)


if __name__ == "__main__":
    main()
