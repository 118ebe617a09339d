"""Deciding where partitions go and who leads them by an operator's word: reassignment (KIP-455), elections (KIP-460).

A reassignment adds, catches up, then removes. While it is under way a partition's replicas are the target and, after
them, those that will go. The election rules end it (``election.settle``) in the step in which all that come are in
sync and enough of the target is; that step also hands over the leadership, so no leader goes before another leads.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from ottla.log.model import BrokerId, TopicId

from .commands import MAX_REPLICAS, AlterPartitionReassignments, ElectLeaders, SetDrained
from .decision import Context, Decision, moved, refuse
from .election import Step, preferred, settle, unclean
from .events import BrokerChanged, Event, PartitionChanged
from .image import Broker, MetadataImage, Partition, Rules, Topic
from .results import Done, PartitionRefusal, PartitionsChanged


class _Refused(NamedTuple):
    code: str
    message: str


_Decide = Callable[[Topic, Partition], Step | _Refused]
_Place = tuple[TopicId, int]


def alter_reassignments(context: Context, body: AlterPartitionReassignments) -> Decision:
    """Each partition is asked to move, or to stay where it was; the others do not mind if one is refused."""
    targets = {(change.topic_id, change.partition): change.replicas for change in body.changes}

    def decide(place: _Place) -> _Decide:
        return lambda topic, partition: _reassigned(context.image, topic, partition, targets[place])

    return _each(context.image, [(change.topic_id, change.partition) for change in body.changes], decide)


def elect_leaders(context: Context, body: ElectLeaders) -> Decision:
    """The preferred leader of each, or any live replica where the operator orders an unclean election."""

    def decide(_: _Place) -> _Decide:
        return lambda topic, partition: _elected(context.image, topic, partition, body)

    return _each(context.image, [(election.topic_id, election.partition) for election in body.elections], decide)


def set_drained(context: Context, body: SetDrained) -> Decision:
    """A drained broker follows and stays in sync, and leads nothing that another can; undrained, it may be elected, and
    takes over at once what only a drained one was there to lead."""
    broker = context.image.brokers.get(body.broker_id)
    if broker is None:
        return refuse("BROKER_ID_NOT_REGISTERED", f"broker {body.broker_id} is not registered")
    if broker.drained == body.drained:
        return Decision((), Done())
    broker = replace(broker, drained=body.drained)
    return Decision([BrokerChanged(broker), *_handed_over(context.image, broker)], Done())


def _handed_over(image: MetadataImage, broker: Broker) -> list[Event]:
    brokers = {**image.brokers, broker.broker_id: broker}

    def step(partition: Partition, rules: Rules) -> Step:
        return settle(partition, partition.isr, partition.elr, brokers, rules)

    return moved(image, broker.broker_id, step)


def _each(image: MetadataImage, places: Iterable[_Place], decide: Callable[[_Place], _Decide]) -> Decision:
    events: list[Event] = []
    failed: list[PartitionRefusal] = []
    seen: set[_Place] = set()
    for place in places:
        step = (
            _Refused("INVALID_REQUEST", "the request names it twice") if place in seen else _one(image, place, decide)
        )
        seen.add(place)
        if isinstance(step, _Refused):
            failed.append(PartitionRefusal(*place, step.code, step.message))
        elif step.state != image.partition(*place):
            events.append(PartitionChanged(*place, step.state, step.elected_from))
    return Decision(events, PartitionsChanged(len(events), tuple(failed)))


def _one(image: MetadataImage, place: _Place, decide: Callable[[_Place], _Decide]) -> Step | _Refused:
    topic, partition = image.topic_by_id(place[0]), image.partition(*place)
    if topic is None:
        return _Refused("UNKNOWN_TOPIC_ID", "there is no topic with this id")
    if partition is None:
        return _Refused("UNKNOWN_TOPIC_OR_PARTITION", f"topic {topic.name!a} has no such partition")
    return decide(place)(topic, partition)


def _elected(image: MetadataImage, topic: Topic, partition: Partition, body: ElectLeaders) -> Step | _Refused:
    if body.unclean:
        step = unclean(partition, image.brokers, image.rules(topic, partition), body.leader)
        if step is None and partition.leader is not None:
            return _Refused("ELECTION_NOT_NEEDED", f"broker {partition.leader} leads it")
        return step or _Refused("ELIGIBLE_LEADERS_NOT_AVAILABLE", "no replica that may be meant lives")
    step = preferred(partition, image.brokers, image.rules(topic, partition))
    if step is not None:
        return step
    first = partition.replicas[0]
    if partition.leader == first:
        return _Refused("ELECTION_NOT_NEEDED", f"broker {first} leads it already")
    return _Refused("PREFERRED_LEADER_NOT_AVAILABLE", f"broker {first} is not in sync, or is drained, or nobody leads")


def _reassigned(
    image: MetadataImage, topic: Topic, partition: Partition, target: tuple[BrokerId, ...] | None
) -> Step | _Refused:
    if target is None:
        if not partition.reassigning:
            return _Refused("NO_REASSIGNMENT_IN_PROGRESS", "nothing moves there")
        asked = replace(partition, replicas=partition.settled, adding=(), removing=())
    else:
        if (reason := _why_no_target(image, partition, target)) is not None:
            return _Refused("INVALID_REPLICA_ASSIGNMENT", reason)
        adding = tuple(replica for replica in target if replica not in partition.settled)
        removing = tuple(replica for replica in partition.settled if replica not in target)
        asked = replace(partition, replicas=(*target, *removing), adding=adding, removing=removing)
    rules = image.rules(topic, asked)
    if (reason := _why_needed(partition, asked, rules)) is not None:
        return _Refused("INVALID_REPLICA_ASSIGNMENT", reason)
    return settle(asked, partition.isr, partition.elr, image.brokers, rules, before=partition)


def _why_no_target(image: MetadataImage, partition: Partition, target: tuple[BrokerId, ...]) -> str | None:
    if not target or len(set(target)) != len(target) or len(target) > MAX_REPLICAS:
        return f"replicas are 1 to {MAX_REPLICAS} different brokers"
    for replica in target:
        if replica not in image.brokers:
            return f"broker {replica} is not registered"
        if replica not in partition.replicas and image.brokers[replica].drained:
            return f"broker {replica} is drained; undrain it first"
    return None


def _why_needed(partition: Partition, asked: Partition, rules: Rules) -> str | None:
    """Why those that were being added cannot be dropped at once: they may hold what too few others do."""
    dropped = set(partition.replicas) - set(asked.replicas)
    if partition.last_known_leader in dropped:
        return f"nobody leads it, and broker {partition.last_known_leader} led it last: it may hold what no other does"
    if not dropped.intersection(partition.isr + partition.elr):
        return None
    staying = [member for member in partition.isr if member not in dropped]
    if len(staying) >= max(1, rules.minimum):
        return None
    names = ", ".join(map(str, sorted(dropped)))
    return f"without {names} only {len(staying)} replicas are in sync; at least {max(1, rules.minimum)} must be"
