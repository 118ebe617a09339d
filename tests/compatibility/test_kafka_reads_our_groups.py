"""Kafka's coordinator reads our records of `__consumer_offsets`, and would have written the same bytes.

Needs java and a directory of Kafka's jars, named by OTTLA_KAFKA_JARS, as the log's test does.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ottla.broker.group.record_codec import encode_key, encode_value
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
from ottla.log.model import LeaderEpoch, Offset, TopicId, TopicIdPartition

JARS = os.environ.get("OTTLA_KAFKA_JARS", "")

pytestmark = [
    pytest.mark.skipif(not shutil.which("java"), reason="java is not installed"),
    pytest.mark.skipif(
        not Path(JARS).is_dir() or not JARS, reason="OTTLA_KAFKA_JARS names no directory of Kafka's jars"
    ),
]

A, B = TopicId("A" * 21 + "Q"), TopicId("B" * 21 + "Q")
SOME = frozenset({TopicIdPartition(A, 1), TopicIdPartition(A, 200), TopicIdPartition(B, 0)})
CLASSIC = ClassicMetadata(45_000, (("cooperative-sticky", b"\x00\x01one"), ("range", b"")))

RECORDS = [
    GroupRecord(OffsetCommitKey("g", "orders", 3), CommittedOffset(Offset(7), None, "note", 99)),
    GroupRecord(OffsetCommitKey("g", "orders", 3), CommittedOffset(Offset(7), LeaderEpoch(2), "note", 99, A)),
    GroupRecord(OffsetCommitKey("g", "orders", 3), None),
    GroupRecord(
        GroupKey(GROUP, "g"),
        ClassicGroupValue(
            "consumer",
            4,
            "range",
            "m1",
            1_700,
            (ClassicMemberValue("m1", "i", "c", 60_000, 45_000, b"subscription", b"assignment", "/10.0.0.1"),),
        ),
    ),
    GroupRecord(GroupKey(GROUP, "g"), ClassicGroupValue("consumer", 5, None, None, 1_700, ())),
    GroupRecord(GroupKey(CONSUMER_GROUP, "g"), ConsumerGroupValue(5, 77)),
    GroupRecord(GroupKey(CONSUMER_GROUP, "g"), None),
    GroupRecord(MemberKey(MEMBER, "g", "m1"), MemberValue(None, None, "c", ("orders",), 60_000, None)),
    GroupRecord(
        MemberKey(MEMBER, "g", "m1"),
        MemberValue("i", "r", "c", (), 60_000, "uniform", "orders-.*", None, "/10.0.0.1"),
    ),
    GroupRecord(MemberKey(MEMBER, "g", "m1"), MemberValue("i", None, "c", ("orders",), 60_000, None, None, CLASSIC)),
    GroupRecord(GroupKey(TARGET, "g"), TargetValue(5)),
    GroupRecord(MemberKey(TARGET_MEMBER, "g", "m1"), TargetMemberValue(SOME)),
    GroupRecord(MemberKey(CURRENT, "g", "m1"), CurrentValue(5, 4, 1, SOME, frozenset({TopicIdPartition(B, 9)}))),
]


@pytest.fixture(scope="module")
def understood() -> list[tuple[str, str, str]]:
    lines = []
    for record in RECORDS:
        value = "-" if record.value is None else encode_value(record.value).hex()
        lines.append(f"{encode_key(record.key).hex()} {value}")
    ran = subprocess.run(
        ["java", "-cp", f"{JARS}/*", str(Path(__file__).with_name("KafkaGroups.java"))],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return [tuple(line.split(" ", 2)) for line in ran.stdout.splitlines()]  # type: ignore[misc]


@pytest.mark.parametrize("number", range(len(RECORDS)))
def test_kafka_would_have_written_the_same_bytes(number: int, understood: list[tuple[str, str, str]]) -> None:
    record, (key, value, said) = RECORDS[number], understood[number]
    assert key == encode_key(record.key).hex(), said
    assert value == ("-" if record.value is None else encode_value(record.value).hex()), said


def test_what_kafka_understands_of_a_classic_member_is_what_it_said(understood: list[tuple[str, str, str]]) -> None:
    [said] = [said for _, _, said in understood if "cooperative-sticky" in said]
    assert "sessionTimeoutMs=45000" in said
    assert "subscribedTopicNames=[orders]" in said
