"""The bytes of the records of `__consumer_offsets`: Kafka's. Pure."""

from collections.abc import Callable

from ottla.log.model import LeaderEpoch, Offset, TopicIdPartition

from .records import (
    CONSUMER_GROUP,
    CURRENT,
    GROUP,
    MEMBER,
    OFFSET_COMMIT,
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
    Key,
    MemberKey,
    MemberValue,
    OffsetCommitKey,
    Partitions,
    TargetMemberValue,
    TargetValue,
    Value,
    by_topic,
)
from .wire import (
    NO_TAGS,
    BadRecord,
    Reader,
    compact,
    compact_array,
    compact_octets,
    i8,
    i16,
    i32,
    i64,
    octets,
    string,
    tags,
    uuid,
)

# --- encoding --------------------------------------------------------------------------------------------------------


def encode_key(key: Key) -> bytes:
    if isinstance(key, OffsetCommitKey):
        return i16(OFFSET_COMMIT) + string(key.group_id) + string(key.topic) + i32(key.partition)
    if isinstance(key, MemberKey):
        return i16(key.kind) + string(key.group_id) + string(key.member_id)
    return i16(key.kind) + string(key.group_id)


def encode_value(value: Value) -> bytes:
    match value:
        case CommittedOffset():
            return _offset(value)
        case ClassicGroupValue():
            return _classic(value)
        case ConsumerGroupValue():
            hashed = {0: i64(value.metadata_hash)} if value.metadata_hash else {}
            return i16(0) + i32(value.epoch) + tags(hashed)
        case MemberValue():
            return _member(value)
        case TargetValue():
            return i16(0) + i32(value.epoch) + NO_TAGS
        case TargetMemberValue():
            return i16(0) + _partitions(value.partitions) + NO_TAGS
        case CurrentValue():
            epochs = i32(value.epoch) + i32(value.previous_epoch) + i8(value.state)
            return i16(0) + epochs + _partitions(value.assigned) + _partitions(value.revoking) + NO_TAGS


def _offset(value: CommittedOffset) -> bytes:
    epoch = i32(-1 if value.leader_epoch is None else value.leader_epoch)
    if value.topic_id is None:
        return i16(3) + i64(value.offset) + epoch + string(value.metadata) + i64(value.timestamp_ms)
    end = i64(value.timestamp_ms) + tags({0: uuid(value.topic_id)})
    return i16(4) + i64(value.offset) + epoch + compact(value.metadata) + end


def _classic(value: ClassicGroupValue) -> bytes:
    head = i16(3) + string(value.protocol_type) + i32(value.generation) + string(value.protocol) + string(value.leader)
    members = [
        string(member.member_id)
        + string(member.instance_id)
        + string(member.client_id)
        + string(member.client_host)
        + i32(member.rebalance_timeout_ms)
        + i32(member.session_timeout_ms)
        + octets(member.subscription)
        + octets(member.assignment)
        for member in value.members
    ]
    return head + i64(value.timestamp_ms) + i32(len(members)) + b"".join(members)


def _member(value: MemberValue) -> bytes:
    return (
        i16(0)
        + compact(value.instance_id)
        + compact(value.rack_id)
        + compact(value.client_id)
        + compact(value.client_host)
        + compact_array(value.topics, compact)
        + compact(value.regex)
        + i32(value.rebalance_timeout_ms)
        + compact(value.assignor)
        + tags({} if value.classic is None else {0: _classic_metadata(value.classic)})
    )


def _classic_metadata(value: ClassicMetadata) -> bytes:
    """A struct that may be null: a byte says that it is there."""
    protocols = compact_array(value.protocols, lambda each: compact(each[0]) + compact_octets(each[1]) + NO_TAGS)
    return i8(1) + i32(value.session_timeout_ms) + protocols + NO_TAGS


def _partitions(partitions: Partitions) -> bytes:
    topics = sorted(by_topic(partitions).items())
    return compact_array(topics, lambda topic: uuid(topic[0]) + compact_array(topic[1], i32) + NO_TAGS)


# --- decoding --------------------------------------------------------------------------------------------------------


