"""Requests of operators and their tools: topics, where partitions are and who leads them, configs.

Part of the vocabulary of protocol.py, which names all of it.
"""

from typing import Annotated, Literal

import msgspec

from ottla.log.model import BrokerId, Offset, TopicId

from .error_codes import ErrorCode
from .message import Int32, Many, Message, Name

# --- topics ----------------------------------------------------------------------------------------------------------


ChangeId = Annotated[str, msgspec.Meta(max_length=64)]
"""One for all attempts at a change, so that it is carried out once however often it is asked for. Empty: none."""


Replicas = Annotated[tuple[BrokerId, ...], msgspec.Meta(max_length=32)]


class CreateTopicRequest(Message, tag="create_topic"):
    """None means the cluster's default: 6 partitions, min(3, brokers) replicas. ``assignments``: where each partition
    shall be, the preferred leader first, instead of a number of them. ``validate_only``: nothing is made."""

    name: Name
    partitions: int | None = None
    replication_factor: int | None = None
    configs: dict[str, str] = msgspec.field(default_factory=dict)
    change_id: ChangeId = ""
    assignments: Annotated[tuple[Replicas, ...], Many] | None = None
    validate_only: bool = False


class DeleteTopicRequest(Message, tag="delete_topic"):
    """Forget a topic. ``validate_only``: nothing is changed."""

    name: Name
    change_id: ChangeId = ""
    validate_only: bool = False


class CreatePartitionsRequest(Message, tag="create_partitions"):
    """Grow a topic to ``count`` partitions. Keys map to other partitions from then on. ``assignments``: where each of
    the new ones shall be. ``validate_only``: nothing is changed."""

    name: Name
    count: int
    change_id: ChangeId = ""
    assignments: Annotated[tuple[Replicas, ...], Many] | None = None
    validate_only: bool = False


class TopicChanged(Message, tag="topic_changed"):
    """An admin request was done; ``metadata_index`` shows it to any later request that names it."""

    name: str
    topic_id: TopicId
    metadata_index: int
    partitions: int = 0  # how many the topic has now, and how many replicas each; 0: not told
    replication_factor: int = 0


# --- where partitions are, and who leads them ------------------------------------------------------------------------

MAX_PLACES = 500
_Places = msgspec.Meta(max_length=MAX_PLACES)


class PartitionMove(Message):
    """Where one partition shall be, the preferred leader first; None calls off what was asked before."""

    topic: Name
    partition: Int32
    replicas: Replicas | None


class AlterPartitionReassignmentsRequest(Message, tag="alter_partition_reassignments"):
    """Move partitions (KIP-455). Each is decided by itself; the answer comes when it is decided, not when it is done:
    metadata tells what is added and removed."""

    moves: Annotated[tuple[PartitionMove, ...], _Places]
    change_id: ChangeId = ""


class PartitionName(Message):
    """One partition of a topic."""

    topic: Name
    partition: Int32


class ElectLeadersRequest(Message, tag="elect_leaders"):
    """Have the preferred replicas lead (KIP-460). ``unclean``: where nobody can lead, ``leader`` or any live replica
    does, though it may lack records that were acknowledged."""

    partitions: Annotated[tuple[PartitionName, ...], _Places]
    unclean: bool = False
    leader: BrokerId | None = None
    change_id: ChangeId = ""


class PartitionFailure(Message):
    """A partition that was left as it is, and why."""

    topic: str
    partition: int
    error: ErrorCode
    message: str = ""


class PartitionsChangedResponse(Message, tag="partitions_changed"):
    """``changed``: so many were; what is neither among them nor in ``failed`` was as asked already."""

    metadata_index: int
    changed: int
    failed: tuple[PartitionFailure, ...] = ()


class DrainBrokerRequest(Message, tag="drain_broker"):
    """A broker gives its leaderships away and gets none, until it is told otherwise. Answered with ConfigsAltered."""

    broker: BrokerId
    drained: bool
    change_id: ChangeId = ""


class DescribeReplicasRequest(Message, tag="describe_replicas"):
    """What leaders know of their followers. Only a leader answers."""

    partitions: Annotated[tuple[tuple[TopicId, Int32], ...], Many]


class ReplicaProgress(Message):
    """``log_end``: how far the leader knows it to be, None where it has not heard from it in this epoch."""

    broker: BrokerId
    log_end: Offset | None
    in_sync: bool


class ReplicasResult(Message):
    """A partition as its leader sees it. ``size_bytes``: of the leader's log, from ``log_start`` to ``log_end``."""

    topic_id: TopicId
    partition: int
    error: ErrorCode
    message: str = ""
    log_start: Offset | None = None
    high_watermark: Offset | None = None
    log_end: Offset | None = None
    size_bytes: int = 0
    replicas: tuple[ReplicaProgress, ...] = ()


class DescribeReplicasResponse(Message, tag="describe_replicas"):
    partitions: tuple[ReplicasResult, ...]


# --- configs ---------------------------------------------------------------------------------------------------------


class ConfigOp(Message):
    """What becomes of one config (KIP-339): ``set``, ``delete``, or for lists ``append`` and ``subtract``."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    op: Literal["set", "delete", "append", "subtract"]
    value: Annotated[str, msgspec.Meta(max_length=1024)] = ""


BrokerName = Annotated[str, msgspec.Meta(pattern=r"\A([1-9][0-9]{0,9})?\Z")]
"""A broker's number, or "" for all brokers that do not set their own."""


class AlterConfigsRequest(Message, tag="alter_configs"):
    """Change a topic's configs, or, where ``topic`` is None, a broker's. ``replace``: what is not named is unset."""

    topic: Name | None
    broker: BrokerName
    changes: Annotated[tuple[ConfigOp, ...], msgspec.Meta(max_length=64)]
    replace: bool = False
    validate_only: bool = False
    change_id: ChangeId = ""


class ConfigsAltered(Message, tag="configs_altered"):
    """It is so; ``metadata_index`` shows it to any later request that names it."""

    metadata_index: int


class DescribeConfigsRequest(Message, tag="describe_configs"):
    """A topic's configs, or, where ``topic`` is None, a broker's. A broker tells its own settings only itself."""

    topic: Name | None
    broker: BrokerName = ""


class ConfigEntry(Message):
    """``source``: who set it: ``topic``, ``broker``, ``cluster``, ``node`` (at its start) or ``default``. ``kind``:
    Kafka's word for the type. ``read_only``: not to be changed while the node runs."""

    name: str
    value: str
    source: str
    kind: str
    says: str = ""
    read_only: bool = False


class DescribeConfigsResponse(Message, tag="describe_configs"):
    configs: tuple[ConfigEntry, ...]
