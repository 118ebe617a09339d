"""What a broker and the controller say on a control stream: msgpack of [number, message], answers in any order."""

import msgspec

from ottla.log.model import BrokerId
from ottla.raft.commands import (
    AllocateProducerIds,
    AlterConfigs,
    AlterPartition,
    AlterPartitionReassignments,
    AssignNodeId,
    Command,
    CreatePartitions,
    CreateTopic,
    DeleteTopic,
    DrainBroker,
    ElectLeaders,
    RegisterBroker,
    RegisterBroker2,
    RegisterBroker3,
    ReplicasOffline,
    SetDrained,
)
from ottla.raft.sessions import Heartbeat, HeartbeatAnswer


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """A command to propose in this broker's name."""

    command: Command


class SubmitAnswer(msgspec.Struct, frozen=True, tag="submitted"):
    """What became of it; the fields of ``raft.controller.Submitted``."""

    outcome: str
    leader_id: int | None
    index: int | None
    result: bytes | None
    reason: str


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """A heartbeat."""

    beat: Heartbeat


class BeatAnswer(msgspec.Struct, frozen=True, tag="beaten"):
    """The controller heard it."""

    answer: HeartbeatAnswer


class Barrier(msgspec.Struct, frozen=True, tag="barrier"):
    """Which index shows everything committed before this question?"""


class BarrierAnswer(msgspec.Struct, frozen=True, tag="barred"):
    """``index`` None: this node does not lead, or cannot tell now."""

    index: int | None


Ask = Submit | Beat | Barrier
Answer = SubmitAnswer | BeatAnswer | BarrierAnswer

_OF_BROKERS = (
    AllocateProducerIds
    | AlterConfigs
    | AlterPartition
    | AlterPartitionReassignments
    | AssignNodeId
    | CreatePartitions
    | CreateTopic
    | DeleteTopic
    | DrainBroker
    | ReplicasOffline
    | ElectLeaders
    | SetDrained
)


def may_submit(broker_id: BrokerId, command: Command) -> bool:
    """Whether this broker may ask for that: in its own name, and nothing that is the controller's to decide."""
    body, requester = command.body, command.requester
    if isinstance(body, RegisterBroker | RegisterBroker2 | RegisterBroker3):
        return body.broker_id == broker_id and requester is None
    if requester is None or requester.broker_id != broker_id or not isinstance(body, _OF_BROKERS):
        return False
    return not isinstance(body, DrainBroker | ReplicasOffline) or body.broker_id == broker_id


_encoder = msgspec.msgpack.Encoder()
_asks: msgspec.msgpack.Decoder[tuple[int, Ask]] = msgspec.msgpack.Decoder(tuple[int, Ask])
_answers: msgspec.msgpack.Decoder[tuple[int, Answer]] = msgspec.msgpack.Decoder(tuple[int, Answer])


def encode(number: int, message: Ask | Answer) -> bytes:
    """One WebSocket message."""
    return _encoder.encode((number, message))


def decode_ask(data: bytes | bytearray) -> tuple[int, Ask]:
    """Raises msgspec.MsgspecError for anything else."""
    return _asks.decode(data)


def decode_answer(data: bytes | bytearray) -> tuple[int, Answer]:
    """Raises msgspec.MsgspecError for anything else."""
    return _answers.decode(data)
