"""What can be asked of the metadata quorum, and its bytes in the Raft log.

A command is one msgpack map. ``body.type`` names the kind and its version (``AlterPartition/1``): what a kind and
version decides never changes; new behaviour is a new version. Unknown kinds and fields are refused, not skipped.
"""

from typing import Annotated, Literal

import msgspec

from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, PartitionEpoch, TopicId

from .image import Listener

MAX_COMMAND_BYTES = 1024 * 1024
MAX_REPLICAS = 32
"""Replicas of one partition."""
MAX_PRODUCER_ID_BLOCK = 1_000_000
MAX_LISTENERS = 8
"""Doors of one broker beside HTTP."""
MAX_DAMAGED = 20_000
"""Damaged partitions that a registration names: with more of them the disk is as good as another one."""
MAX_INTACT = 10_000
"""Intact ones that it names; of the others it is not believed."""
MAX_PARTITIONS_AT_ONCE = 500
"""Moved or elected by one command."""

_ID_MAX = 2**31 - 1
_INDEX_MAX = 2**62

_BrokerId = Annotated[BrokerId, msgspec.Meta(ge=1, le=_ID_MAX)]
_BrokerEpoch = Annotated[BrokerEpoch, msgspec.Meta(ge=0, le=_INDEX_MAX)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=_INDEX_MAX)]
_TopicId = Annotated[TopicId, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{22}\Z")]
_ChangeId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Replicas = Annotated[tuple[_BrokerId, ...], msgspec.Meta(max_length=MAX_REPLICAS)]
_Configs = Annotated[dict[str, str], msgspec.Meta(max_length=64)]


class Requester(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which broker asks, and which of its requests this is; a retry repeats all three."""

    broker_id: _BrokerId
    broker_epoch: _BrokerEpoch
    sequence: _Count


class RegisterBroker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="RegisterBroker/1"):
    """A process starts: it gets a broker epoch and begins fenced. Idempotent by incarnation id.

    ``unclean``: the last stop was unclean as the broker itself can tell. ``quarantined``: its recovery set aside data
    that had been good, so it is not taken as last known leader either.
    """

    broker_id: _BrokerId
    incarnation_id: _Short
    directory_id: Annotated[DirectoryId, msgspec.Meta(min_length=1, max_length=255)]
    host: _Short
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    rack: _Short | None
    unclean: bool
    previous_broker_epoch: _BrokerEpoch | None = None  # what it had on disk
    quarantined: bool = False


class RegisterBroker2(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="RegisterBroker/2"):
    """As RegisterBroker, and names the partitions whose data is gone instead of ``quarantined``, which speaks of all.

    ``damaged``: partitions of which the broker may hold less than it did. It leaves their ISR and ELR, and is not taken
    as their last known leader; of the others only if ``unclean``. ``intact``: partitions of which it never acknowledged
    what was not durable (flush=ack): it stays what it was in them, ``unclean`` or not. ``offline``: partitions that it
    cannot serve in this run, as ReplicasOffline says.
    """

    broker_id: _BrokerId
    incarnation_id: _Short
    directory_id: Annotated[DirectoryId, msgspec.Meta(min_length=1, max_length=255)]
    host: _Short
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    rack: _Short | None
    unclean: bool
    damaged: Annotated[tuple[tuple[_TopicId, _Count], ...], msgspec.Meta(max_length=MAX_DAMAGED)] = ()
    previous_broker_epoch: _BrokerEpoch | None = None  # what it had on disk
    offline: Annotated[tuple[tuple[_TopicId, _Count], ...], msgspec.Meta(max_length=MAX_DAMAGED)] = ()
    intact: Annotated[tuple[tuple[_TopicId, _Count], ...], msgspec.Meta(max_length=MAX_INTACT)] = ()


class RegisterBroker3(RegisterBroker2, frozen=True, forbid_unknown_fields=True, tag="RegisterBroker/3"):
    """As RegisterBroker/2, and tells where other doors than HTTP are (``listeners``). ``previous_broker_epoch`` may be
    older than the last one, where all since then were given to processes that died before they were unfenced."""

    listeners: Annotated[tuple[Listener, ...], msgspec.Meta(max_length=MAX_LISTENERS)] = ()


class AssignNodeId(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="AssignNodeId/1"):
    """A node that is no voter joins: its data directory gets a node id that nobody had. Idempotent by directory id.

    ``first``: the lowest id that is no voter's.
    """

    directory_id: Annotated[DirectoryId, msgspec.Meta(min_length=1, max_length=255)]
    first: _BrokerId


class FenceBroker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="FenceBroker/1"):
    """Takes a broker out of every ISR and elects leaders in its place."""

    broker_id: _BrokerId
    broker_epoch: _BrokerEpoch


class UnfenceBroker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="UnfenceBroker/1"):
    """Lets a broker lead again; it leads at once where it is eligible and nobody leads."""

    broker_id: _BrokerId
    broker_epoch: _BrokerEpoch


class DrainBroker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="DrainBroker/1"):
    """A broker is about to stop: its leaderships go to others and it leaves the ISRs that can spare it."""

    broker_id: _BrokerId
    broker_epoch: _BrokerEpoch


class ReplicasOffline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ReplicasOffline/1"):
    """A running broker cannot serve these of its replicas any more, until it starts again (KIP-112)."""

    broker_id: _BrokerId
    broker_epoch: _BrokerEpoch
    partitions: Annotated[tuple[tuple[_TopicId, _Count], ...], msgspec.Meta(max_length=MAX_DAMAGED)]


class CreateTopic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="CreateTopic/1"):
    """Makes a topic. Idempotent by the proposed topic id; None takes the default."""

    name: Annotated[str, msgspec.Meta(max_length=1024)]
    topic_id: _TopicId
    partition_count: int | None = None
    replication_factor: int | None = None
    assignments: Annotated[tuple[_Replicas, ...], msgspec.Meta(max_length=100_000)] | None = None
    configs: _Configs = {}
    placement_seed: int = 0
    auto_created: bool = False  # then a topic that is already there is taken as it is


class CreateTopicWithConfigs(CreateTopic, frozen=True, forbid_unknown_fields=True, tag="CreateTopic/2"):
    """As CreateTopic/1, which knows three configs only."""


class ConfigChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of one config (KIP-339). ``append`` and ``subtract`` are for lists; ``delete`` takes no value."""

    key: _Short
    op: Literal["set", "delete", "append", "subtract"]
    value: Annotated[str, msgspec.Meta(max_length=1024)] = ""


class AlterConfigs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="AlterConfigs/1"):
    """Changes configs, all of these or none. ``topic_id``: the topic's; None: of a broker, by its number in decimal,
    or "" for all that do not set their own. ``replace``: what is not named goes (Kafka's older AlterConfigs)."""

    topic_id: _TopicId | None
    broker: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{0,10}\Z")]
    changes: Annotated[tuple[ConfigChange, ...], msgspec.Meta(max_length=64)]
    replace: bool = False


class DeleteTopic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="DeleteTopic/1"):
    """Forgets a topic; brokers set its data aside."""

    topic_id: _TopicId


