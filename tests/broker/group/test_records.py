"""The bytes of `__consumer_offsets`: Kafka's, and read back as they were written."""

import contextlib

import pytest
from hypothesis import given, strategies as st

from ottla.broker.group.internal_topic import partition_of
from ottla.broker.group.record_codec import decode_record, encode_key, encode_value
from ottla.broker.group.records import (
    CONSUMER_GROUP,
    CURRENT,
    GROUP,
    MEMBER,
    TARGET,
    TARGET_MEMBER,
    ClassicGroupValue,
    ClassicMemberValue,
    ClassicMetadata,
    CommittedOffset,
    ConsumerGroupValue,
    CurrentValue,
    GroupKey,
    GroupRecord,
    MemberKey,
    MemberValue,
    OffsetCommitKey,
    TargetMemberValue,
    TargetValue,
)
from ottla.broker.group.wire import BadRecord
from ottla.log.model import LeaderEpoch, Offset, TopicIdPartition

from .worlds import topic_id

texts = st.text(max_size=20)
ints = st.integers(0, 2**31 - 1)
ids = st.sampled_from([topic_id(name) for name in "abc"])
sets = st.frozensets(st.builds(TopicIdPartition, ids, st.integers(0, 300)), max_size=20)
maybe = st.none() | texts

records = st.one_of(
    st.builds(
        GroupRecord,
        st.builds(OffsetCommitKey, texts, texts, ints),
        st.none()
        | st.builds(
            CommittedOffset, st.integers(0, 2**62), st.none() | ints, texts, st.integers(0, 2**50), st.none() | ids
        ),
    ),
    st.builds(
        GroupRecord,
        st.builds(GroupKey, st.just(GROUP), texts),
        st.builds(
            ClassicGroupValue,
            texts,
            ints,
            maybe,
            maybe,
            st.integers(0, 2**50),
            st.lists(
                st.builds(ClassicMemberValue, texts, maybe, texts, ints, ints, st.binary(), st.binary(), texts),
                max_size=3,
            ).map(tuple),
        ),
    ),
    st.builds(
        GroupRecord,
        st.builds(GroupKey, st.just(CONSUMER_GROUP), texts),
        st.builds(ConsumerGroupValue, ints, st.integers(-(2**63), 2**63 - 1)),
    ),
    st.builds(GroupRecord, st.builds(GroupKey, st.just(TARGET), texts), st.builds(TargetValue, ints)),
    st.builds(
        GroupRecord,
        st.builds(MemberKey, st.just(MEMBER), texts, texts),
        st.builds(
            MemberValue,
            maybe,
            maybe,
            texts,
            st.lists(texts).map(tuple),
            ints,
            maybe,
            maybe,
            st.none()
            | st.builds(ClassicMetadata, ints, st.lists(st.tuples(texts, st.binary()), max_size=3).map(tuple)),
            texts,
        ),
    ),
    st.builds(
        GroupRecord, st.builds(MemberKey, st.just(TARGET_MEMBER), texts, texts), st.builds(TargetMemberValue, sets)
    ),
    st.builds(
        GroupRecord,
        st.builds(MemberKey, st.just(CURRENT), texts, texts),
        st.builds(CurrentValue, st.integers(-2, 1000), ints, st.sampled_from([0, 1, 2]), sets, sets),
    ),
)


@given(records)
def test_what_is_written_is_read_back(record: GroupRecord) -> None:
    value = None if record.value is None else encode_value(record.value)
    assert decode_record(encode_key(record.key), value) == record


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_a_record_or_refused(key: bytes, value: bytes) -> None:
    with contextlib.suppress(BadRecord):
        decode_record(key, value)


def test_the_bytes_are_those_of_kafkas_schemas() -> None:
    """Written out by hand from OffsetCommitKey 1, OffsetCommitValue 3 and 4, and the two of KIP-848's members."""
    assert encode_key(OffsetCommitKey("g", "t", 3)) == bytes.fromhex("0001 0001 67 0001 74 00000003")
    plain = CommittedOffset(Offset(5), None, "m", 7)
    assert encode_value(plain) == bytes.fromhex("0003 0000000000000005 ffffffff 0001 6d 0000000000000007")
    named = CommittedOffset(Offset(5), LeaderEpoch(2), "m", 7, topic_id("a"))
    tagged = "01 00 10" + "69a69a69a69a69a69a69a69a69a69a68"
    assert encode_value(named) == bytes.fromhex("0004 0000000000000005 00000002 02 6d 0000000000000007" + tagged)
    assert encode_key(MemberKey(CURRENT, "g", "m")) == bytes.fromhex("0008 0001 67 0001 6d")
    classic = MemberValue(None, None, "c", ("t",), 9, None, None, ClassicMetadata(6, (("range", b"x"),)))
    names, tagged = "02 63 01 02 02 74 00 00000009 00", "01 00 10 01 00000006 02 06 72616e6765 02 78 00 00"
    assert encode_value(classic) == bytes.fromhex("0000 00 00" + names + tagged)
    owned = CurrentValue(4, 3, 0, frozenset({TopicIdPartition(topic_id("a"), 1)}))
    topics = "02 69a69a69a69a69a69a69a69a69a69a68 02 00000001 00"
    assert encode_value(owned) == bytes.fromhex("0000 00000004 00000003 00" + topics + "01 00")


def test_records_of_kinds_that_are_not_ours_are_passed_over() -> None:
    assert decode_record(bytes.fromhex("0004 0001 67"), b"\0\0") is None
    assert decode_record(bytes.fromhex("000b 0001 67"), None) is None


@pytest.mark.parametrize(
    ("group", "hashed"),
    [("", 0), ("a", 97), ("hello", 99162322), ("polygenelubricants", None), ("\U0001f600", 1772899)],
)
def test_a_group_is_where_java_would_look_for_it(group: str, hashed: int | None) -> None:
    """``String.hashCode``; the third is the string whose hash is the smallest int."""
    assert partition_of(group, 2**31) == (0 if hashed is None else hashed)
    assert 0 <= partition_of(group, 6) < 6
