"""Leaderships go back: to who stayed, a few at a time, and soon after somebody came back."""

from msgspec.structs import replace

from ottla.log.model import BrokerEpoch, BrokerId
from ottla.raft import balancing
from ottla.raft.balancing import ELECTIONS_AT_ONCE, ROUND_S, SETTLE_S, Balancer, imbalance
from ottla.raft.commands import CreateTopic, SetDrained
from ottla.raft.image import MetadataImage

from .metadata_cluster import TOPIC, Cluster

ALL = frozenset(BrokerId(n) for n in (1, 2, 3))


def unbalanced(partitions: int = 1) -> Cluster:
    """Broker 1 is preferred everywhere, is in sync, and leads nothing."""
    cluster = Cluster()
    cluster.start(1, 2, 3)
    replicas = (BrokerId(1), BrokerId(2), BrokerId(3))
    cluster(CreateTopic("t", TOPIC, assignments=(replicas,) * partitions))
    cluster(SetDrained(BrokerId(1), True))
    cluster(SetDrained(BrokerId(1), False))
    assert all(partition.leader == 2 for partition in cluster.image.topics["t"].partitions)
    return cluster


def test_nothing_is_moved_where_all_is_as_preferred() -> None:
    cluster = Cluster()
    cluster.start(1, 2, 3)
    cluster.create(1, 2, 3)
    assert imbalance(cluster.image, ALL, 10) == ()


def test_who_has_just_come_is_not_led_to_and_who_is_not_in_sync_neither() -> None:
    cluster = unbalanced()
    assert len(imbalance(cluster.image, ALL, 10)) == 1
    assert imbalance(cluster.image, ALL - {1}, 10) == ()
    cluster.alter(2, 3)
    assert imbalance(cluster.image, ALL, 10) == ()


def test_a_round_comes_once_who_came_has_settled_and_then_again_soon() -> None:
    cluster, balancer = unbalanced(), Balancer(300.0)
    assert balancer.round(cluster.image, 100.0) is None
    assert balancer.round(cluster.image, 100.0 + SETTLE_S - 1) is None
    body = balancer.round(cluster.image, 100.0 + SETTLE_S)
    assert body is not None
    cluster(body)
    assert cluster.partition().leader == 1
    assert balancer.round(cluster.image, 100.0 + SETTLE_S + ROUND_S) is None


def test_who_keeps_failing_never_settles() -> None:
    cluster, balancer = unbalanced(), Balancer(300.0)
    image = cluster.image
    for second in range(0, 60, 5):
        assert balancer.round(_incarnation(image, second), float(second)) is None


def test_a_round_moves_few_and_the_next_goes_on() -> None:
    cluster, balancer = unbalanced(ELECTIONS_AT_ONCE + 7), Balancer(300.0)
    balancer.round(cluster.image, 0.0)
    first = balancer.round(cluster.image, SETTLE_S)
    assert first is not None
    assert len(first.elections) == ELECTIONS_AT_ONCE
    cluster(first)
    assert balancer.round(cluster.image, SETTLE_S + ROUND_S / 2) is None
    second = balancer.round(cluster.image, SETTLE_S + ROUND_S)
    assert second is not None
    assert len(second.elections) == 7


def test_long_after_anybody_came_looks_are_rare() -> None:
    cluster, balancer = unbalanced(), Balancer(300.0)
    balanced = replace(cluster.image, topics={})
    looks: list[float] = []
    real = balancing.imbalance

    def counted(*arguments: object) -> object:
        looks.append(now_s)
        return real(*arguments)  # type: ignore[arg-type]

    balancing.imbalance = counted  # type: ignore[assignment]
    try:
        for tenth in range(20_000):
            now_s = tenth / 10
            balancer.round(balanced, now_s)
    finally:
        balancing.imbalance = real
    assert 25 <= sum(look < 310 for look in looks) <= 35
    assert sum(look > 310 for look in looks) <= 6


def test_a_new_controller_lets_everybody_settle_first() -> None:
    cluster, balancer = unbalanced(), Balancer(300.0)
    balancer.round(cluster.image, 0.0)
    balancer.clear()
    assert balancer.round(cluster.image, SETTLE_S) is None
    assert balancer.round(cluster.image, 2 * SETTLE_S) is not None


def _incarnation(image: MetadataImage, epoch: int) -> MetadataImage:
    first = replace(image.brokers[BrokerId(1)], broker_epoch=BrokerEpoch(1000 + epoch))
    return replace(image, brokers={**image.brokers, first.broker_id: first})
