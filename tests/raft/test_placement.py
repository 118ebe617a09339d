"""Placement: even, rack-aware, active leaders first, one seed one answer."""

from collections import Counter
from collections.abc import Mapping

from hypothesis import given, settings, strategies as st

from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId
from ottla.raft.image import Broker
from ottla.raft.placement import Load, load_of, place

NONE: Load = load_of(())


def broker(number: int, rack: str | None = None, *, fenced: bool = False, draining: bool = False) -> Broker:
    return Broker(
        BrokerId(number), BrokerEpoch(1), "i", DirectoryId("d"), "h", 1, rack, fenced, draining, fenced_index=1
    )


def cluster(*brokers: Broker) -> Mapping[BrokerId, Broker]:
    return {each.broker_id: each for each in brokers}


def spread(counts: Counter[BrokerId], brokers: Mapping[BrokerId, Broker]) -> int:
    return max(counts[each] for each in brokers) - min(counts[each] for each in brokers)


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.data(), st.integers(0, 2**64 - 1))
def test_leaders_and_replicas_are_spread_evenly(size: int, partitions: int, data: st.DataObject, seed: int) -> None:
    factor = data.draw(st.integers(1, size))
    brokers = cluster(*(broker(number) for number in range(1, size + 1)))
    placed = place(brokers, partitions, factor, seed, topic=NONE, cluster=NONE)
    assert all(len(set(replicas)) == factor for replicas in placed)
    load = load_of(placed)
    assert spread(load.leaders, brokers) <= 1
    assert spread(load.replicas, brokers) <= 2
    assert placed == place(dict(reversed(brokers.items())), partitions, factor, seed, topic=NONE, cluster=NONE)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=3, max_size=9), st.integers(1, 30), st.integers(0, 2**32))
def test_racks_are_distinct_when_possible(racks: list[str], partitions: int, seed: int) -> None:
    brokers = cluster(*(broker(number, rack) for number, rack in enumerate(racks, 1)))
    for replicas in place(brokers, partitions, 3, seed, topic=NONE, cluster=NONE):
        assert len({brokers[replica].rack for replica in replicas}) == min(3, len(set(racks)))


def test_fenced_and_draining_brokers_lead_nothing_and_hold_only_what_others_cannot() -> None:
    brokers = cluster(broker(1, fenced=True), broker(2), broker(3, draining=True), broker(4))
    two = place(brokers, 12, 2, 1, topic=NONE, cluster=NONE)
    assert {replica for replicas in two for replica in replicas} == {2, 4}
    three = load_of(place(brokers, 12, 3, 1, topic=NONE, cluster=NONE))
    assert three.leaders == {2: 6, 4: 6}
    assert three.replicas == {1: 6, 2: 12, 3: 6, 4: 12}


def test_small_topics_together_are_even_too() -> None:
    brokers = cluster(*(broker(number) for number in range(1, 4)))
    total = load_of(())
    for seed in range(30):
        for replicas in place(brokers, 1, 1, seed, topic=NONE, cluster=total):
            total.leaders[replicas[0]] += 1
            total.replicas.update(replicas)
    assert set(total.leaders.values()) == {10}


def test_growing_a_topic_fills_the_gaps() -> None:
    brokers = cluster(*(broker(number) for number in range(1, 4)))
    present = [(BrokerId(1),), (BrokerId(1),)]
    added = place(brokers, 4, 1, 9, topic=load_of(present), cluster=load_of(present), first_partition=2)
    assert load_of(present + added).leaders == {1: 2, 2: 2, 3: 2}


def test_one_seed_one_placement_for_ever() -> None:
    brokers = cluster(*(broker(number) for number in range(1, 5)))
    placed = place(brokers, 4, 3, 42, topic=NONE, cluster=NONE)
    assert placed == [(4, 3, 2), (1, 2, 3), (2, 4, 1), (3, 1, 4)]
