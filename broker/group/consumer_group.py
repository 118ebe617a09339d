"""What a group of the consumer protocol answers to a heartbeat (KIP-848). Pure: it decides, and only replayed records
change it.

The coordinator computes who shall own what (the target) and takes each member there by itself: what the member must
give up is taken away first, and given to the next only when the member has said that it let go.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    JOIN_EPOCH,
    STATIC_LEAVE_EPOCH,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from ottla.client.topic_pattern import BadPattern, check_pattern
from ottla.log.model import TopicIdPartition

from .assignors import ASSIGNORS
from .consumer_state import NOTHING, UNSAID, ConsumerGroupState, Member
from .consumer_target import Decision, retarget
from .outcome import GroupLimits, GroupRefused, Topics
from .reconcile import reconcile
from .records import (
    CONSUMER_GROUP,
    CURRENT,
    MEMBER,
    TARGET,
    TARGET_MEMBER,
    ConsumerGroupValue,
    CurrentValue,
    GroupRecord,
    MemberValue,
    Partitions,
    TargetMemberValue,
    by_topic,
)


def heartbeat(
    group: ConsumerGroupState,
    request: ConsumerGroupHeartbeatRequest,
    member_id: str,
    topics: Topics,
    limits: GroupLimits,
    topics_changed: bool = True,
) -> tuple[list[GroupRecord], ConsumerGroupHeartbeatResponse]:
    """Decide a heartbeat of a member that stays or comes. ``member_id``: the request's, or one made for it.
    ``topics_changed``: whether topics may not be what they were at the last heartbeat. Raises GroupRefused."""
    _check(request)
    decision = Decision(group)
    owned = None if request.topic_partitions is None else _set_of(request.topic_partitions)
    before = _admit(decision, request, member_id, owned, limits)
    _note(decision, request, member_id)
    changed = subscription_of(decision.group.members[member_id].said) != before
    if changed or topics_changed or decision.group.target_epoch < decision.group.epoch:
        retarget(decision, topics, changed=changed)
    current = decision.group.members[member_id].current
    stepped = reconcile(decision.group, member_id, owned)
    if stepped != current:
        decision.write_member(CURRENT, member_id, stepped)
    known = group.members.get(member_id)
    full = (
        known is None
        or stepped.assigned != known.current.assigned
        or request.member_epoch != known.current.epoch  # it joins, or an answer was lost on its way
        or (owned is not None and owned != stepped.assigned)
        or _is_full(request)
    )
    return decision.records, ConsumerGroupHeartbeatResponse(
        error=ErrorCode.NONE,
        member_id=member_id,
        member_epoch=stepped.epoch,
        heartbeat_interval_ms=int(limits.consumer_heartbeat_s * 1000),
        assignment=as_topics(stepped.assigned) if full else None,
    )


def _is_full(request: ConsumerGroupHeartbeatRequest) -> bool:
    """Whether the member says everything again, because it lost an answer."""
    silent = request.subscribed_topic_names is None and request.subscribed_topic_regex is None
    return not silent and None not in (request.rebalance_timeout_ms, request.topic_partitions)


def leave(group: ConsumerGroupState, request: ConsumerGroupHeartbeatRequest) -> list[GroupRecord]:
    """Decide the last heartbeat of a member: -1, or -2 of a static one that will be back. Raises GroupRefused."""
    member = group.members.get(request.member_id)
    owner = None if request.instance_id is None else group.instances.get(request.instance_id)
    if owner is not None and owner != request.member_id:
        raise GroupRefused(ErrorCode.FENCED_INSTANCE_ID, f"{request.instance_id} is another member now")
    if member is None or member.classic:
        raise GroupRefused(ErrorCode.UNKNOWN_MEMBER_ID, f"there is no member {request.member_id}")
    decision = Decision(group)
    if request.member_epoch == STATIC_LEAVE_EPOCH and member.said.instance_id is not None:
        away = CurrentValue(STATIC_LEAVE_EPOCH, member.current.epoch, member.current.state, member.held)
        decision.write_member(CURRENT, request.member_id, away)
        return decision.records
    return remove(group, [request.member_id])


def remove(group: ConsumerGroupState, member_ids: Iterable[str]) -> list[GroupRecord]:
    """Members are gone: they left, or were not heard of in time. Their partitions are free at once."""
    decision = Decision(group)
    for member_id in member_ids:
        for kind in (CURRENT, TARGET_MEMBER, MEMBER):
            decision.write_member(kind, member_id, None)
    if decision.records:
        decision.write_group(CONSUMER_GROUP, ConsumerGroupValue(group.epoch + 1, group.metadata_hash))
    return decision.records


def forget(group: ConsumerGroupState) -> list[GroupRecord]:
    """Tombstones for a whole group."""
    decision = Decision(group)
    for member_id in list(group.members):
        for kind in (CURRENT, TARGET_MEMBER, MEMBER):
            decision.write_member(kind, member_id, None)
    decision.write_group(TARGET, None)
    decision.write_group(CONSUMER_GROUP, None)
    return decision.records


def check_epoch(group: ConsumerGroupState, member_id: str, epoch: int | None, instance_id: str | None = None) -> None:
    """Whether a commit or a fetch of offsets comes from a member that is up to date. Raises GroupRefused."""
    if instance_id is not None and group.instances.get(instance_id, member_id) != member_id:
        raise GroupRefused(ErrorCode.FENCED_INSTANCE_ID, f"{instance_id} is another member now")
    member = group.members.get(member_id)
    if member is None:
        raise GroupRefused(ErrorCode.UNKNOWN_MEMBER_ID, f"there is no member {member_id or 'without an id'}")
    if epoch != member.current.epoch:
        error = ErrorCode.ILLEGAL_GENERATION if member.classic else ErrorCode.STALE_MEMBER_EPOCH
        raise GroupRefused(error, f"epoch {epoch} is not {member.current.epoch}")


def state_of(group: ConsumerGroupState) -> str:
    """Kafka's word for what the group is doing."""
    if not group.members:
        return "Empty"
    if group.epoch > group.target_epoch:
        return "Assigning"
    settled = all(m.current.epoch == group.target_epoch and m.current.state == 0 for m in group.members.values())
    return "Stable" if settled else "Reconciling"


