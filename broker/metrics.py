"""What `/metrics` tells, in Prometheus format and low cardinality."""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Gauges(Protocol):
    """Where the figures that are read at scrape time come from: pairs of name with help, and value."""

    def gauges(self) -> Iterable[tuple[str, str, float]]: ...


class Seconds:
    """A histogram of durations. Ours, because it is fed at every request: the library's takes a lock and five calls."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BUCKETS_S) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(_BUCKETS_S, seconds)] += 1
        self._sum_s += seconds

    def add_to(self, family: HistogramMetricFamily, label: str) -> None:
        """As the library shows it: counts up to each bound."""
        bounds = [*map(str, _BUCKETS_S), "+Inf"]
        family.add_metric([label], list(zip(bounds, accumulate(self._counts), strict=True)), self._sum_s)


class Metrics:
    """One node's metrics; a registry of its own, so that several nodes fit in one process.

    What hot paths count are plain numbers here, read when somebody scrapes.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.request_errors = Counter(
            "ottla_request_errors", "Requests or partitions refused, by error", ["error"], registry=self.registry
        )
        self.bytes_in = 0  # of batches received
        self.bytes_to_consumers = 0
        self.bytes_to_replicas = 0
        self._request_seconds: dict[str, Seconds] = {}
        self.connections = Counter("ottla_streams", "Streams opened, by kind", ["kind"], registry=self.registry)
        ProcessCollector(registry=self.registry)  # CPU, memory and open files, under Prometheus' usual names
        self._sources: list[Gauges] = []
        self.registry.register(self)

    def answered(self, api: str, seconds: float) -> None:
        """A request of that name was answered in that time."""
        taken = self._request_seconds.get(api)
        if taken is None:
            taken = self._request_seconds[api] = Seconds()
        taken.observe(seconds)

    def add_gauges(self, source: Gauges) -> None:
        """Have ``source`` asked at every scrape."""
        self._sources.append(source)

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        yield CounterMetricFamily("ottla_produce_bytes", "Bytes of batches received", value=self.bytes_in)
        sent = CounterMetricFamily("ottla_fetch_bytes", "Bytes of batches sent", labels=["to"])
        sent.add_metric(["consumer"], self.bytes_to_consumers)
        sent.add_metric(["replica"], self.bytes_to_replicas)
        yield sent
        taken = HistogramMetricFamily("ottla_request_seconds", "Time to answer a request", labels=["api"])
        for api, seconds in self._request_seconds.items():
            seconds.add_to(taken, api)
        yield taken
        for source in self._sources:
            for name, description, value in source.gauges():
                yield GaugeMetricFamily(name, description, value=value)

    def exposition(self) -> bytes:
        """The whole page."""
        return generate_latest(self.registry)
