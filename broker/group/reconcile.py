"""One member's next step from what it owns to what it shall own (KIP-848; Kafka's CurrentAssignmentBuilder). Pure.

First it lets go, and keeps its epoch until it says that it has; then it is given what is free, in the new epoch; what
others still hold comes with a later heartbeat.
"""

from collections.abc import Mapping

from ottla.log.model import TopicIdPartition

from .consumer_state import ConsumerGroupState
from .records import STABLE, UNRELEASED, UNREVOKED, CurrentValue, Partitions


def reconcile(group: ConsumerGroupState, member_id: str, owned: Partitions | None) -> CurrentValue:
    """What the member owns from now on. ``owned``: what it says it owns; None: it did not say."""
    current, target = group.members[member_id].current, group.target.get(member_id, frozenset())
    if current.state == STABLE and current.epoch == group.target_epoch:
        return current
    if current.state == UNREVOKED and (owned is None or owned & current.revoking):
        return current  # it has not let go yet
    kept = current.assigned & target
    leaving = current.assigned - target
    if leaving and (owned is None or owned & leaving):
        return CurrentValue(current.epoch, current.previous_epoch, UNREVOKED, kept, leaving)
    return _given(group.owners, member_id, current, group.target_epoch, target, kept)


def _given(
    owners: Mapping[TopicIdPartition, str],
    member_id: str,
    current: CurrentValue,
    epoch: int,
    target: Partitions,
    kept: Partitions,
) -> CurrentValue:
    free = frozenset(partition for partition in target - kept if owners.get(partition, member_id) == member_id)
    state = STABLE if kept | free == target else UNRELEASED
    previous = current.epoch if current.epoch != epoch else current.previous_epoch
    return CurrentValue(epoch, previous, state, kept | free)
