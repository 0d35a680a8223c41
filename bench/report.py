"""A run as tables, for people, and as JSON, for programs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measure import DIRECT, Numbers, medians, over_plain, ratio
from bench.workloads import RATE, Cell, Limit, plan

Rounds = Mapping[str, Sequence[Numbers]]

MOST_ADDED = 2.0
"""relay may add this many times what nginx adds, to one request alone and to a chunk."""

MOST_BYTES_PER_STREAM = 30_000

MOST_OVER_PLAIN = {"counted@16": 25.0}
"""CPU us that all which is counted may take over the bare key check."""

COSTS = (
    "chat@16",
    "stream@16",
    "paced@128",
    "tls@16",
    "routed@16",
    "counted@16",
    "body-1k@16",
    "body-100k@16",
    "body-5m@4",
)
SWEPT = ("chat", "stream")
ALONE = "chat@1"
STEADY = f"chat@64/{RATE}ps"
CHUNK_ALONE = "paced@1"
PUBLISHED_UNDER = "## The last numbers"
NOTHING = "–"


class Outcome:
    """The numbers of a run, by cell and system."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        every = [*raw["cells"], *([raw["memory"]] if raw["memory"] else [])]
        self.rounds: dict[str, Rounds] = {one["cell"]: one["rounds"] for one in every}
        self.failures = [
            (one["cell"], way, reason) for one in every for way, reason in one["failures"].items()
        ]
        self.cells: dict[str, Cell] = {cell.name: cell for cell in plan(quick=False)}

    def number(self, cell: str, way: str, key: str) -> float | None:
        """A number's median over the rounds, if it was measured."""
        return medians(self.rounds.get(cell, {}).get(way, ())).get(key)

    def ratio(self, cell: str) -> float | None:
        """relay's CPU over nginx's."""
        return ratio(self.rounds.get(cell, {}))

    def added(self, cell: str, way: str, key: str) -> float | None:
        """What going through that system adds to going direct."""
        through, direct = self.number(cell, way, key), self.number(cell, DIRECT, key)
        return None if through is None or direct is None else through - direct

    def levels(self, work: str) -> list[int]:
        """Numbers in flight at which that work was measured."""
        names = [name for name in self.rounds if name.startswith(f"{work}@") and "/" not in name]
        return sorted(int(name.partition("@")[2]) for name in names)


