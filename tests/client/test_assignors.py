"""Assignors: even, nothing twice or to nobody, as few moves as that takes; what moves is taken before it is given."""

from hypothesis import given, strategies as st

from ottla.client.assignors import (
    ASSIGNORS,
    Assignment,
    Assignor,
    CooperativeStickyAssignor,
    MemberSubscription,
    RangeAssignor,
    RoundRobinAssignor,
    StickyAssignor,
)
from ottla.client.subscription_bytes import (
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from ottla.log.model import TopicPartition

TOPICS = ("a", "b", "c")
assignors = st.sampled_from(list(ASSIGNORS.values()))
counts = st.dictionaries(st.sampled_from(TOPICS), st.integers(0, 7))
keys = st.builds(TopicPartition, st.sampled_from(TOPICS), st.integers(0, 8))
subscriptions = st.builds(
    MemberSubscription,
    st.lists(st.sampled_from(TOPICS), unique=True).map(tuple),
    st.frozensets(keys, max_size=6),
    st.none() | st.integers(0, 3),
    st.none() | st.sampled_from(["i1", "i2"]),
)
groups = st.dictionaries(st.sampled_from([f"m{n}" for n in range(6)]), subscriptions, min_size=1)


def everything(members: dict[str, MemberSubscription], partitions: dict[str, int]) -> set[TopicPartition]:
    read = {topic for member in members.values() for topic in member.topics}
    return {TopicPartition(topic, n) for topic, count in partitions.items() if topic in read for n in range(count)}


def given_out(assignment: Assignment) -> list[TopicPartition]:
    return [key for part in assignment.values() for key in part]


@given(assignors, groups, counts)
def test_each_partition_has_one_owner_who_wants_it(
    assignor: Assignor, members: dict[str, MemberSubscription], partitions: dict[str, int]
) -> None:
    assignment = assignor.assign(members, partitions)
    assert set(assignment) == set(members)
    out = given_out(assignment)
    assert len(out) == len(set(out))
    assert all(key.topic in members[name].topics for name, part in assignment.items() for key in part)
    if assignor.cooperative:
        assert set(out) <= everything(members, partitions)
    else:
        assert set(out) == everything(members, partitions)


def alike(sizes: int, owned: list[frozenset[TopicPartition]]) -> dict[str, MemberSubscription]:
    return {f"m{n}": MemberSubscription(TOPICS, owned[n] if n < len(owned) else frozenset(), 1) for n in range(sizes)}


@given(st.sampled_from([RoundRobinAssignor(), StickyAssignor()]), st.integers(1, 6), counts)
def test_members_that_want_the_same_get_as_many(assignor: Assignor, size: int, partitions: dict[str, int]) -> None:
    sizes = [len(part) for part in assignor.assign(alike(size, []), partitions).values()]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 6), counts, st.data())
def test_sticky_is_even_and_moves_no_more_than_that_takes(
    size: int, partitions: dict[str, int], data: st.DataObject
) -> None:
    out = sorted(everything(alike(1, []), partitions))
    owners = [data.draw(st.integers(-1, size - 1)) for _ in out]  # -1: nobody
    owned = [frozenset(key for key, owner in zip(out, owners, strict=True) if owner == n) for n in range(size)]
    assignment = StickyAssignor().assign(alike(size, owned), partitions)
    sizes = [len(part) for part in assignment.values()]
    assert max(sizes) - min(sizes) <= 1
    kept = sum(len(assignment[f"m{n}"] & owned[n]) for n in range(size))
    low, extra = divmod(len(out), size)
    most_kept = sum(min(len(one), low) for one in owned) + min(extra, sum(len(one) > low for one in owned))
    assert kept == most_kept


@given(groups, counts)
def test_sticky_changes_nothing_that_it_decided(
    members: dict[str, MemberSubscription], partitions: dict[str, int]
) -> None:
    first = StickyAssignor().assign(members, partitions)
    again = {
        name: MemberSubscription(member.topics, first[name], 9, member.instance_id) for name, member in members.items()
    }
    assert StickyAssignor().assign(again, partitions) == first


@given(st.integers(2, 6), counts, st.data())
def test_cooperative_takes_in_one_rebalance_and_gives_in_the_next(
    size: int, partitions: dict[str, int], data: st.DataObject
) -> None:
    out = sorted(everything(alike(1, []), partitions))
    owners = [data.draw(st.integers(-1, size - 1)) for _ in out]
    owned = [frozenset(key for key, owner in zip(out, owners, strict=True) if owner == n) for n in range(size)]
    members = alike(size, owned)
    first = CooperativeStickyAssignor().assign(members, partitions)
    for name, member in members.items():
        others = {key for other, one in members.items() if other != name for key in one.owned}
        assert not (first[name] - member.owned) & others  # while they may still be reading it
    kept = [first[f"m{n}"] for n in range(size)]
    second = CooperativeStickyAssignor().assign(alike(size, kept), partitions)
    assert set(given_out(second)) == set(out)
    assert max(map(len, second.values())) - min(map(len, second.values())) <= 1


def test_nothing_that_somebody_still_has_is_given_to_another() -> None:
    held = frozenset(TopicPartition("a", n) for n in range(4))
    members = {"m0": MemberSubscription(("a",), held, 1), "m1": MemberSubscription(("a",))}
    first = CooperativeStickyAssignor().assign(members, {"a": 4})
    assert (len(first["m0"]), first["m1"]) == (2, frozenset())
    members = {"m0": MemberSubscription(("a",), first["m0"], 2), "m1": MemberSubscription(("a",), frozenset(), 2)}
    second = CooperativeStickyAssignor().assign(members, {"a": 4})
    assert second == {"m0": first["m0"], "m1": held - first["m0"]}


def test_range_keeps_numbers_together_and_static_members_in_their_place() -> None:
    members = {"z": MemberSubscription(("a", "b"), instance_id="1"), "y": MemberSubscription(("a", "b"))}
    assert RangeAssignor().assign(members, {"a": 3, "b": 3}) == {
        "z": frozenset(TopicPartition(topic, n) for topic in "ab" for n in (0, 1)),
        "y": frozenset(TopicPartition(topic, 2) for topic in "ab"),
    }


@given(subscriptions)
def test_subscriptions_come_back(member: MemberSubscription) -> None:
    found = decode_subscription(encode_subscription(member), member.instance_id)
    assert found == MemberSubscription(
        tuple(sorted(member.topics)), member.owned, member.generation, member.instance_id
    )


@given(st.frozensets(keys))
def test_assignments_come_back(part: frozenset[TopicPartition]) -> None:
    assert decode_assignment(encode_assignment(part)) == part


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for decode in (decode_subscription, decode_assignment):
        try:
            decode(data)
        except ValueError:
            continue


def test_the_bytes_are_kafkas() -> None:
    # ConsumerProtocol.serializeSubscription of topics [t], no user data, t-1 owned, generation 5, version 2 there
    told = encode_subscription(MemberSubscription(("t",), frozenset({TopicPartition("t", 1)}), 5))
    assert told.hex() == "000200000001000174ffffffff00000001000174000000010000000100000005"
    assert decode_subscription(bytes.fromhex("000000000001000174ffffffff")).topics == ("t",)
    assert encode_assignment([TopicPartition("t", 1)]).hex() == "0000000000010001740000000100000001ffffffff"
