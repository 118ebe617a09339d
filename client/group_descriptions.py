"""What there is to tell of consumer groups: to programs as objects, to people as documents, the same at every door."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ottla.log.model import BrokerId, Offset

from .group_protocol import CONSUMER, ListedGroup

Place = tuple[str, int]
"""A topic and the number of a partition."""


@dataclass(frozen=True, slots=True)
class GroupList:
    """``groups``: by name. ``unanswered``: the brokers that did not tell theirs, and why; the groups that they
    coordinate may be missing."""

    groups: tuple[ListedGroup, ...]
    unanswered: Mapping[BrokerId, str]


@dataclass(frozen=True, slots=True)
class GroupPartition:
    """How far a group is with one partition. ``committed``: the offset of the next record to read; None: nothing yet.
    ``end``: the high watermark, None where the leader could not be asked. ``lag``: records between them, None where
    one of them is not known. ``member``: who reads it, where the coordinator gives partitions out (KIP-848)."""

    topic: str
    partition: int
    committed: Offset | None
    end: Offset | None
    lag: int | None
    member: str | None
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class GroupMember:
    """``epoch``: None in a classic group. ``partitions``: None where only the members know. ``protocol``: "consumer",
    or "classic", also of some in a consumer group that is changing over. ``pattern``: topics by regular expression."""

    member_id: str
    instance_id: str | None
    client_id: str
    epoch: int | None
    partitions: tuple[Place, ...] | None
    protocol: str = "classic"
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """``group_type``: ``classic`` or ``consumer``. ``epoch``: its generation, or its epoch (KIP-848)."""

    group_id: str
    group_type: str
    state: str
    epoch: int
    assignor: str
    members: tuple[GroupMember, ...]
    partitions: tuple[GroupPartition, ...]

    @property
    def lag(self) -> int:
        """Of all partitions whose lag is known."""
        return sum(partition.lag or 0 for partition in self.partitions)


@dataclass(frozen=True, slots=True)
class OffsetChange:
    """Where a group reads a partition on. ``before``: what it had committed, or None; ``after``: the next record that
    it reads. ``start`` and ``end``: what the partition holds."""

    topic: str
    partition: int
    before: Offset | None
    after: Offset
    start: Offset
    end: Offset

    @property
    def lag(self) -> int:
        """Records from there to the end."""
        return self.end - self.after


def listed_document(group: ListedGroup) -> dict[str, Any]:
    """One line about a group."""
    return {
        "group": group.group_id,
        "type": group.group_type,
        "state": group.state,
        "members": group.members,
        "protocol_type": group.protocol_type,
    }


def group_document(group: GroupDescription) -> dict[str, Any]:
    """Everything that is known of one group."""
    return {
        "group": group.group_id,
        "type": group.group_type,
        "state": group.state,
        "epoch": group.epoch,
        "assignor": group.assignor,
        "lag": group.lag,
        "members": [_member_document(member) for member in group.members],
        "partitions": [_partition_document(partition) for partition in group.partitions],
    }


def classic_members(group: GroupDescription) -> int:
    """How many members of a consumer group speak the classic protocol."""
    return sum(member.protocol == "classic" for member in group.members) if group.group_type == CONSUMER else 0


def _member_document(member: GroupMember) -> dict[str, Any]:
    return {
        "member": member.member_id,
        "instance": member.instance_id,
        "client": member.client_id,
        "epoch": member.epoch,
        "protocol": member.protocol,
        "pattern": member.pattern,
        "partitions": None if member.partitions is None else [f"{t}-{n}" for t, n in member.partitions],
    }


def _partition_document(partition: GroupPartition) -> dict[str, Any]:
    return {
        "topic": partition.topic,
        "partition": partition.partition,
        "committed": partition.committed,
        "end": partition.end,
        "lag": partition.lag,
        "member": partition.member,
        "metadata": partition.metadata,
    }
