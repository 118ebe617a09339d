"""Deciding a leader's change of its ISR: compare-and-set through the quorum (KIP-497, KIP-841, KIP-903)."""

from msgspec.structs import replace

from ottla.log.model import BrokerId, PartitionEpoch

from .commands import AlterPartition
from .decision import Context, Decision, refuse
from .election import with_isr
from .events import PartitionChanged
from .image import MetadataImage, Partition
from .results import PartitionAltered


def alter_partition(context: Context, body: AlterPartition) -> Decision:
    """The new ISR if the requester still leads what it thinks it leads and every member may be in it."""
    image = context.image
    topic = image.topic_by_id(body.topic_id)
    if topic is None:
        return refuse("UNKNOWN_TOPIC_ID", f"there is no topic with id {body.topic_id}")
    partition = image.partition(body.topic_id, body.partition)
    if partition is None:
        return refuse("UNKNOWN_TOPIC_OR_PARTITION", f"topic {topic.name!a} has no partition {body.partition}")
    refusal = _not_its_leader(context, partition, body) or _ineligible(image, partition, body)
    if refusal is not None:
        return refusal
    isr = {member for member, _ in body.new_isr}
    state, elected_from = with_isr(partition, isr, image.brokers, image.rules(topic, partition))
    if state == partition:
        # The epoch rises all the same: what this leader sent before and gave up can no longer be accepted.
        state = replace(state, partition_epoch=PartitionEpoch(partition.partition_epoch + 1))
    change = PartitionChanged(body.topic_id, body.partition, state, elected_from)
    return Decision([change], PartitionAltered(body.topic_id, body.partition, state))


def _not_its_leader(context: Context, partition: Partition, body: AlterPartition) -> Decision | None:
    if body.leader_epoch < partition.leader_epoch:
        return refuse("FENCED_LEADER_EPOCH", f"the leader epoch is {partition.leader_epoch}, not {body.leader_epoch}")
    if body.leader_epoch > partition.leader_epoch:
        return refuse("UNKNOWN_LEADER_EPOCH", f"the leader epoch is {partition.leader_epoch}, not {body.leader_epoch}")
    if context.requester is None or context.requester.broker_id != partition.leader:
        return refuse("NOT_LEADER_OR_FOLLOWER", f"the leader is {partition.leader}; only it may alter the partition")
    if body.partition_epoch != partition.partition_epoch:
        return refuse(
            "INVALID_UPDATE_VERSION", f"the partition epoch is {partition.partition_epoch}, not {body.partition_epoch}"
        )
    return None


def _ineligible(image: MetadataImage, partition: Partition, body: AlterPartition) -> Decision | None:
    members = [member for member, _ in body.new_isr]
    if len(set(members)) != len(members) or partition.leader not in members:
        return refuse("INVALID_REQUEST", "an ISR names each member once, and its leader among them")
    for member, broker_epoch in body.new_isr:
        if (reason := _why_ineligible(image, partition, member, broker_epoch)) is not None:
            return refuse("INELIGIBLE_REPLICA", f"broker {member} {reason}")
    return None


def _why_ineligible(image: MetadataImage, partition: Partition, member: BrokerId, broker_epoch: int) -> str | None:
    if member not in partition.replicas:
        return "is not a replica of the partition"
    if member in partition.offline:
        return "cannot serve it: its copy is offline"
    broker = image.brokers[member]
    if broker.broker_epoch != broker_epoch:
        # It restarted since the leader saw it caught up: what it had then may not be what it has (KIP-903).
        return f"has epoch {broker.broker_epoch}, not {broker_epoch}"
    if broker.fenced:
        return "is fenced"
    if broker.draining and member not in partition.isr:
        return "is draining"  # one already in the ISR may stay while min.insync needs it
    return None
