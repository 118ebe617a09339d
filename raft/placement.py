"""Where a topic's replicas go: leaders and replicas spread evenly, racks kept apart, one seed one placement."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ottla.log.model import BrokerId

from .image import Broker, Partition

_MASK = 2**64 - 1


class Load(NamedTuple):
    """How many partitions each broker leads (as first replica) and how many it holds at all."""

    leaders: Counter[BrokerId]
    replicas: Counter[BrokerId]


def load_of(partitions: Iterable[tuple[BrokerId, ...]]) -> Load:
    """The load of these replica lists."""
    load = Load(Counter(), Counter())
    for replicas in partitions:
        load.leaders[replicas[0]] += 1
        load.replicas.update(replicas)
    return load


def load_of_cluster(topics: Iterable[Iterable[Partition]]) -> Load:
    """The load of all topics together."""
    return load_of(partition.replicas for partitions in topics for partition in partitions)


def place(
    brokers: Mapping[BrokerId, Broker],
    partition_count: int,
    replication_factor: int,
    seed: int,
    *,
    topic: Load,
    cluster: Load,
    first_partition: int = 0,
) -> list[tuple[BrokerId, ...]]:
    """Replica lists for ``partition_count`` new partitions.

    Even within the topic first, then over the cluster; the seed decides what is left. A broker that is fenced,
    draining or drained is no first replica while another can be, and holds replicas only where the others are too few.
    Asserts 1 <= replication_factor <= len(brokers).
    """
    assert 1 <= replication_factor <= len(brokers)
    within, overall = _copy(topic), _copy(cluster)
    placed = []
    for partition in range(first_partition, first_partition + partition_count):
        ranks = {broker: _mix(seed, partition, broker) for broker in brokers}
        replicas = _place_one(brokers, replication_factor, ranks, within, overall)
        for load in (within, overall):
            load.leaders[replicas[0]] += 1
            load.replicas.update(replicas)
        placed.append(replicas)
    return placed


def _place_one(
    brokers: Mapping[BrokerId, Broker], count: int, ranks: Mapping[BrokerId, int], topic: Load, cluster: Load
) -> tuple[BrokerId, ...]:
    def as_leader(broker: BrokerId) -> tuple[int, int, int, int, int, int]:
        return (
            _reluctance(brokers[broker]),
            topic.leaders[broker],
            topic.replicas[broker],
            cluster.leaders[broker],
            cluster.replicas[broker],
            ranks[broker],
        )

    def as_follower(broker: BrokerId) -> tuple[bool, int, int, int, int]:
        rack = brokers[broker].rack
        return (
            rack is not None and rack in racks,
            _reluctance(brokers[broker]),
            topic.replicas[broker],
            cluster.replicas[broker],
            ranks[broker],
        )

    chosen = [min(brokers, key=as_leader)]
    racks = {brokers[chosen[0]].rack}
    while len(chosen) < count:
        follower = min((broker for broker in brokers if broker not in chosen), key=as_follower)
        chosen.append(follower)
        racks.add(brokers[follower].rack)
    return tuple(chosen)


def _reluctance(broker: Broker) -> int:
    return 0 if broker.willing else 1 if broker.active else 2


def _copy(load: Load) -> Load:
    return Load(Counter(load.leaders), Counter(load.replicas))


def _mix(seed: int, partition: int, broker: int) -> int:
    """splitmix64 over the three: part of what a command decides, so it must be the same on every Python."""
    value = (seed * 0x9E3779B97F4A7C15 + partition * 0xBF58476D1CE4E5B9 + broker * 0x94D049BB133111EB) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
