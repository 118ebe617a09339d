"""How a group with members goes from one protocol to the other (KIP-848, online upgrade and downgrade). Pure.

What counts is what members may be working on: nothing that one may still have is given to another.
"""

from collections.abc import Iterable, Mapping

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import CLASSIC, JoinProtocol
from ottla.client.subscription_bytes import decode_assignment, decode_subscription, encode_assignment
from ottla.log.model import TopicId, TopicIdPartition, TopicPartition

from .classic_state import CONSUMERS, ClassicGroup, ClassicMember
from .consumer_group import forget
from .consumer_state import ConsumerGroupState
from .consumer_target import names_read
from .outcome import FindTopic, GroupLimits, GroupRefused, Topics
from .records import (
    CONSUMER_GROUP,
    CURRENT,
    GROUP,
    MEMBER,
    STABLE,
    TARGET,
    TARGET_MEMBER,
    UNREVOKED,
    ClassicMetadata,
    ConsumerGroupValue,
    CurrentValue,
    GroupKey,
    GroupRecord,
    MemberKey,
    MemberValue,
    Partitions,
    TargetMemberValue,
    TargetValue,
)

# --- classic to consumer ---------------------------------------------------------------------------------------------


def check_upgrade(group: ClassicGroup, limits: GroupLimits) -> None:
    """Raises GroupRefused where this group stays as it is."""
    if not limits.upgrade:
        why = "group.consumer.migration.policy lets it not change over while it has any"
    elif group.protocol_type != CONSUMERS:
        why = f"its protocol type is {group.protocol_type!a}"
    elif len(group.members) > limits.consumer_size_max:
        why = f"a consumer group has at most {limits.consumer_size_max}"
    else:
        return
    raise GroupRefused(
        ErrorCode.GROUP_ID_NOT_FOUND,
        f"{group.group_id} is a {CLASSIC} group with {len(group.members)} members, and {why}",
    )


def upgrade(group: ClassicGroup, limits: GroupLimits, find_topic: FindTopic) -> list[GroupRecord]:
    """The group's end as a classic one, and its members as those of a consumer group, in an epoch that is their
    generation. Raises GroupRefused."""
    check_upgrade(group, limits)
    group_id, epoch = group.group_id, group.generation
    said = {member_id: _said(group, member) for member_id, member in group.members.items()}
    taken: set[TopicIdPartition] = set()
    assigned: dict[str, Partitions] = {}
    for member_id, member in group.members.items():  # what an assignor gave to several stays with the first
        given = _assigned(group, member) or said[member_id][1]  # none yet in this generation: what it joined with
        assigned[member_id] = ids_of(given, find_topic) - taken
        taken |= assigned[member_id]
    records = [GroupRecord(GroupKey(GROUP, group_id), None)]
    for member_id, (what, owned) in said.items():
        kept = assigned[member_id]
        leaving = ids_of(owned, find_topic) - taken  # it had these before its last assignment, and may have them yet
        taken |= leaving
        state = UNREVOKED if leaving else STABLE
        records += [
            GroupRecord(MemberKey(MEMBER, group_id, member_id), what),
            GroupRecord(MemberKey(TARGET_MEMBER, group_id, member_id), TargetMemberValue(kept)),
            GroupRecord(MemberKey(CURRENT, group_id, member_id), CurrentValue(epoch, epoch, state, kept, leaving)),
        ]
    records.append(GroupRecord(GroupKey(CONSUMER_GROUP, group_id), ConsumerGroupValue(epoch)))
    records.append(GroupRecord(GroupKey(TARGET, group_id), TargetValue(epoch)))
    return records


def _assigned(group: ClassicGroup, member: ClassicMember) -> frozenset[TopicPartition]:
    try:
        return decode_assignment(member.assignment)
    except ValueError as error:
        raise _unreadable(group, member, error) from error