def decode_record(key: bytes, value: bytes | None) -> GroupRecord | None:
    """None for a kind of record that is not ours (yet). Raises BadRecord."""
    reader = Reader(key)
    version = reader.i16()
    if version in (0, OFFSET_COMMIT):
        parsed: Key = OffsetCommitKey(reader.string(), reader.string(), reader.i32())
    elif version in (GROUP, CONSUMER_GROUP, TARGET):
        parsed = GroupKey(version, reader.string())
    elif version in (MEMBER, TARGET_MEMBER, CURRENT):
        parsed = MemberKey(version, reader.string(), reader.string())
    else:
        return None
    return GroupRecord(parsed, None if value is None else _VALUES[version](Reader(value)))


def _read_offset(reader: Reader) -> CommittedOffset:
    version = reader.i16()
    if version not in (3, 4):
        raise BadRecord(f"OffsetCommitValue {version} is older than any Ottla")
    offset, epoch = Offset(reader.i64()), reader.i32()
    metadata = reader.compact() if version == 4 else reader.string()
    timestamp_ms = reader.i64()
    topic = reader.tags().get(0) if version == 4 else None
    topic_id = None if topic is None else Reader(topic).uuid()
    return CommittedOffset(offset, None if epoch < 0 else LeaderEpoch(epoch), metadata, timestamp_ms, topic_id)


def _read_classic(reader: Reader) -> ClassicGroupValue:
    if (version := reader.i16()) != 3:
        raise BadRecord(f"GroupMetadataValue {version}")
    protocol_type, generation = reader.string(), reader.i32()
    protocol, leader, timestamp_ms = reader.nullable_string(), reader.nullable_string(), reader.i64()
    members = reader.array(lambda: _read_classic_member(reader))
    return ClassicGroupValue(protocol_type, generation, protocol, leader, timestamp_ms, tuple(members))


def _read_classic_member(reader: Reader) -> ClassicMemberValue:
    member_id, instance_id, client_id = reader.string(), reader.nullable_string(), reader.string()
    host, rebalance, session = reader.string(), reader.i32(), reader.i32()
    subscription, assignment = reader.octets(), reader.octets()
    return ClassicMemberValue(member_id, instance_id, client_id, rebalance, session, subscription, assignment, host)


def _read_group(reader: Reader) -> ConsumerGroupValue:
    reader.i16()
    epoch = reader.i32()
    hashed = reader.tags().get(0)
    return ConsumerGroupValue(epoch, 0 if hashed is None else Reader(hashed).i64())


def _read_member(reader: Reader) -> MemberValue:
    reader.i16()
    instance_id, rack_id, client_id = reader.nullable_compact(), reader.nullable_compact(), reader.compact()
    client_host = reader.compact()
    topics, regex = reader.compact_array(reader.compact), reader.nullable_compact()
    rebalance_timeout_ms, assignor = reader.i32(), reader.nullable_compact()
    tagged = reader.tags().get(0)
    classic = None if tagged is None else _read_classic_metadata(Reader(tagged))
    return MemberValue(
        instance_id, rack_id, client_id, tuple(topics), rebalance_timeout_ms, assignor, regex, classic, client_host
    )


def _read_classic_metadata(reader: Reader) -> ClassicMetadata | None:
    if reader.i8() < 0:
        return None

    def protocol() -> tuple[str, bytes]:
        name, metadata = reader.compact(), reader.compact_octets()
        reader.tags()
        return name, metadata

    return ClassicMetadata(reader.i32(), tuple(reader.compact_array(protocol)))


def _read_target(reader: Reader) -> TargetValue:
    reader.i16()
    return TargetValue(reader.i32())


def _read_target_member(reader: Reader) -> TargetMemberValue:
    reader.i16()
    return TargetMemberValue(_read_partitions(reader))


def _read_current(reader: Reader) -> CurrentValue:
    reader.i16()
    epoch, previous, state = reader.i32(), reader.i32(), reader.i8()
    return CurrentValue(epoch, previous, state, _read_partitions(reader), _read_partitions(reader))


def _read_partitions(reader: Reader) -> Partitions:
    def topic() -> list[TopicIdPartition]:
        topic_id = reader.uuid()
        numbers = reader.compact_array(reader.i32)
        reader.tags()
        return [TopicIdPartition(topic_id, number) for number in numbers]

    return frozenset(partition for topics in reader.compact_array(topic) for partition in topics)


_VALUES: dict[int, Callable[[Reader], Value]] = {
    0: _read_offset,
    OFFSET_COMMIT: _read_offset,
    GROUP: _read_classic,
    CONSUMER_GROUP: _read_group,
    MEMBER: _read_member,
    TARGET: _read_target,
    TARGET_MEMBER: _read_target_member,
    CURRENT: _read_current,
}