def as_topics(partitions: Partitions) -> tuple[TopicPartitions, ...]:
    """As the wire has it."""
    return tuple(TopicPartitions(topic_id, tuple(numbers)) for topic_id, numbers in by_topic(partitions).items())


WhatIsRead = tuple[tuple[str, ...], str | None]
"""Names, and a regular expression or None."""


def subscription_of(said: MemberValue) -> WhatIsRead:
    """What the member wants to read."""
    return said.topics, said.regex


# --- the steps of a heartbeat ----------------------------------------------------------------------------------------


def _check(request: ConsumerGroupHeartbeatRequest) -> None:
    if request.subscribed_topic_regex:
        try:
            check_pattern(request.subscribed_topic_regex)
        except BadPattern as bad:
            raise GroupRefused(ErrorCode.INVALID_REGULAR_EXPRESSION, str(bad)) from bad
    if request.server_assignor is not None and request.server_assignor not in ASSIGNORS:
        raise GroupRefused(
            ErrorCode.UNSUPPORTED_ASSIGNOR, f"{request.server_assignor[:100]!a} is none of {', '.join(ASSIGNORS)}"
        )
    if request.member_epoch != JOIN_EPOCH:
        return
    if request.topic_partitions:
        raise GroupRefused(ErrorCode.INVALID_REQUEST, "who joins owns nothing")
    if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
        raise GroupRefused(ErrorCode.INVALID_REQUEST, "who joins says what it subscribes to")


