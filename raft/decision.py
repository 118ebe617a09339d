"""What deciding a command gives: events to replay and a result to answer."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ottla.log.model import BrokerEpoch, BrokerId, TopicIdPartition

from .commands import Requester
from .election import Step
from .events import Event, PartitionChanged
from .image import Broker, MetadataImage, Partition, Rules, Topic
from .results import Refused, Result


class Decision(NamedTuple):
    """Nothing has changed yet: the events are the change."""

    events: Sequence[Event]
    result: Result


@dataclass(frozen=True, slots=True)
class Context:
    """What a decision may look at beside the command's body."""

    image: MetadataImage
    index: int  # of this command in the quorum's log
    requester: Requester | None


def refuse(code: str, message: str) -> Decision:
    """No change, and a Kafka error name with a sentence for a person."""
    return Decision((), Refused(code, message))


def current_broker(image: MetadataImage, broker_id: BrokerId, broker_epoch: BrokerEpoch) -> Broker | Decision:
    """The broker if this is its current epoch, else the refusal."""
    broker = image.brokers.get(broker_id)
    if broker is None:
        return refuse("BROKER_ID_NOT_REGISTERED", f"broker {broker_id} is not registered")
    if broker.broker_epoch != broker_epoch:
        return refuse("STALE_BROKER_EPOCH", f"broker {broker_id} has epoch {broker.broker_epoch}, not {broker_epoch}")
    return broker


def ordered_topics(image: MetadataImage) -> Iterable[Topic]:
    """Topics by name: an order that does not depend on how the image came to be."""
    return (image.topics[name] for name in sorted(image.topics))


def moved(image: MetadataImage, broker_id: BrokerId, step: Callable[[Partition, Rules], Step]) -> list[Event]:
    """``step(partition, rules)`` on every partition this broker has a replica of: events where it moved one."""
    return moved_each(image, broker_id, lambda key, partition, rules: step(partition, rules))


def moved_each(
    image: MetadataImage, broker_id: BrokerId, step: Callable[[TopicIdPartition, Partition, Rules], Step]
) -> list[Event]:
    """As ``moved``, for a step that is told which partition it is."""
    events: list[Event] = []
    for topic in ordered_topics(image):
        for number, partition in enumerate(topic.partitions):
            if broker_id not in partition.replicas:
                continue
            key = TopicIdPartition(topic.topic_id, number)
            state, elected_from = step(key, partition, image.rules(topic, partition))
            if state != partition:
                events.append(PartitionChanged(topic.topic_id, number, state, elected_from))
    return events