class CreatePartitions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="CreatePartitions/1"):
    """Grows a topic to ``new_count`` partitions."""

    topic_id: _TopicId
    new_count: int
    placement_seed: int = 0


class CreatePartitionsAssigned(CreatePartitions, frozen=True, forbid_unknown_fields=True, tag="CreatePartitions/2"):
    """As CreatePartitions/1, and says where each new partition shall be; of every one, or of none."""

    assignments: Annotated[tuple[_Replicas, ...], msgspec.Meta(max_length=100_000)] = ()


class AlterPartition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="AlterPartition/1"):
    """A leader changes its ISR: compare-and-set on both epochs (KIP-497), members with their epochs (KIP-903)."""

    topic_id: _TopicId
    partition: int
    leader_epoch: LeaderEpoch
    partition_epoch: PartitionEpoch
    new_isr: Annotated[tuple[tuple[_BrokerId, _BrokerEpoch], ...], msgspec.Meta(max_length=MAX_REPLICAS)]


class AllocateProducerIds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="AllocateProducerIds/1"):
    """Takes ``count`` producer ids that nobody had before."""

    count: int


class Reassignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where one partition shall be; None: where it was before it was asked to move."""

    topic_id: _TopicId
    partition: int
    replicas: _Replicas | None


class AlterPartitionReassignments(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="AlterPartitionReassignments/1"
):
    """Moves partitions to other replicas, or calls that off (KIP-455). Each is decided by itself."""

    changes: Annotated[tuple[Reassignment, ...], msgspec.Meta(max_length=MAX_PARTITIONS_AT_ONCE)]


class Election(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One partition."""

    topic_id: _TopicId
    partition: int


class ElectLeaders(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ElectLeaders/1"):
    """The preferred replicas lead where they are in sync (KIP-460). ``unclean``: where nobody can lead, ``leader`` or
    any live replica does, though it may lack what was committed: an operator's last resort."""

    elections: Annotated[tuple[Election, ...], msgspec.Meta(max_length=MAX_PARTITIONS_AT_ONCE)]
    unclean: bool = False
    leader: _BrokerId | None = None


class SetDrained(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="SetDrained/1"):
    """By an operator's word a broker leads nothing that another can, until told otherwise, over its restarts too."""

    broker_id: _BrokerId
    drained: bool


Body = (
    RegisterBroker
    | RegisterBroker2
    | RegisterBroker3
    | AssignNodeId
    | FenceBroker
    | UnfenceBroker
    | DrainBroker
    | ReplicasOffline
    | CreateTopic
    | CreateTopicWithConfigs
    | AlterConfigs
    | DeleteTopic
    | CreatePartitions
    | CreatePartitionsAssigned
    | AlterPartition
    | AllocateProducerIds
    | AlterPartitionReassignments
    | ElectLeaders
    | SetDrained
)


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the Raft log. Carries its proposer's time, so that applying it reads no clock."""

    proposed_at_ms: int
    requester: Requester | None
    body: Body
    change_id: _ChangeId | None = None  # a client's, one for all its attempts at this change


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Command)


def encode_command(command: Command) -> bytes:
    """The command as it stands in the Raft log."""
    return _encoder.encode(command)


def decode_command(data: bytes) -> Command:
    """The command in these bytes. Raises msgspec.DecodeError or its child ValidationError for any others."""
    return _decoder.decode(data)
