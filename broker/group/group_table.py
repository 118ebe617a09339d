"""The groups of one partition of `__consumer_offsets` as its records make them, and what is known of each. Pure."""

from collections.abc import Callable

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import CLASSIC, CONSUMER, ListedGroup

from . import consumer_group, offsets
from .classic_state import ClassicGroup
from .consumer_state import ConsumerGroupState
from .consumer_target import names_read
from .offsets import Offsets
from .outcome import FindTopic, GroupLimits, GroupRefused, Topics
from .records import (
    CONSUMER_GROUP,
    GROUP,
    ClassicGroupValue,
    GroupKey,
    GroupRecord,
    MemberKey,
    OffsetCommitKey,
)

Group = ClassicGroup | ConsumerGroupState


class GroupTable:
    """``find_topic``: how topics look now; ``topics_version`` is changed with them by whoever takes images in."""

    def __init__(
        self, limits: GroupLimits, find_topic: FindTopic, matching: Callable[[str], tuple[str, ...]] | None = None
    ) -> None:
        self.limits = limits
        self.find_topic = find_topic
        self.topics = Topics(find_topic, matching or (lambda pattern: ()))
        self.topics_version = 0
        self.groups: dict[str, Group] = {}
        self.offsets = Offsets()
        self.count_all: Callable[[], tuple[int, int]] = self._count  # of all the broker's shards
        self.seen_topics: dict[str, int] = {}  # the version of the topics that a group's target was made for

    # --- records -----------------------------------------------------------------------------------------------------

    def replay(self, record: GroupRecord, written_ms: int) -> None:
        """Become what the log says. ``written_ms``: wall clock, as the log has it."""
        key = record.key
        if isinstance(key, OffsetCommitKey):
            self.offsets.replay(record)
        elif isinstance(key, GroupKey) and key.kind == GROUP:
            self._replay_classic(key.group_id, record.value)
        elif record.value is None and (
            isinstance(key, GroupKey) or not isinstance(self.groups.get(key.group_id), ConsumerGroupState)
        ):
            self.replay_end(record)
        else:
            group = self.groups.get(key.group_id)
            if not isinstance(group, ConsumerGroupState):
                group = self.groups[key.group_id] = ConsumerGroupState(key.group_id)
            group.replay(record)
            if key.kind == CONSUMER_GROUP and not group.members:  # with the last member's end comes a new epoch
                group.empty_since_ms = written_ms

    def _replay_classic(self, group_id: str, value: object) -> None:
        group = self.groups.get(group_id)
        if isinstance(value, ClassicGroupValue):
            if not isinstance(group, ClassicGroup):
                group = self.groups[group_id] = ClassicGroup(group_id)
            group.replay(value)
        elif isinstance(group, ClassicGroup):
            del self.groups[group_id]

    def replay_end(self, record: GroupRecord) -> None:
        """A tombstone of a consumer group; the last one of them is that of its epoch."""
        key = record.key
        assert isinstance(key, GroupKey | MemberKey)
        group = self.groups.get(key.group_id)
        if isinstance(group, ConsumerGroupState):
            group.replay(record)
            if key.kind == CONSUMER_GROUP:
                del self.groups[key.group_id]
                self.seen_topics.pop(key.group_id, None)

    @staticmethod
    def forget_group(group: Group) -> list[GroupRecord]:
        if isinstance(group, ConsumerGroupState):
            return consumer_group.forget(group)
        return [GroupRecord(GroupKey(GROUP, group.group_id), None)]

    def _count(self) -> tuple[int, int]:
        return len(self.groups), len(self.offsets)

    def check_room(self, *, joins: bool, group_id: str) -> None:
        """Whether the broker takes one group more, where this would be one. Raises GroupRefused."""
        if group_id in (self.groups if joins else self.offsets):
            return
        if self.count_all()[0 if joins else 1] >= self.limits.groups_max:
            raise GroupRefused(
                ErrorCode.GROUP_MAX_SIZE_REACHED,
                f"this broker coordinates {self.limits.groups_max} groups, and its group.max.groups allows no more",
            )

    # --- groups as a whole -------------------------------------------------------------------------------------------

    def delete(self, group_id: str) -> list[GroupRecord]:
        """Tombstones for a group and all it committed. Raises GroupRefused."""
        group = self.groups.get(group_id)
        if group is None and group_id not in self.offsets:
            raise GroupRefused(ErrorCode.GROUP_ID_NOT_FOUND, f"there is no group {group_id}")
        if group is not None and (group.members or (isinstance(group, ClassicGroup) and group.pending)):
            raise GroupRefused(ErrorCode.NON_EMPTY_GROUP, f"{group_id} has {len(group.members)} members")
        records = list(offsets.tombstones(group_id, self.offsets.of(group_id)))
        return records + (self.forget_group(group) if group is not None else [])

    def sweep(self, group_id: str, now_ms: int) -> list[GroupRecord]:
        """Tombstones for what this group need not keep: offsets of topics that are gone, and what is too old of those
        that no member reads; and the group itself, once it has neither members nor offsets."""
        group, held = self.groups.get(group_id), self.offsets.of(group_id)
        empty = group is None or not group.members
        since_ms = group.empty_since_ms if isinstance(group, ClassicGroup) or (group is not None and empty) else 0
        gone = {where for where, value in held.items() if self._is_gone(where[0], value.topic_id)}
        records = list(offsets.tombstones(group_id, sorted(gone)))
        read = self.read_topics(group)
        if read is not None:
            unread = {where for where in held if where[0] not in read} - gone
            records += offsets.expired(self.offsets, group_id, unread, since_ms, now_ms, self.limits.retention_ms)
        waits = isinstance(group, ClassicGroup) and (group.pending or group.state != "Empty")
        if group is not None and empty and len(records) == len(held) and not waits:
            records += self.forget_group(group)
        return records

    def read_topics(self, group: Group | None) -> set[str] | None:
        """What the members read; None where only they know: not all groups are of consumers, and one that rebalances
        may read others in a moment."""
        if group is None or not group.members:
            return set()
        if isinstance(group, ConsumerGroupState):
            return {name for member in group.members.values() for name in names_read(member, self.topics)}
        return group.read_topics()

    def _is_gone(self, topic: str, topic_id: object) -> bool:
        found = self.find_topic(topic)
        return found is None or topic_id not in (None, found[0])

    def all_ids(self) -> list[str]:
        """Every group, those that have only committed too."""
        return sorted({*self.groups, *self.offsets.groups()})

    def listed(self, group_id: str) -> ListedGroup:
        """One line about a group."""
        group = self.groups.get(group_id)
        if isinstance(group, ConsumerGroupState):
            return ListedGroup(group_id, "consumer", consumer_group.state_of(group), CONSUMER, len(group.members))
        if group is None:
            return ListedGroup(group_id, "", "Empty", CLASSIC)
        return ListedGroup(group_id, group.protocol_type, str(group.state), CLASSIC, len(group.members))
