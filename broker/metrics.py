"""What `/metrics` tells, in Prometheus format and low cardinality."""

from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Gauges(Protocol):
    """Where the figures that are read at scrape time come from: pairs of name with help, and value."""

    def gauges(self) -> Iterable[tuple[str, str, float]]: ...


class Metrics:
    """One node's metrics; a registry of its own, so that several nodes fit in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.request_seconds = Histogram(
            "ottla_request_seconds", "Time to answer a request", ["api"], buckets=_BUCKETS_S, registry=self.registry
        )
        self.request_errors = Counter(
            "ottla_request_errors", "Requests or partitions refused, by error", ["error"], registry=self.registry
        )
        self.bytes_in = Counter("ottla_produce_bytes", "Bytes of batches received", registry=self.registry)
        bytes_out = Counter("ottla_fetch_bytes", "Bytes of batches sent", ["to"], registry=self.registry)
        self.bytes_to_consumers = bytes_out.labels(to="consumer")
        self.bytes_to_replicas = bytes_out.labels(to="replica")
        self.connections = Counter("ottla_streams", "Streams opened, by kind", ["kind"], registry=self.registry)
        ProcessCollector(registry=self.registry)  # CPU, memory and open files, under Prometheus' usual names
        self._sources: list[Gauges] = []
        self.registry.register(self)

    def add_gauges(self, source: Gauges) -> None:
        """Have ``source`` asked at every scrape."""
        self._sources.append(source)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """For the registry."""
        for source in self._sources:
            for name, description, value in source.gauges():
                yield GaugeMetricFamily(name, description, value=value)

    def exposition(self) -> bytes:
        """The whole page."""
        return generate_latest(self.registry)
