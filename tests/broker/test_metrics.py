"""What a scrape tells of what hot paths count in plain numbers."""

from prometheus_client.parser import text_string_to_metric_families

from ottla.broker.metrics import Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_bytes_are_told_as_counters() -> None:
    metrics = Metrics()
    metrics.bytes_in += 7
    metrics.bytes_to_consumers += 3
    metrics.bytes_to_replicas += 5
    found = samples(metrics)
    assert found["ottla_produce_bytes_total", ()] == 7
    assert found["ottla_fetch_bytes_total", (("to", "consumer"),)] == 3
    assert found["ottla_fetch_bytes_total", (("to", "replica"),)] == 5


def test_durations_are_told_as_a_histogram_whose_counts_only_rise() -> None:
    metrics = Metrics()
    for seconds in (0.0001, 0.0005, 0.002, 3.0, 60.0):
        metrics.answered("produce", seconds)
    metrics.answered("fetch", 1.0)
    found = samples(metrics)
    name, produce = "ottla_request_seconds_bucket", ("api", "produce")
    counts = {
        le: found[name, (produce, ("le", le))] for le in ("0.0005", "0.001", "0.0025", "2.5", "5.0", "10.0", "+Inf")
    }
    assert counts == {"0.0005": 2, "0.001": 2, "0.0025": 3, "2.5": 3, "5.0": 4, "10.0": 4, "+Inf": 5}
    assert found["ottla_request_seconds_count", (produce,)] == 5
    assert abs(found["ottla_request_seconds_sum", (produce,)] - 63.0026) < 1e-9
    assert found["ottla_request_seconds_count", (("api", "fetch"),)] == 1
