"""Deciding the life of brokers: registered, fenced, unfenced, draining (KIP-841, KIP-966)."""

from msgspec.structs import replace

from ottla.log.model import BrokerEpoch, BrokerId, PartitionEpoch, TopicIdPartition

from .commands import (
    AssignNodeId,
    DrainBroker,
    FenceBroker,
    RegisterBroker,
    RegisterBroker2,
    RegisterBroker3,
    ReplicasOffline,
    UnfenceBroker,
)
from .decision import Context, Decision, current_broker, moved, moved_each, refuse
from .election import Brokers, Step, drained, elected, taken_offline, without, without_unclean
from .events import BrokerChanged, BrokerRegistered, Event, NodeIdGiven
from .image import Broker, MetadataImage, Partition, Rules
from .results import Done, NodeIdAssigned, Registered

MAX_BROKERS = 1000
DISK_EPOCHS_MAX = 16
"""Starts in a row that never served, whose epochs are remembered: with more of them the disk is not believed."""


def assign_node_id(context: Context, body: AssignNodeId) -> Decision:
    """Ids rise and are never given twice: what is stored under one belongs to one data directory."""
    given = context.image.node_ids
    if body.directory_id in given:
        return Decision((), NodeIdAssigned(given[body.directory_id]))
    if len(given) >= MAX_BROKERS:
        return refuse("POLICY_VIOLATION", f"a cluster gives out at most {MAX_BROKERS} node ids")
    taken = (*given.values(), *context.image.brokers)
    node_id = BrokerId(max([body.first, *(number + 1 for number in taken)]))
    return Decision([NodeIdGiven(body.directory_id, node_id)], NodeIdAssigned(node_id))


Registration = RegisterBroker | RegisterBroker2 | RegisterBroker3


def register(context: Context, body: Registration) -> Decision:
    """A new incarnation begins fenced and the old one ends fenced in the same step: no broker resumes a leadership.

    After an unclean stop it leaves every ISR and ELR before it may lead anything (section "Partitions" of the
    architecture), and in any case those of partitions whose data it has lost.
    """
    image = context.image
    old = image.brokers.get(body.broker_id)
    if old is not None and old.incarnation_id == body.incarnation_id:
        return Decision((), Registered(old.broker_epoch))
    if any(given == body.broker_id and home != body.directory_id for home, given in image.node_ids.items()):
        return refuse("INVALID_REQUEST", f"node id {body.broker_id} belongs to another data directory")
    if old is None and len(image.brokers) >= MAX_BROKERS:
        return refuse("POLICY_VIOLATION", f"a cluster has at most {MAX_BROKERS} brokers")
    broker = _incarnation(body, context.index, old)
    events: list[Event] = [BrokerRegistered(broker)]
    if old is not None:
        brokers = _with(image, broker)
        events += _come_back(image, old, body, brokers)
    return Decision(events, Registered(broker.broker_epoch))


def fence(context: Context, body: FenceBroker) -> Decision:
    """Out of every ISR, into the ELR where min.insync demands, and new leaders, all in one command."""
    broker = current_broker(context.image, body.broker_id, body.broker_epoch)
    if isinstance(broker, Decision):
        return broker
    if broker.fenced:
        return Decision((), Done())
    broker = replace(broker, fenced=True, fenced_index=context.index)
    changes = _leave(context.image, broker.broker_id, _with(context.image, broker))
    return Decision([BrokerChanged(broker), *changes], Done())


def unfence(context: Context, body: UnfenceBroker) -> Decision:
    """It may lead again, and does where it is eligible and nobody leads."""
    broker = current_broker(context.image, body.broker_id, body.broker_epoch)
    if isinstance(broker, Decision):
        return broker
    if broker.draining:
        return refuse("INVALID_REQUEST", f"broker {body.broker_id} is draining; it comes back by registering anew")
    if not broker.fenced:
        return Decision((), Done())
    broker = replace(broker, fenced=False)
    brokers = _with(context.image, broker)

    def step(partition: Partition, rules: Rules) -> Step:
        return elected(partition, brokers, rules) if partition.leader is None else Step(partition, None)

    return Decision([BrokerChanged(broker), *moved(context.image, broker.broker_id, step)], Done())


def drain(context: Context, body: DrainBroker) -> Decision:
    """It keeps following, leads nothing others can lead, and is in no ISR that has enough without it."""
    broker = current_broker(context.image, body.broker_id, body.broker_epoch)
    if isinstance(broker, Decision):
        return broker
    if broker.draining:
        return Decision((), Done())
    broker = replace(broker, draining=True)
    brokers = _with(context.image, broker)

    def step(partition: Partition, rules: Rules) -> Step:
        return drained(partition, broker.broker_id, brokers, rules)

    return Decision([BrokerChanged(broker), *moved(context.image, broker.broker_id, step)], Done())


