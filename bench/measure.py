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

PLAIN = "plain"
"""That of the way through a relay that only checks keys, beside one that does more."""

WARM_UP_REQUESTS = 100
WARM_UP_SHARE = 0.25
"""Of the measurement's own length."""

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
        least = max(cell.in_flight, WARM_UP_REQUESTS // cell.work.weight)
        warm = await load.run(least, limit_s=LIMIT_S)
        if warm.elapsed_s < seconds * WARM_UP_SHARE:
            warm = await load.run(
                _requests(warm.rate, seconds * WARM_UP_SHARE, least), limit_s=LIMIT_S
            )
        total = _requests(cell.rate or warm.rate, seconds, least)
        before = Meter.read(way.server)
        sample = await load.run(total, rate=cell.rate, limit_s=LIMIT_S)
        after = Meter.read(way.server)
    except OSError as exc:
        raise LoadError(f"no connection to {way.name}: {exc}") from exc
    finally:
        load.close()
    return _numbers(sample) | {
        "requests": total,
        "cpu_us": (after.cpu_s - before.cpu_s) / total * 1e6,
        "writes": (after.writes - before.writes) / total,
    }


@dataclass(frozen=True, slots=True)
class Meter:
    """What a server has used so far."""

    cpu_s: float = 0.0
    writes: int = 0

    @classmethod
    def read(cls, server: Server | None) -> "Meter":
        """The present state; nothing where nothing stands between."""
        return cls(server.cpu_s(), server.writes()) if server else cls()


def _requests(rate: float, seconds: float, least: int) -> int:
    """How many take about that long, within what makes sense."""
    return min(max(int(rate * seconds), least), MOST_REQUESTS)


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


def over_plain(rounds: Mapping[str, Sequence[Numbers]]) -> float | None:
    """CPU us that relay takes over the plain one: the median of the rounds' own differences."""
    pairs = zip(rounds.get("relay", ()), rounds.get(PLAIN, ()), strict=False)
    differences = [one["cpu_us"] - plain["cpu_us"] for one, plain in pairs]
    return median(differences) if differences else None