def write(raw: Mapping[str, Any], folder: Path) -> None:
    """Write `latest.json` and `latest.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    (folder / "latest.md").write_text(markdown(raw), encoding="utf-8")


def publish(raw: Mapping[str, Any], readme: Path) -> None:
    """Replace the last numbers of the README."""
    before, heading, _ = readme.read_text(encoding="utf-8").partition(PUBLISHED_UNDER)
    # One level down, and the date's line no heading any more.
    title, _, tables = markdown(raw).removeprefix("# ").partition("\n")
    text = f"{title}: {tables.strip()}\n".replace("\n## ", "\n### ").replace(": \n\n", ": ", 1)
    pictures = "".join(f"\n![{name}](results/{name}.png)\n" for name in ("cost", "latency"))
    readme.write_text(f"{before}{heading}\n\n{text}{pictures}", encoding="utf-8")


def markdown(raw: Mapping[str, Any]) -> str:
    """All tables that there are numbers for."""
    outcome = Outcome(raw)
    machine = "; ".join(f"{name} {value}" for name, value in raw["machine"].items())
    how = f"{raw['rounds']} rounds of {raw['seconds']} s; the medians are shown."
    parts = [f"# Benchmark of {raw['when']}\n\n{machine}. {how}\n"]
    parts += [
        f"## {title}\n\n" + "\n".join(lines) + "\n"
        for title, lines in (
            ("CPU per request, µs", list(_costs(outcome))),
            ("CPU per request by requests in flight, µs", list(_sweep(outcome))),
            ("Latency, µs", list(_latencies(outcome))),
            ("Streams, µs", list(_streams(outcome))),
            ("Memory per open stream", list(_memory(outcome))),
            ("Failed", [f"- {cell}, {way}: {reason}" for cell, way, reason in outcome.failures]),
        )
        if lines
    ]
    return "\n".join(parts)


def line(cell: str, rounds: Rounds, failures: Mapping[str, str]) -> str:
    """What is printed as soon as a cell is done."""
    words = [f"{cell:<16}"]
    for way, numbers in rounds.items():
        one = medians(numbers)
        if "bytes_each" in one:
            words.append(f"{way} {one['bytes_each'] / 1000:.1f} kB x {one['streams']:.0f}")
        elif way != DIRECT:
            words.append(f"{way} {one['cpu_us']:.0f} µs, {one['rps']:.0f}/s")
    overall = ratio(rounds)
    if overall is not None:
        words.append(f"ratio {overall:.2f}")
    words += [f"{way} FAILED: {reason}" for way, reason in failures.items()]
    return "  ".join(words)


def _costs(outcome: Outcome) -> Iterator[str]:
    names = [name for name in COSTS if name in outcome.rounds]
    if names:
        yield from _head(
            "work", "in flight", "nginx", "relay", "ratio", "target", "floor", "",
            "nginx req/s", "relay req/s", "nginx writes", "relay writes",
        )  # fmt: skip
    for name in names:
        cell, found = outcome.cells[name], outcome.ratio(name)
        limit = cell.work.limit
        yield _row(
            cell.work.title,
            cell.in_flight,
            *(_number(outcome.number(name, way, "cpu_us"), 1) for way in ("nginx", "relay")),
            _number(found, 2),
            limit.target if limit else NOTHING,
            limit.floor if limit else NOTHING,
            _verdict(found, limit),
            *(_number(outcome.number(name, way, "rps")) for way in ("nginx", "relay")),
            *(_number(outcome.number(name, way, "writes"), 1) for way in ("nginx", "relay")),
        )
    for name in names:
        if (more := over_plain(outcome.rounds[name])) is not None:
            yield ""
            yield f"{name} over the key check alone, measured by turns: {_more(name, more)}."


def _more(cell: str, more_us: float) -> str:
    most = MOST_OVER_PLAIN.get(cell)
    if most is None:
        return f"{more_us:.1f} µs"
    verdict = "reached" if more_us <= most else "**missed**"
    return f"{more_us:.1f} µs (at most {most:.0f}: {verdict})"


def _sweep(outcome: Outcome) -> Iterator[str]:
    levels = sorted({level for work in SWEPT for level in outcome.levels(work)})
    if levels:
        yield from _head(
            "in flight", "chat: nginx", "relay", "ratio", "", "stream: nginx", "relay", "ratio", ""
        )
    for level in levels:
        cells: list[object] = []
        for work in SWEPT:
            name = f"{work}@{level}"
            found = outcome.ratio(name)
            cells += [
                *(_number(outcome.number(name, way, "cpu_us"), 1) for way in ("nginx", "relay")),
                _number(found, 2),
                _verdict(found, outcome.cells[name].work.limit if name in outcome.cells else None),
            ]
        yield _row(level, *cells)


def _latencies(outcome: Outcome) -> Iterator[str]:
    names = [name for name in outcome.rounds if name.startswith("chat@")]
    if names:
        yield from _head(
            "requests", "way", "p50", "p99", "p99.9", "added p50", "added p99", "added p99.9"
        )
    for name in names:
        for way in outcome.rounds[name]:
            keys = ("latency_p50", "latency_p99", "latency_p999")
            yield _row(
                name,
                way,
                *(_number(outcome.number(name, way, key)) for key in keys),
                *(_number(_added(outcome, name, way, key)) for key in keys),
            )
    yield from _compared(outcome, ALONE, "latency_p50", "One request alone, added at p50")


def _streams(outcome: Outcome) -> Iterator[str]:
    names = [name for name in outcome.rounds if name.startswith(("stream@", "paced@"))]
    if names:
        yield from _head(
            "streams", "way", "first chunk p50", "p99", "p99.9", "chunk delay p50", "p99",
            "jitter p50", "p99", "p99.9", "writes",
        )  # fmt: skip
    keys = ["ttft_p50", "ttft_p99", "ttft_p999", "delay_p50", "delay_p99"]
    keys += ["jitter_p50", "jitter_p99", "jitter_p999"]
    for name in names:
        for way in outcome.rounds[name]:
            yield _row(
                name,
                way,
                *(_number(outcome.number(name, way, key)) for key in keys),
                _number(outcome.number(name, way, "writes"), 1),
            )
    title = "A chunk's way through, added at p50"
    yield from _compared(outcome, CHUNK_ALONE, "delay_p50", title)


def _compared(outcome: Outcome, cell: str, key: str, title: str) -> Iterator[str]:
    """A line on what relay adds, as a multiple of what nginx adds."""
    nginx, relay = (outcome.added(cell, way, key) for way in ("nginx", "relay"))
    if nginx and relay and nginx > 0:
        found = relay / nginx
        verdict = "reached" if found <= MOST_ADDED else "**missed**"
        yield ""
        yield (
            f"{title} ({cell}): nginx {nginx:.0f}, relay {relay:.0f}, ratio {found:.2f} "
            f"(at most {MOST_ADDED}: {verdict})."
        )


def _memory(outcome: Outcome) -> Iterator[str]:
    for way in outcome.rounds.get("memory", {}):
        each = outcome.number("memory", way, "bytes_each") or 0
        streams = outcome.number("memory", way, "streams") or 0
        text = f"- {way}: {each / 1000:.1f} kB each, {streams:.0f} open and alive to the end"
        if way == "relay":
            verdict = "reached" if each < MOST_BYTES_PER_STREAM else "**missed**"
            text += f" (under {MOST_BYTES_PER_STREAM // 1000} kB: {verdict})"
        yield text


def _added(outcome: Outcome, cell: str, way: str, key: str) -> float | None:
    return None if way == DIRECT else outcome.added(cell, way, key)


def _verdict(found: float | None, limit: Limit | None) -> str:
    if found is None or limit is None:
        return ""
    if found <= limit.target:
        return "reached"
    return "above the target" if found <= limit.floor else "**missed**"


def _head(*titles: str) -> Iterator[str]:
    yield _row(*titles)
    yield "|" + "---|" * len(titles)


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _number(value: float | None, digits: int = 0) -> str:
    return NOTHING if value is None else f"{value:,.{digits}f}"
