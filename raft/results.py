"""What the quorum answers to a command: one msgpack map, told apart by its ``type``."""

import msgspec

from ottla.log.model import BrokerEpoch, BrokerId, TopicId

from .image import Partition


class Done(msgspec.Struct, frozen=True, tag="Done"):
    """It is so now (or was already)."""


class Registered(msgspec.Struct, frozen=True, tag="Registered"):
    """The broker's epoch: the quorum index of its registration."""

    broker_epoch: BrokerEpoch


class NodeIdAssigned(msgspec.Struct, frozen=True, tag="NodeIdAssigned"):
    """The node id of that data directory, for good."""

    node_id: BrokerId


class TopicCreation(msgspec.Struct, frozen=True, tag="TopicCreation"):
    """The topic as it is; ``created`` is False where an auto-creation met one that was already there."""

    name: str
    topic_id: TopicId
    partition_count: int
    replication_factor: int
    configs: dict[str, str]
    created: bool


class PartitionCreation(msgspec.Struct, frozen=True, tag="PartitionCreation"):
    """The topic has this many partitions now."""

    topic_id: TopicId
    partition_count: int


class PartitionAltered(msgspec.Struct, frozen=True, tag="PartitionAltered"):
    """The partition as it is after AlterPartition; its leader may have changed too."""

    topic_id: TopicId
    partition: int
    state: Partition


class ProducerIdBlock(msgspec.Struct, frozen=True, tag="ProducerIdBlock"):
    """Producer ids start to start + count - 1 belong to the requester."""

    start: int
    count: int


class PartitionRefusal(msgspec.Struct, frozen=True):
    """Why one partition was left as it is: Kafka's name of the error, and a sentence."""

    topic_id: TopicId
    partition: int
    code: str
    message: str


class PartitionsChanged(msgspec.Struct, frozen=True, tag="PartitionsChanged"):
    """So many partitions were changed; those in ``failed`` could not be, the rest was as asked already."""

    changed: int
    failed: tuple[PartitionRefusal, ...]


class Refused(msgspec.Struct, frozen=True, tag="Refused"):
    """Nothing changed. ``code`` is Kafka's name of the error, or STALE for a request below the result window."""

    code: str
    message: str


Result = (
    Done
    | Registered
    | NodeIdAssigned
    | TopicCreation
    | PartitionCreation
    | PartitionAltered
    | ProducerIdBlock
    | PartitionsChanged
    | Refused
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Result] = msgspec.msgpack.Decoder(Result)


def encode_result(result: Result) -> bytes:
    """The result as the quorum returns and remembers it."""
    return _encoder.encode(result)


def decode_result(data: bytes) -> Result:
    """The result in these bytes. Raises msgspec.DecodeError or its child ValidationError for any others."""
    return _decoder.decode(data)
