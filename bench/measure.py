"""One measurement, its rounds, and their medians.

CPU time is taken from before the first request to after the last answer, over a number of requests
that is fixed beforehand. So every answer that cost something is counted, and nothing else is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.load import Load, LoadError, Sample
from bench.processes import Server
from bench.workloads import Cell

Numbers = dict[str, float]

DIRECT = "direct"
"""The name of the way to the upstream with nothing between."""

WARM_UP_REQUESTS = 100
MOST_REQUESTS = 300_000
LIMIT_S = 120
"""Longest that one warm-up or one measurement may take."""

PERCENTILES = {"p50": 0.50, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True, slots=True)
class Way:
    """A way to the upstream; `server` is what stands between, if anything does."""

    name: str
    port: int
    server: Server | None = None


async def measure(cell: Cell, way: Way, seconds: float) -> Numbers:
    """Ask for about that long, after a warm-up that also tells how many requests that is.

    Raises:
        LoadError: an answer was wrong or missing.
    """
    load = Load(way.port, cell.work.request(f"127.0.0.1:{way.port}"), cell.work.chunks)
    try:
        await load.open(cell.in_flight)
        warm = await load.run(max(cell.in_flight, WARM_UP_REQUESTS // _weight(cell)), limit_s=LIMIT_S)
        total = int((cell.rate or warm.rate) * seconds)
        total = min(max(total, cell.in_flight, 20), MOST_REQUESTS)
        before_s = way.server.cpu_s() if way.server else 0.0
        sample = await load.run(total, rate=cell.rate, limit_s=LIMIT_S)
        after_s = way.server.cpu_s() if way.server else 0.0
    except OSError as exc:
        raise LoadError(f"no connection to {way.name}: {exc}") from exc
    finally:
        load.close()
    return _numbers(sample) | {"cpu_us": (after_s - before_s) / total * 1e6, "requests": total}


def _weight(cell: Cell) -> int:
    """How much longer than a small one a request of this kind takes, very roughly."""
    return 20 if cell.work.chunks or cell.work.body_bytes > 1_000_000 else 1


def _numbers(sample: Sample) -> Numbers:
    """Rates and percentiles; times in microseconds."""
    numbers: Numbers = {
        "rps": sample.rate,
        "seconds": sample.elapsed_s,
        "reads": sample.reads / len(sample.latencies),
    }
    for name, values in {
        "latency": sample.latencies,
        "ttft": sample.firsts,
        "delay": sample.delays,
        "jitter": sample.jitters,
    }.items():
        ordered = sorted(values)
        for label, share in PERCENTILES.items():
            if ordered:
                numbers[f"{name}_{label}"] = percentile(ordered, share) / 1000
    return numbers


def percentile(ordered: Sequence[int], share: float) -> int:
    """The value that this share of the others does not exceed (nearest rank)."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def medians(rounds: Sequence[Numbers]) -> Numbers:
    """Each number's median over the rounds."""
    return {key: median(one[key] for one in rounds) for key in rounds[0]} if rounds else {}


def ratio(rounds: Mapping[str, Sequence[Numbers]], key: str = "cpu_us") -> float | None:
    """relay over nginx: the median of the rounds' own ratios, as both shared a round's noise."""
    pairs = zip(rounds.get("relay", ()), rounds.get("nginx", ()), strict=False)
    ratios = [ours[key] / theirs[key] for ours, theirs in pairs if theirs.get(key)]
    return median(ratios) if ratios else None
