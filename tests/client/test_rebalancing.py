"""The plan of a rebalancing: even, racks apart, no needless move, and every partition keeps its number of replicas."""

from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from ottla.client.rebalancing import DoesNotFit, Move, Place, Racks, Replicas, plan, spread, vacate
from ottla.log.model import BrokerId


@st.composite
def layouts(draw: st.DrawFn) -> tuple[dict[Place, Replicas], dict[BrokerId, str | None]]:
    """Up to twelve partitions anywhere on up to six brokers, one replication factor."""
    brokers = [BrokerId(n) for n in range(1, draw(st.integers(1, 6)) + 1)]
    racks = {broker: draw(st.sampled_from(["a", "b", "c"])) for broker in brokers}
    named = draw(st.booleans())
    factor = draw(st.integers(1, len(brokers)))
    partitions = {
        ("t", number): tuple(draw(st.permutations(brokers))[:factor]) for number in range(draw(st.integers(0, 12)))
    }
    return partitions, {broker: racks[broker] if named else None for broker in brokers}


def carried_out(partitions: dict[Place, Replicas], moves: list[Move]) -> dict[Place, Replicas]:
    return {**partitions, **{move.place: move.after for move in moves}}


def held(partitions: dict[Place, Replicas], racks: Racks) -> dict[BrokerId, int]:
    counted = Counter(broker for replicas in partitions.values() for broker in replicas)
    return {broker: counted[broker] for broker in racks}


def leads(partitions: dict[Place, Replicas], racks: Racks) -> dict[BrokerId, int]:
    counted = Counter(replicas[0] for replicas in partitions.values())
    return {broker: counted[broker] for broker in racks}


@settings(max_examples=300, deadline=None)
@given(layouts())
def test_a_plan_makes_even_and_is_its_own_end(layout: tuple[dict[Place, Replicas], dict[BrokerId, str | None]]) -> None:
    before, racks = layout
    moves = plan(before, racks)
    after = carried_out(before, moves)
    for place, replicas in after.items():
        assert len(set(replicas)) == len(before[place])
    if len(set(racks.values())) == 1 and not set(racks.values()) - {None}:
        assert spread(held(after, racks).values()) <= 1
        assert spread(leads(after, racks).values()) <= 1
    assert spread(leads(after, racks).values()) <= max(1, spread(leads(before, racks).values()))
    assert plan(after, racks) == []


@settings(max_examples=300, deadline=None)
@given(layouts())
def test_racks_are_as_far_apart_as_they_can_be(
    layout: tuple[dict[Place, Replicas], dict[BrokerId, str | None]],
) -> None:
    before, racks = layout
    if None in racks.values():
        return
    for place, replicas in carried_out(before, plan(before, racks)).items():
        assert len({racks[broker] for broker in replicas}) == min(len(before[place]), len(set(racks.values())))


@settings(max_examples=200, deadline=None)
@given(layouts())
def test_without_racks_only_the_surplus_moves(
    layout: tuple[dict[Place, Replicas], dict[BrokerId, str | None]],
) -> None:
    before, racks = layout
    bare = dict.fromkeys(racks)
    copies = sum(len(move.adds) for move in plan(before, bare))
    total, size = sum(held(before, bare).values()), len(bare)
    floor, more = divmod(total, size)
    fair = sorted([floor + 1] * more + [floor] * (size - more), reverse=True)
    surplus = sum(
        max(0, has - due) for has, due in zip(sorted(held(before, bare).values(), reverse=True), fair, strict=True)
    )
    assert copies == surplus


@settings(max_examples=200, deadline=None)
@given(layouts(), st.integers(1, 6))
def test_a_broker_that_goes_is_left_with_nothing_and_the_others_with_what_they_have(
    layout: tuple[dict[Place, Replicas], dict[BrokerId, str | None]], goes: int
) -> None:
    before, racks = layout
    left = {broker: rack for broker, rack in racks.items() if broker != goes}
    try:
        moves = vacate(before, left, BrokerId(goes))
    except DoesNotFit:
        assert any(len(replicas) > len(left) for replicas in before.values())
        return
    after = carried_out(before, moves)
    assert not any(goes in replicas for replicas in after.values())
    for move in moves:
        assert set(move.before) - set(move.after) == {goes}
        assert len(move.adds) == 1


def test_an_even_cluster_is_left_alone() -> None:
    brokers = [BrokerId(n) for n in (1, 2, 3)]
    partitions = {("t", n): (brokers[n % 3], brokers[(n + 1) % 3]) for n in range(6)}
    assert plan(partitions, dict.fromkeys(brokers)) == []


def test_a_new_broker_is_given_its_share() -> None:
    brokers = [BrokerId(n) for n in (1, 2, 3)]
    partitions = {("t", n): (brokers[n % 3], brokers[(n + 1) % 3]) for n in range(12)}
    racks = dict.fromkeys([*brokers, BrokerId(4)])
    moves = plan(partitions, racks)
    after = carried_out(partitions, moves)
    assert held(after, racks) == dict.fromkeys(racks, 6)
    assert leads(after, racks) == dict.fromkeys(racks, 3)
    assert sum(len(move.adds) for move in moves) == 6


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(DoesNotFit, match="t-0 has 2 replicas, and only 1 nodes"):
        vacate({("t", 0): (BrokerId(1), BrokerId(2))}, {BrokerId(1): None}, BrokerId(2))