def _admit(
    decision: Decision,
    request: ConsumerGroupHeartbeatRequest,
    member_id: str,
    owned: Partitions | None,
    limits: GroupLimits,
) -> WhatIsRead | None:
    """Let the member in, or take its epoch as right. Returns what it had subscribed to."""
    group = decision.group
    joins = request.member_epoch == JOIN_EPOCH
    other = None if request.instance_id is None else group.instances.get(request.instance_id)
    if other is not None and other != member_id:
        if not joins:
            raise GroupRefused(ErrorCode.FENCED_INSTANCE_ID, f"{request.instance_id} is another member now")
        if not (group.members[other].away or group.members[other].classic):
            raise GroupRefused(
                ErrorCode.UNRELEASED_INSTANCE_ID, f"{request.instance_id} is still a member: it has not left"
            )
        return take_over(decision, other, member_id)
    member = group.members.get(member_id)
    if member is None or (member.classic and not joins):
        if not joins:
            raise GroupRefused(ErrorCode.UNKNOWN_MEMBER_ID, f"there is no member {member_id}: join at epoch 0")
        if len(group.members) >= limits.consumer_size_max:
            raise GroupRefused(ErrorCode.GROUP_MAX_SIZE_REACHED, f"the group has {limits.consumer_size_max} members")
        return None
    if member.away and joins:
        _come_back(decision, member_id)
    elif not joins:
        _check_epoch(member.current, request.member_epoch, owned)
    return subscription_of(member.said)


def _check_epoch(current: CurrentValue, epoch: int, owned: Partitions | None) -> None:
    if epoch == current.epoch:
        return
    # The answer that raised its epoch was lost: it may go on if it has nothing that is not its own by now.
    lost_answer = epoch == current.previous_epoch and owned is not None and owned <= current.assigned
    if not lost_answer or epoch > current.epoch:
        raise GroupRefused(ErrorCode.FENCED_MEMBER_EPOCH, f"epoch {epoch} is not {current.epoch}: join again")


def take_over(decision: Decision, old: str, new: str) -> WhatIsRead:
    """A static member is back as a new process: what was the old one's is its own (KIP-345)."""
    group = decision.group
    member, target = group.members[old], group.target.get(old)
    for kind in (CURRENT, TARGET_MEMBER, MEMBER):
        decision.write_member(kind, old, None)
    decision.write_member(MEMBER, new, member.said)
    if target is not None:
        decision.write_member(TARGET_MEMBER, new, TargetMemberValue(target))
    decision.write_member(CURRENT, new, _returned(member))
    return subscription_of(member.said)


def _come_back(decision: Decision, member_id: str) -> None:
    decision.write_member(CURRENT, member_id, _returned(decision.group.members[member_id]))


def _returned(away: Member) -> CurrentValue:
    """It owned nothing while it was away, so what is not its any more need not be revoked; its epoch is of before."""
    return CurrentValue(JOIN_EPOCH, JOIN_EPOCH, NOTHING.state, away.held)


def _note(decision: Decision, request: ConsumerGroupHeartbeatRequest, member_id: str) -> None:
    """What the member says of itself, where that is new."""
    member = decision.group.members.get(member_id)
    said = member.said if member is not None else UNSAID
    names, regex = request.subscribed_topic_names, request.subscribed_topic_regex
    if request.member_epoch == JOIN_EPOCH:  # it says everything: what is not there, it does not want
        names, regex = names or (), regex or ""
    told: dict[str, object] = {
        "instance_id": request.instance_id,
        "rack_id": request.rack_id,
        "client_id": request.client_id or None,
        "client_host": request.client_host or None,
        "topics": None if names is None else tuple(sorted(set(names))),
        "rebalance_timeout_ms": request.rebalance_timeout_ms,
        "assignor": request.server_assignor,
    }
    new: dict[str, Any] = {
        name: value for name, value in told.items() if value is not None and value != getattr(said, name)
    }
    if regex is not None and (regex or None) != said.regex:
        new["regex"] = regex or None
    if said.classic is not None:
        new["classic"] = None
    if new or member is None:
        decision.write_member(MEMBER, member_id, msgspec.structs.replace(said, **new))


def _set_of(topics: Iterable[TopicPartitions]) -> Partitions:
    return frozenset(TopicIdPartition(topic.topic_id, n) for topic in topics for n in topic.partitions)
