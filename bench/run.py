"""`make bench`: measure relay and nginx side by side, write `bench/results/`.

python -m bench.run [--quick] [--only NAME] [--seconds S] [--rounds N]
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvloop

from bench import memory, processes, report
from bench.load import LoadError
from bench.measure import DIRECT, PLAIN, Numbers, Way, measure
from bench.processes import Cores, FakeUpstream
from bench.workloads import Cell, plan

try:
    from bench import plots
except ImportError:  # the tables need no matplotlib
    plots = None  # type: ignore[assignment]

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PARTIAL = RESULTS / "partial.tmp"
"""What is not a whole run must not replace one."""

IDLE_STREAMS = 10_000

MORE_ROUNDS = 3

STARTERS = {"nginx": processes.nginx, "relay": processes.relay}


@dataclass(slots=True)
class Result:
    """The rounds of one cell, by system; a system that failed has a reason instead."""

    cell: str
    rounds: dict[str, list[Numbers]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class Bench:
    """A whole run."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._seconds: float = options.seconds or (0.5 if options.quick else 2.0)
        self._rounds: int = options.rounds or (1 if options.quick else 3)
        self._streams: int = options.streams or (1000 if options.quick else IDLE_STREAMS)
        self._only: list[str] = options.only
        self._cells = [cell for cell in plan(quick=options.quick) if self._wanted(cell.name)]
        self._folder = folder
        self._files = processes.raise_file_limit()
        self._cores = Cores.available()
        self._systems = ["nginx", "relay"] if processes.nginx_path() else ["relay"]
        if options.without_relay:
            self._systems.remove("relay")

    def run(self) -> dict[str, Any]:
        """Measure everything that is wanted."""
        os.sched_setaffinity(0, {self._cores.load})
        results = []
        with processes.upstream(self._folder, self._cores) as target:
            for (tls, setup), cells in self._by_setup().items():
                with self._ways(target, tls=tls, setup=setup) as ways:
                    results += [self._measure(cell, ways) for cell in cells]
            weights = self._weigh(target) if self._wanted("memory") else None
        return {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": self._machine(),
            "rounds": self._rounds,
            "seconds": self._seconds,
            "cells": [asdict(result) for result in results],
            "memory": weights and asdict(weights),
        }

    def _by_setup(self) -> dict[tuple[bool, str], list[Cell]]:
        """The cells that the same servers answer, together."""
        groups: dict[tuple[bool, str], list[Cell]] = {}
        for cell in self._cells:
            groups.setdefault((cell.work.tls, cell.work.setup), []).append(cell)
        return groups

    def _wanted(self, name: str) -> bool:
        work = name.partition("@")[0]
        return not self._only or any(fnmatch(name, only) or work == only for only in self._only)

    @contextmanager
    def _ways(self, target: FakeUpstream, *, tls: bool, setup: str) -> Iterator[list[Way]]:
        """All systems, running; the ones that are not asked just now cost next to nothing."""
        with ExitStack() as stack:
            ways = [] if tls else [Way(DIRECT, target.server.port)]
            for name in self._systems:
                folder = self._folder / f"{name}{'-tls' * tls}{setup}"
                starting = STARTERS[name](folder, self._cores, target, tls=tls, setup=setup)
                server = stack.enter_context(starting)
                ways.append(Way(name, server.port, server))
            if setup and "relay" in self._systems:
                beside = processes.relay(self._folder / f"{PLAIN}{setup}", self._cores, target)
                server = stack.enter_context(beside)
                ways.append(Way(PLAIN, server.port, server))
            yield ways

    def _measure(self, cell: Cell, ways: list[Way]) -> Result:
        """The rounds go A B A B, so that what else the machine does meets all systems alike."""
        result = Result(cell.name)
        # A difference of a few µs needs more of them than a ratio of two or three.
        beside_plain = any(way.name == PLAIN for way in ways)
        for _ in range(self._rounds * (MORE_ROUNDS if beside_plain else 1)):
            for way in ways:
                if way.name in result.failures:
                    continue
                try:
                    numbers = uvloop.run(measure(cell, way, self._seconds))
                except LoadError as exc:
                    result.failures[way.name] = str(exc)
                    result.rounds.pop(way.name, None)
                else:
                    result.rounds.setdefault(way.name, []).append(numbers)
        print(report.line(cell.name, result.rounds, result.failures), flush=True)
        return result

    def _weigh(self, target: FakeUpstream) -> Result:
        """Each system fresh, so that nothing earlier has grown its memory already."""
        result = Result("memory")
        streams = memory.possible(self._streams, self._files)
        for name in self._systems:
            folder = self._folder / f"{name}-memory"
            with STARTERS[name](folder, self._cores, target) as server:
                way = Way(name, server.port, server)
                try:
                    result.rounds[name] = [uvloop.run(memory.weigh(way, target, streams))]
                except LoadError as exc:
                    result.failures[name] = str(exc)
        print(report.line("memory", result.rounds, result.failures), flush=True)
        return result

    def _machine(self) -> dict[str, str]:
        cpu = next(
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith(("model name", "CPU part"))
        )
        done = subprocess.run(
            [processes.nginx_path() or "true", "-v"], capture_output=True, text=True, check=False
        )
        return {
            "cpu": f"{cpu}, {os.cpu_count()} cores",
            "kernel": platform.release(),
            "python": platform.python_version(),
            "uvloop": version("uvloop"),
            "nginx": done.stderr.strip().partition("/")[2] or "not installed",
            "load average at the end": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        }


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute, to see that all works")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="cells of that name (chat@16, stream@*, tls, memory); repeatable",
    )
    parser.add_argument("--seconds", type=float, help="of one measurement (2; quick: 0.5)")
    parser.add_argument("--rounds", type=int, help="of each measurement (3; quick: 1)")
    parser.add_argument(
        "--streams", type=int, help="idle ones, for the memory (10000; quick: 1000)"
    )
    parser.add_argument("--without-relay", action="store_true", help="nginx alone")
    parser.add_argument("--results", type=Path, help="where to write")
    parser.add_argument(
        "--publish", action="store_true", help="write the tables into README.md, too"
    )
    parser.add_argument("--report", type=Path, metavar="JSON", help="only write tables and plots")
    return parser.parse_args(arguments)


def main() -> None:
    """The command."""
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    if options.report:
        outcome = json.loads(options.report.read_text(encoding="utf-8"))
    else:
        with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder:
            outcome = Bench(options, Path(folder)).run()
    whole = not (options.quick or options.only or options.without_relay)
    results: Path = options.results or (RESULTS if whole else PARTIAL)
    report.write(outcome, results)
    if plots:
        plots.draw(outcome, results)
    if options.publish:
        report.publish(outcome, HERE / "README.md")
    print(f"\nwritten to {results}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
