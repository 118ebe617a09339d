"""What changed: a decision's consequences, the only thing that ever changes an image.

Typed and versioned like commands; each carries the new state whole, so that replaying one decides nothing.
"""

import msgspec

from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId, TopicId

from .election import Source
from .image import Broker, Partition, Topic


class BrokerRegistered(msgspec.Struct, frozen=True, tag="BrokerRegistered/1"):
    """A new incarnation; the results of the old one are forgotten."""

    broker: Broker


class BrokerChanged(msgspec.Struct, frozen=True, tag="BrokerChanged/1"):
    """The same incarnation was fenced, unfenced or set draining."""

    broker: Broker


class NodeIdGiven(msgspec.Struct, frozen=True, tag="NodeIdGiven/1"):
    """The node on this data directory is this one from now on."""

    directory_id: DirectoryId
    node_id: BrokerId


class TopicCreated(msgspec.Struct, frozen=True, tag="TopicCreated/1"):
    """A new topic with its first partitions."""

    topic: Topic


class TopicDeleted(msgspec.Struct, frozen=True, tag="TopicDeleted/1"):
    """The topic of this id is gone."""

    topic_id: TopicId


class ConfigsChanged(msgspec.Struct, frozen=True, tag="ConfigsChanged/1"):
    """All that is set now on a topic or, where ``topic_id`` is None, on a broker."""

    topic_id: TopicId | None
    broker: str  # its number in decimal, or image.ALL_BROKERS
    configs: dict[str, str]


class PartitionsAdded(msgspec.Struct, frozen=True, tag="PartitionsAdded/1"):
    """Partitions after the topic's last one."""

    topic_id: TopicId
    partitions: tuple[Partition, ...]


class PartitionChanged(msgspec.Struct, frozen=True, tag="PartitionChanged/1"):
    """A partition's new state; ``elected_from`` says whence a new leader came, None where there is no new one."""

    topic_id: TopicId
    partition: int
    state: Partition
    elected_from: Source | None


class ProducerIdsAllocated(msgspec.Struct, frozen=True, tag="ProducerIdsAllocated/1"):
    """Ids below this one are given away."""

    next_producer_id: int


class ResultRecorded(msgspec.Struct, frozen=True, tag="ResultRecorded/1"):
    """A broker's request was executed; a retry gets this result."""

    broker_id: BrokerId
    broker_epoch: BrokerEpoch
    sequence: int
    result: bytes


class ChangeRecorded(msgspec.Struct, frozen=True, tag="ChangeRecorded/1"):
    """A client's change was decided; another attempt at it gets this result, by whichever broker it comes."""

    change_id: str
    result: bytes


Event = (
    BrokerRegistered
    | BrokerChanged
    | NodeIdGiven
    | TopicCreated
    | TopicDeleted
    | ConfigsChanged
    | PartitionsAdded
    | PartitionChanged
    | ProducerIdsAllocated
    | ResultRecorded
    | ChangeRecorded
)
