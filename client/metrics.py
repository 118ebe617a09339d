"""What producers and consumers have done so far, as numbers: counters since the start, gauges as of now."""

from collections import deque

import msgspec

SAMPLES_MAX = 1_000
"""Latencies kept, of the newest batches."""


class ProducerMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """``latency_ms_*``: of the newest batches, from the first record's ``send`` to the acknowledgement; None before
    the first. ``buffered_bytes``: of records that are not acknowledged yet."""

    records_sent: int
    records_acknowledged: int
    records_failed: int
    batches_acknowledged: int
    bytes_sent: int
    buffered_bytes: int
    latency_ms_p50: float | None
    latency_ms_p99: float | None
    seconds: float


class ConsumerMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """``lag``: records between the positions and the ends, summed, as the last answers told, a few seconds ago at most.
    ``records_read``: handed out, or passed over. ``buffered_bytes``: read ahead. ``commits``: 0 without a group."""

    group: str | None
    topics: tuple[str, ...]
    partitions: int
    records_read: int
    buffered_bytes: int
    lag: int
    commits: int
    seconds: float


class ClientMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Of the producers and consumers that are open."""

    producers: tuple[ProducerMetrics, ...]
    consumers: tuple[ConsumerMetrics, ...]


class Tally:
    """A producer's counters."""

    def __init__(self, now_s: float) -> None:
        self.started_s = now_s
        self.sent = 0
        self.sent_bytes = 0
        self.acknowledged = 0
        self.failed = 0
        self.batches = 0
        self._latencies_s: deque[float] = deque(maxlen=SAMPLES_MAX)

    def stored(self, records: int, latency_s: float) -> None:
        """A batch was acknowledged."""
        self.acknowledged += records
        self.batches += 1
        self._latencies_s.append(latency_s)

    def snapshot(self, now_s: float, buffered_bytes: int) -> ProducerMetrics:
        ordered = sorted(self._latencies_s)
        return ProducerMetrics(
            records_sent=self.sent,
            records_acknowledged=self.acknowledged,
            records_failed=self.failed,
            batches_acknowledged=self.batches,
            bytes_sent=self.sent_bytes,
            buffered_bytes=buffered_bytes,
            latency_ms_p50=_percentile_ms(ordered, 50),
            latency_ms_p99=_percentile_ms(ordered, 99),
            seconds=now_s - self.started_s,
        )


def _percentile_ms(ordered: list[float], percent: int) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1000, 3)
