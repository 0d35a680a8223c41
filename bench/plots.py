"""A run as pictures: cost against requests in flight, and latency percentiles."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.report import ALONE, STEADY, SWEPT, Outcome

mpl.use("Agg")  # no window is ever opened

COLOURS = {"direct": "#9aa0a6", "nginx": "#2e8b57", "relay": "#3455db"}
LABELS = ("p50", "p99", "p99.9")
KEYS = ("latency_p50", "latency_p99", "latency_p999")


def draw(raw: Mapping[str, Any], folder: Path) -> None:
    """Write `cost.png` and `latency.png`, as far as there are numbers."""
    outcome = Outcome(raw)
    _cost(outcome, folder / "cost.png")
    _latency(outcome, folder / "latency.png")


def _cost(outcome: Outcome, path: Path) -> None:
    works = [work for work in SWEPT if outcome.levels(work)]
    if not works:
        return
    figure, panels = plt.subplots(1, len(works), figsize=(5.5 * len(works), 4), squeeze=False)
    for panel, work in zip(panels[0], works, strict=True):
        levels = outcome.levels(work)
        for way in ("nginx", "relay"):
            costs = [outcome.number(f"{work}@{level}", way, "cpu_us") for level in levels]
            points = [(x, y) for x, y in zip(levels, costs, strict=True) if y is not None]
            if points:
                panel.plot(*zip(*points, strict=True), "o-", color=COLOURS[way], label=way)
            limit = outcome.cells[f"{work}@1"].work.limit
            if points and way == "nginx" and limit and limit.target != 1:
                xs, ys = zip(*points, strict=True)
                label = f"target: {limit.target} x nginx"
                panel.plot(xs, [y * limit.target for y in ys], "k:", alpha=0.5, label=label)
        panel.set_xscale("log", base=2)
        panel.set_xticks(levels, [str(level) for level in levels])
        panel.set_ylim(bottom=0)
        panel.set(title=outcome.cells[f"{work}@1"].work.title, xlabel="requests in flight")
        panel.set_ylabel("CPU µs per request")
        panel.grid(alpha=0.3)
        panel.legend()
    _save(figure, path)


def _latency(outcome: Outcome, path: Path) -> None:
    cells = {ALONE: "one request alone", STEADY: "1,000 requests a second"}
    cells = {name: title for name, title in cells.items() if name in outcome.rounds}
    if not cells:
        return
    figure, panels = plt.subplots(1, len(cells), figsize=(5.5 * len(cells), 4), squeeze=False)
    for panel, (name, title) in zip(panels[0], cells.items(), strict=True):
        ways = list(outcome.rounds[name])
        width = 0.8 / len(ways)
        for place, way in enumerate(ways):
            heights = [outcome.number(name, way, key) or 0 for key in KEYS]
            lefts = [x + (place - (len(ways) - 1) / 2) * width for x in range(len(KEYS))]
            panel.bar(lefts, heights, width * 0.9, color=COLOURS[way], label=way)
        panel.set_xticks(range(len(LABELS)), LABELS)
        panel.set_yscale("log")
        panel.set(title=f"small chat, {title}", ylabel="latency, µs")
        panel.grid(axis="y", alpha=0.3)
        panel.legend()
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
