"""A group of the consumer protocol (KIP-848) as its records make it: members, target, and who owns what. Pure.

Invariant: a partition has one owner. ``owners`` names the member that has it assigned or has not let go of it yet, and
no record gives it to another before that.
"""

import msgspec

from ottla.client.group_protocol import STATIC_LEAVE_EPOCH
from ottla.log.model import TopicIdPartition

from .records import (
    CONSUMER_GROUP,
    CURRENT,
    MEMBER,
    STABLE,
    TARGET,
    TARGET_MEMBER,
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

DEFAULT_REBALANCE_MS = 300_000
"""How long a member may take to let go where it does not say."""
NOTHING = CurrentValue(epoch=0, previous_epoch=0, state=STABLE, assigned=frozenset())
"""What a member owns that has just come."""

UNSAID = MemberValue(None, None, "", (), DEFAULT_REBALANCE_MS, None)
"""What a member has said that has not said anything."""


class Member(msgspec.Struct, frozen=True):
    """One member: what it said of itself, and what it owns."""

    said: MemberValue
    current: CurrentValue = NOTHING

    @property
    def away(self) -> bool:
        """A static member that has left and will be back."""
        return self.current.epoch == STATIC_LEAVE_EPOCH

    @property
    def classic(self) -> bool:
        """Whether it speaks the classic protocol."""
        return self.said.classic is not None

    @property
    def held(self) -> Partitions:
        """All that nobody else may have."""
        return self.current.assigned | self.current.revoking


class ConsumerGroupState:
    """``epoch`` rises when members, subscriptions or topics change; ``target_epoch`` is the one that the target was
    made for."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = 0
        self.metadata_hash = 0
        self.members: dict[str, Member] = {}
        self.instances: dict[str, str] = {}  # member ids of static members, by instance id
        self.target_epoch = 0
        self.target: dict[str, Partitions] = {}
        self.owners: dict[TopicIdPartition, str] = {}
        self.empty_since_ms = 0  # wall clock, of a group without members: what expiry is counted from

    def copy(self) -> "ConsumerGroupState":
        """Another, to try records on. What is in it is immutable, so the dictionaries are enough."""
        other = ConsumerGroupState(self.group_id)
        other.epoch, other.metadata_hash, other.target_epoch = self.epoch, self.metadata_hash, self.target_epoch
        other.members, other.instances = dict(self.members), dict(self.instances)
        other.target, other.owners = dict(self.target), dict(self.owners)
        other.empty_since_ms = self.empty_since_ms
        return other

    def replay(self, record: GroupRecord) -> None:
        """Become what the record says. Records are replayed in the log's order, compacted or not."""
        key, value = record.key, record.value
        if isinstance(key, GroupKey):
            if key.kind == CONSUMER_GROUP and isinstance(value, ConsumerGroupValue):
                self.epoch, self.metadata_hash = value.epoch, value.metadata_hash
            elif key.kind == TARGET:
                self.target_epoch = value.epoch if isinstance(value, TargetValue) else 0
            return
        assert isinstance(key, MemberKey)
        if key.kind == MEMBER:
            self._said(key.member_id, value if isinstance(value, MemberValue) else None)
        elif key.kind == TARGET_MEMBER and isinstance(value, TargetMemberValue):
            self.target[key.member_id] = value.partitions
        elif key.kind == TARGET_MEMBER:
            self.target.pop(key.member_id, None)
        elif key.kind == CURRENT:
            self._owns(key.member_id, value if isinstance(value, CurrentValue) else NOTHING)

    def _said(self, member_id: str, said: MemberValue | None) -> None:
        before = self.members.get(member_id)
        if before is not None and (instance := before.said.instance_id) and self.instances.get(instance) == member_id:
            del self.instances[instance]
        if said is None:
            self._owns(member_id, NOTHING)
            self.members.pop(member_id, None)
            return
        self.members[member_id] = Member(said, before.current if before is not None else NOTHING)
        if said.instance_id is not None:
            self.instances[said.instance_id] = member_id

    def _owns(self, member_id: str, current: CurrentValue) -> None:
        member = self.members.get(member_id)
        if member is None:
            if current is NOTHING:
                return  # a tombstone after its member's
            member = Member(UNSAID)  # compaction may leave what a member said last after what it owns
        for partition in member.held:
            if self.owners.get(partition) == member_id:
                del self.owners[partition]
        self.members[member_id] = member = Member(member.said, current)
        for partition in member.held:
            self.owners[partition] = member_id
