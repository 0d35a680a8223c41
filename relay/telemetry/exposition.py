"""Prometheus' own form, by its own library; and what the system knows of this process.

Importing this costs 30 ms and 2 MB, so it is imported by whoever writes the first answer.
"""

from collections.abc import Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics

from relay.telemetry.counting import Snapshot, Value
from relay.telemetry.families import BY_NAME, FAMILIES, Family


def of_process() -> Snapshot:
    """CPU, memory and descriptors of this process; nothing where there is no /proc."""
    found = CollectorRegistry(auto_describe=False)
    return {
        sample.name: [((), sample.value)]
        for metric in ProcessCollector(registry=found).collect()
        for sample in metric.samples
        if sample.name in BY_NAME
    }


def exposed(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """The numbers as they are scraped, and the content type: of what `accept` asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Numbers(snapshot))
    if openmetrics.CONTENT_TYPE_LATEST.partition(";")[0] in accept:
        text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]  # there
        return text, openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


class _Numbers:
    """Collects what is there already. Every family is told of, also while it has no numbers."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client's `Collector`."""
        for family in FAMILIES:
            metric = _metric(family)
            for labels, value in self._snapshot.get(family.name, ()):
                _add(metric, family, labels, value)
            yield metric

    def describe(self) -> Iterable[Metric]:
        """Nothing else is registered, so no name can be taken."""
        return ()


def _metric(family: Family) -> Metric:
    if family.kind == "counter":
        return CounterMetricFamily(family.name, family.help, labels=family.labels)
    if family.kind == "gauge":
        return GaugeMetricFamily(family.name, family.help, labels=family.labels)
    return HistogramMetricFamily(family.name, family.help, labels=family.labels)


def _add(metric: Metric, family: Family, labels: Iterable[str], value: Value) -> None:
    if isinstance(metric, HistogramMetricFamily) and isinstance(value, list):
        *cells, sum_s = value
        bounds = [*(f"{bound:g}" for bound in family.buckets), "+Inf"]
        counts = list(zip(bounds, accumulate(cells), strict=True))
        metric.add_metric(list(labels), counts, sum_s)
    elif isinstance(metric, CounterMetricFamily | GaugeMetricFamily):
        assert not isinstance(value, list)  # noqa: S101  # only histograms have buckets
        metric.add_metric(list(labels), value)
