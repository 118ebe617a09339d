"""Who shall own what in a group of the consumer protocol (KIP-848), and the records that say so. Pure."""

import hashlib
from collections import Counter

import msgspec

from ottla.log.model import TopicId

from .assignors import ASSIGNORS, DEFAULT_ASSIGNOR
from .consumer_state import ConsumerGroupState, Member
from .outcome import FindTopic, Topics
from .records import (
    CONSUMER_GROUP,
    TARGET,
    TARGET_MEMBER,
    ConsumerGroupValue,
    GroupKey,
    GroupRecord,
    Key,
    MemberKey,
    TargetMemberValue,
    TargetValue,
    Value,
)


class Decision:
    """Records, and a copy of the group as it will be once they are replayed. Without records there is no copy."""

    def __init__(self, group: ConsumerGroupState) -> None:
        self.group = group
        self.records: list[GroupRecord] = []

    def write(self, key: Key, value: Value | None) -> None:
        if not self.records:
            self.group = self.group.copy()
        record = GroupRecord(key, value)
        self.records.append(record)
        self.group.replay(record)

    def write_member(self, kind: int, member_id: str, value: Value | None) -> None:
        self.write(MemberKey(kind, self.group.group_id, member_id), value)

    def write_group(self, kind: int, value: Value | None) -> None:
        self.write(GroupKey(kind, self.group.group_id), value)


def retarget(decision: Decision, topics: Topics, *, changed: bool) -> None:
    """A new epoch where members, subscriptions or topics changed, and a new target for it."""
    group = decision.group
    wanted = {member_id: names_read(member, topics) for member_id, member in group.members.items()}
    names = set().union(*wanted.values())
    counts, metadata_hash = _look_up(names, topics.find)
    if changed or metadata_hash != group.metadata_hash:
        decision.write_group(CONSUMER_GROUP, ConsumerGroupValue(group.epoch + 1, metadata_hash))
    group = decision.group
    if group.target_epoch >= group.epoch:
        return
    ids = {name: found[0] for name in names if (found := topics.find(name)) is not None}
    subscriptions = {member_id: {ids[name] for name in read if name in ids} for member_id, read in wanted.items()}
    target = ASSIGNORS[assignor_of(group)](subscriptions, counts, group.target)
    for member_id, partitions in sorted(target.items()):
        if group.target.get(member_id) != partitions:
            decision.write_member(TARGET_MEMBER, member_id, TargetMemberValue(partitions))
    decision.write_group(TARGET, TargetValue(group.epoch))


def assignor_of(group: ConsumerGroupState) -> str:
    """The one that most members ask for."""
    votes = Counter(member.said.assignor for member in group.members.values() if member.said.assignor)
    return min(votes, key=lambda name: (-votes[name], name)) if votes else DEFAULT_ASSIGNOR


def names_read(member: Member, topics: Topics) -> set[str]:
    """The topics that a member subscribes to, by name and by regular expression."""
    regex = member.said.regex
    return {*member.said.topics, *(topics.matching(regex) if regex else ())}


def _look_up(names: set[str], find_topic: FindTopic) -> tuple[dict[TopicId, int], int]:
    found = [(name, *topic) for name in sorted(names) if (topic := find_topic(name)) is not None]
    digest = hashlib.blake2b(msgspec.msgpack.encode(found), digest_size=8).digest()
    return {topic_id: count for _, topic_id, count in found}, int.from_bytes(digest, "big", signed=True)