def _said(group: ClassicGroup, member: ClassicMember) -> tuple[MemberValue, frozenset[TopicPartition]]:
    """What the member subscribes to, and what it had when it joined."""
    metadata = member.metadata(group.protocol) or next((bytes(p.metadata) for p in member.protocols), b"")
    try:
        subscription = decode_subscription(metadata)
    except ValueError as error:
        raise _unreadable(group, member, error) from error
    said = MemberValue(
        instance_id=member.instance_id,
        rack_id=None,
        client_id=member.client_id,
        client_host=member.client_host,
        topics=tuple(sorted(set(subscription.topics))),
        rebalance_timeout_ms=int(member.rebalance_s * 1000),
        assignor=None,
        classic=metadata_of(int(member.session_s * 1000), member.protocols),
    )
    return said, frozenset(subscription.owned)


def metadata_of(session_timeout_ms: int, protocols: Iterable[JoinProtocol]) -> ClassicMetadata:
    """What a member said when it joined by the classic protocol."""
    return ClassicMetadata(session_timeout_ms, tuple((each.name, bytes(each.metadata)) for each in protocols))


def _unreadable(group: ClassicGroup, member: ClassicMember, error: ValueError) -> GroupRefused:
    return GroupRefused(
        ErrorCode.GROUP_ID_NOT_FOUND,
        f"{group.group_id} is a {CLASSIC} group, and its member {member.member_id} is not a consumer: {error}",
    )


def ids_of(partitions: Iterable[TopicPartition], find_topic: FindTopic) -> Partitions:
    """By topic ids; what is not there any more is nobody's."""
    found = ((find_topic(topic), number) for topic, number in partitions)
    return frozenset(TopicIdPartition(topic[0], n) for topic, n in found if topic is not None and 0 <= n < topic[1])


# --- consumer to classic ---------------------------------------------------------------------------------------------


def may_downgrade(group: ConsumerGroupState, limits: GroupLimits) -> bool:
    """Whether nobody speaks the consumer protocol any more, and the group may go on as a classic one. First all are
    to be in one epoch with all that is theirs: who is behind would find its generation refused, and lose its work."""
    return (
        limits.downgrade
        and 0 < len(group.members) <= limits.size_max
        and group.epoch == group.target_epoch
        and all(
            member.classic and member.current.state == STABLE and member.current.epoch == group.epoch
            for member in group.members.values()
        )
    )


def downgrade(group: ConsumerGroupState, topics: Topics) -> ClassicGroup:
    """The classic group that these members are in from now on: their epoch is its generation, and each has what it
    had. A rebalance must follow, which makes one of them the leader."""
    classic = ClassicGroup(group.group_id)
    classic.protocol_type = CONSUMERS
    classic.generation = group.epoch
    names = names_of(group, topics)
    for member_id, member in group.members.items():
        said, metadata = member.said, member.said.classic
        assert metadata is not None
        classic.members[member_id] = ClassicMember(
            member_id=member_id,
            instance_id=said.instance_id,
            client_id=said.client_id,
            client_host=said.client_host,
            session_s=metadata.session_timeout_ms / 1000,
            rebalance_s=said.rebalance_timeout_ms / 1000,
            protocols=tuple(JoinProtocol(name, data) for name, data in metadata.protocols),
            assignment=assignment_bytes(member.held, names),
        )
    classic.protocol = classic.choose_protocol()
    return classic


def downgrade_records(group: ConsumerGroupState, classic: ClassicGroup, now_ms: int) -> list[GroupRecord]:
    """The end of one, the beginning of the other."""
    return [*forget(group), classic.record(now_ms, {m.member_id: m.assignment for m in classic.members.values()})]


def names_of(group: ConsumerGroupState, topics: Topics) -> dict[TopicId, str]:
    """The names of the topics that are read."""
    names = {name for member in group.members.values() for name in names_read(member, topics)}
    return {found[0]: name for name in names if (found := topics.find(name)) is not None}


def assignment_bytes(partitions: Partitions, names: Mapping[TopicId, str]) -> bytes:
    """In the bytes of the classic protocol. A topic without a name is gone, or nobody's any more."""
    named = (TopicPartition(names[each.topic_id], each.partition) for each in partitions if each.topic_id in names)
    return encode_assignment(named)