def replicas_offline(context: Context, body: ReplicasOffline) -> Decision:
    """Out of ISR and ELR of these, and their leaderships go to others."""
    broker = current_broker(context.image, body.broker_id, body.broker_epoch)
    if isinstance(broker, Decision):
        return broker
    lost = set(body.partitions)

    def step(key: TopicIdPartition, partition: Partition, rules: Rules) -> Step:
        if key not in lost or body.broker_id in partition.offline:
            return Step(partition, None)
        return taken_offline(partition, body.broker_id, context.image.brokers, rules)

    return Decision(moved_each(context.image, body.broker_id, step), Done())


def _incarnation(body: Registration, index: int, old: Broker | None) -> Broker:
    return Broker(
        broker_id=body.broker_id,
        broker_epoch=BrokerEpoch(index),
        incarnation_id=body.incarnation_id,
        directory_id=body.directory_id,
        host=body.host,
        port=body.port,
        rack=body.rack,
        fenced=True,
        draining=False,
        fenced_index=index,
        drained=old is not None and old.drained,
        listeners=body.listeners if isinstance(body, RegisterBroker3) else (),
        disk_epochs=_disk_epochs(old) if isinstance(body, RegisterBroker3) and old is not None else (),
    )


def _disk_epochs(old: Broker) -> tuple[BrokerEpoch, ...]:
    """What the disk of the next incarnation may name beside its own epoch, the newest last."""
    before = old.disk_epochs if old.never_served else ()
    return (*before, old.broker_epoch)[-DISK_EPOCHS_MAX:]


def _disk_is_the_last(old: Broker, body: Registration) -> bool:
    """Whether the epoch on the disk is one that the last copy of this disk can have.

    An epoch is written down after the quorum has given it and before the broker is unfenced in it. A process that dies
    between the two leaves an older epoch on the disk, and no harm: it was in no ISR. Taken for an unclean stop, it
    would cost the ELR the one replica that lacks nothing, when another has truly lost its page cache.
    """
    if body.previous_broker_epoch == old.broker_epoch:
        return True
    if not isinstance(body, RegisterBroker3) or not old.never_served:
        return False
    return body.previous_broker_epoch in (old.disk_epochs or (None,))


def _stopped_uncleanly(old: Broker, body: Registration) -> bool:
    return (
        body.unclean
        or _lost_everything(body)
        or body.directory_id != old.directory_id
        or not _disk_is_the_last(old, body)  # an older copy of it
    )


def _leave(image: MetadataImage, broker_id: BrokerId, brokers: Brokers) -> list[Event]:
    return moved(image, broker_id, lambda partition, rules: without(partition, {broker_id}, brokers, rules))


def _lost_everything(body: Registration) -> bool:
    return isinstance(body, RegisterBroker) and body.quarantined


def _come_back(image: MetadataImage, old: Broker, body: Registration, brokers: Brokers) -> list[Event]:
    other_disk = _stopped_uncleanly(old, replace(body, unclean=False))
    intact = set(body.intact) if isinstance(body, RegisterBroker2) else set()
    same_data = body.directory_id == old.directory_id and not _lost_everything(body)
    damaged = set(body.damaged) if isinstance(body, RegisterBroker2) else set()
    offline = set(body.offline) if isinstance(body, RegisterBroker2) else set()

    def step(key: TopicIdPartition, partition: Partition, rules: Rules) -> Step:
        unclean = other_disk or (body.unclean and key not in intact) or body.broker_id in partition.offline
        if not unclean and key not in damaged:
            return without(partition, {body.broker_id}, brokers, rules)
        keeps = same_data and key not in damaged
        return without_unclean(partition, body.broker_id, brokers, rules, keeps_last_known=keeps)

    def step_with_offline(key: TopicIdPartition, partition: Partition, rules: Rules) -> Step:
        """A new incarnation serves again what the one before could not, but for what it says it cannot."""
        if (key in offline) == (body.broker_id in partition.offline):
            return step(key, partition, rules)
        unable = {*partition.offline, body.broker_id} if key in offline else {*partition.offline} - {body.broker_id}
        marked = replace(partition, offline=tuple(member for member in partition.replicas if member in unable))
        state, elected_from = step(key, marked, rules)
        return Step(replace(state, partition_epoch=PartitionEpoch(partition.partition_epoch + 1)), elected_from)

    return moved_each(image, body.broker_id, step_with_offline)


def _with(image: MetadataImage, broker: Broker) -> Brokers:
    return {**image.brokers, broker.broker_id: broker}
