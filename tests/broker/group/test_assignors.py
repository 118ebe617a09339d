"""What the assignors give: everything, once, to who wants it, evenly, and with few moves."""

from hypothesis import given, strategies as st

from ottla.broker.group.assignors import ASSIGNORS, range_, uniform
from ottla.log.model import TopicIdPartition

from .worlds import topic_id

TOPICS = [topic_id(name) for name in "abc"]
members = st.dictionaries(
    st.sampled_from([f"m{n}" for n in range(7)]), st.sets(st.sampled_from(TOPICS)), min_size=1, max_size=7
)
sizes = st.fixed_dictionaries({topic: st.integers(0, 9) for topic in TOPICS})


@given(members, sizes, st.sampled_from(sorted(ASSIGNORS)))
def test_every_partition_that_somebody_wants_is_given_once_and_to_one_who_does(wants, counts, name) -> None:
    target = ASSIGNORS[name](wants, counts, {})
    assert set(target) == set(wants)
    given_out = [(partition, member) for member, partitions in target.items() for partition in partitions]
    assert all(partition.topic_id in wants[member] for partition, member in given_out)
    wanted = {TopicIdPartition(t, n) for topics in wants.values() for t in topics for n in range(counts[t])}
    assert sorted(partition for partition, _ in given_out) == sorted(wanted)


@given(members, sizes)
def test_nobody_has_two_more_than_another_who_may_have_one_of_them(wants, counts) -> None:
    target = uniform(wants, counts, {})
    for giver, partitions in target.items():
        for taker, topics in wants.items():
            if any(partition.topic_id in topics for partition in partitions):
                assert len(partitions) - len(target[taker]) < 2, (giver, taker)


@given(st.integers(1, 6), st.integers(1, 20), st.integers(1, 6))
def test_no_partition_moves_between_members_that_stay(before: int, count: int, after: int) -> None:
    counts, all_of = {TOPICS[0]: count}, [f"m{n}" for n in range(12)]
    first = uniform({member: {TOPICS[0]} for member in all_of[:before]}, counts, {})
    wants = {member: {TOPICS[0]} for member in all_of[:after]}
    second = uniform(wants, counts, first)
    for member in set(first) & set(second):
        if after >= before:
            assert second[member] <= first[member], "members were added: those that stay only give"
        else:
            assert second[member] >= first[member], "members went: those that stay only get"
    assert uniform(wants, counts, second) == second


def test_range_gives_neighbours_and_the_same_numbers_of_each_topic() -> None:
    target = range_({"x": set(TOPICS), "y": set(TOPICS)}, dict.fromkeys(TOPICS, 4), {})
    assert {(p.topic_id, p.partition) for p in target["x"]} == {(t, n) for t in TOPICS for n in (0, 1)}
