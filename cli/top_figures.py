"""What `ottla top` tells: two looks at a cluster, and what happened between them. No network, no clock."""

from collections.abc import Mapping
from typing import Any, NamedTuple

SCRAPED = {
    "process_cpu_seconds_total": "cpu_s",
    "process_resident_memory_bytes": "memory_bytes",
    "ottla_produce_bytes_total": "bytes_in",
    'ottla_fetch_bytes_total{to="consumer"}': "bytes_out",
    'ottla_fetch_bytes_total{to="replica"}': "bytes_to_replicas",
}
REQUESTS = "ottla_request_seconds_count{"


class NodeFigures(NamedTuple):
    """Counters since the node's start, and its memory, as it tells them."""

    cpu_s: float | None = None
    memory_bytes: float | None = None
    bytes_in: float | None = None
    bytes_out: float | None = None
    bytes_to_replicas: float | None = None
    requests: float | None = None


class TopicFigures(NamedTuple):
    """``ends``: the sum of the end offsets that leaders told; None where one did not."""

    partitions: int
    ends: int | None


class GroupFigures(NamedTuple):
    state: str
    members: int
    lag: int | None


class Look(NamedTuple):
    """One look. ``nodes``: rows as `ottla status` has them. ``unseen``: topics and groups too many to be asked."""

    at_s: float
    status: Mapping[str, Any]
    figures: Mapping[int, NodeFigures]
    topics: Mapping[str, TopicFigures]
    groups: Mapping[str, GroupFigures]
    unseen: int = 0


def read_figures(exposition: str) -> NodeFigures:
    """Of a Prometheus page, what is wanted here; what is not a sample of it is passed over."""
    found: dict[str, float] = {}
    for line in exposition.splitlines():
        name, _, text = line.rpartition(" ")
        field = "requests" if name.startswith(REQUESTS) else SCRAPED.get(name)
        if field is None:
            continue
        try:
            found[field] = found.get(field, 0.0) + float(text)
        except ValueError:
            continue
    return NodeFigures(**found)


def compare(before: Look | None, now: Look) -> dict[str, Any]:
    """A document of what is there and, with a look before, of what goes on."""
    seconds = None if before is None else max(now.at_s - before.at_s, 1e-6)
    nodes = [_node(row, before, now, seconds) for row in now.status["nodes"]]
    topics = [_topic(name, before, now, seconds) for name in now.topics]
    groups = [_group(name, before, now, seconds) for name in now.groups]
    return {
        **{name: now.status[name] for name in ("cluster_id", "quorum_leader", "quorum_term", "problems")},
        **{name: now.status[name] for name in ("partitions", "under_replicated", "leaderless")},
        "seconds": None if seconds is None else round(seconds, 3),
        "records_per_s": _sum(topic["records_per_s"] for topic in topics),
        "in_bytes_per_s": _sum(node["in_bytes_per_s"] for node in nodes),
        "out_bytes_per_s": _sum(node["out_bytes_per_s"] for node in nodes),
        "nodes": nodes,
        "topics": sorted(topics, key=lambda row: (-(row["records_per_s"] or 0), row["topic"])),
        "groups": sorted(groups, key=lambda row: (-(row["lag"] or 0), row["group"])),
        "unseen": now.unseen,
    }


def _node(row: Mapping[str, Any], before: Look | None, now: Look, seconds: float | None) -> dict[str, Any]:
    figures = now.figures.get(row["node"], NodeFigures())
    earlier = NodeFigures() if before is None else before.figures.get(row["node"], NodeFigures())
    return {
        **{
            name: row[name] for name in ("node", "address", "state", "quorum", "leads", "holds", "log_bytes", "problem")
        },
        "cpu_percent": _rate(earlier.cpu_s, figures.cpu_s, seconds, 100.0),
        "memory_bytes": None if figures.memory_bytes is None else int(figures.memory_bytes),
        "in_bytes_per_s": _rate(earlier.bytes_in, figures.bytes_in, seconds),
        "out_bytes_per_s": _rate(earlier.bytes_out, figures.bytes_out, seconds),
        "replica_bytes_per_s": _rate(earlier.bytes_to_replicas, figures.bytes_to_replicas, seconds),
        "requests_per_s": _rate(earlier.requests, figures.requests, seconds),
    }


def _topic(name: str, before: Look | None, now: Look, seconds: float | None) -> dict[str, Any]:
    figures = now.topics[name]
    earlier = None if before is None or name not in before.topics else before.topics[name].ends
    return {
        "topic": name,
        "partitions": figures.partitions,
        "records_per_s": _rate(earlier, figures.ends, seconds),
        "ends": figures.ends,
    }


def _group(name: str, before: Look | None, now: Look, seconds: float | None) -> dict[str, Any]:
    figures = now.groups[name]
    earlier = None if before is None or name not in before.groups else before.groups[name].lag
    change = None
    if seconds is not None and earlier is not None and figures.lag is not None:
        change = round((figures.lag - earlier) / seconds, 1)
    return {"group": name, **figures._asdict(), "lag_change_per_s": change}


def _rate(earlier: float | None, now: float | None, seconds: float | None, scale: float = 1.0) -> float | None:
    """None where it is not known. Never below nothing: a node that started anew counts from nothing again."""
    if earlier is None or now is None or seconds is None:
        return None
    return round(scale * max(0.0, now - earlier) / seconds, 1)


def _sum(rates: Any) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return round(sum(known), 1) if known else None
