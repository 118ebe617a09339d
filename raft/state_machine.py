"""The cluster's replicated state machine: decide reads, replay writes, apply does one after the other."""

from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from ottla.log.failpoints import failpoint

from .broker_decisions import assign_node_id, drain, fence, register, replicas_offline, unfence
from .commands import (
    MAX_COMMAND_BYTES,
    MAX_PRODUCER_ID_BLOCK,
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
    FenceBroker,
    RegisterBroker,
    RegisterBroker2,
    RegisterBroker3,
    ReplicasOffline,
    Requester,
    SetDrained,
    UnfenceBroker,
    decode_command,
)
from .config_decisions import alter_configs
from .decision import Context, Decision, current_broker, refuse
from .digests import ImageDigest, is_due
from .events import ChangeRecorded, Event, ProducerIdsAllocated, ResultRecorded
from .image import RESULT_WINDOW, MetadataImage, empty_image
from .partition_decisions import alter_partition
from .reassignment import alter_reassignments, elect_leaders, set_drained
from .replay import replay, replay_all
from .results import ProducerIdBlock, Refused, decode_result, encode_result
from .topic_decisions import create_partitions, create_topic, delete_topic

__all__ = ["Decision", "MetadataStateMachine", "Observer", "decide", "replay"]

MAX_PRODUCER_ID = 2**62

Observer = Callable[[MetadataImage, Sequence[Event]], None]
"""Told of the new image and of the events that made it, in the step that made it. Must not raise."""


def decide(image: MetadataImage, index: int, command: Command) -> Decision:
    """What this command at this quorum index changes and answers; reads nothing but its arguments.

    A requester's repeated sequence gets its first result and changes nothing; one below its window of results is
    refused as STALE, one of another broker epoch as STALE_BROKER_EPOCH.
    """
    requester = command.requester
    if requester is None:
        return _decide_change(image, index, command)
    answered = _answered(image, requester)
    if answered is not None:
        return answered
    decision = _decide_change(image, index, command)
    recorded = ResultRecorded(
        requester.broker_id, requester.broker_epoch, requester.sequence, encode_result(decision.result)
    )
    return Decision([*decision.events, recorded], decision.result)


def _decide_change(image: MetadataImage, index: int, command: Command) -> Decision:
    """A client asks again by whichever broker, which cannot know that it does: its id tells (RIFL)."""
    if command.change_id is None:
        return _decide_body(image, index, command)
    if (known := image.changes.get(command.change_id)) is not None:
        return Decision((), decode_result(known))
    decision = _decide_body(image, index, command)
    recorded = ChangeRecorded(command.change_id, encode_result(decision.result))
    return Decision([*decision.events, recorded], decision.result)


class MetadataStateMachine:
    """Holds the current image and applies the quorum's commands to it, in order."""

    def __init__(self, image: MetadataImage | None = None, observer: Observer | None = None) -> None:
        self.image = empty_image() if image is None else image
        self.digest: ImageDigest | None = None  # of the first image of this thousand commands
        self._observer = observer

    @failpoint("raft.apply")
    def apply(self, index: int, term: int, command: bytes) -> bytes:
        """Applies one committed command and returns its encoded result. Never raises: on every node the same bytes
        do the same, and bytes that are no command are Refused. The term is not used: it is no leader epoch."""
        decision = self._decide(index, command)
        before, image = self.image.index, replace(replay_all(self.image, decision.events), index=index)
        self.image = image
        if is_due(before, index):
            self.digest = ImageDigest(index, image.digest())
        if self._observer is not None:
            self._observer(image, decision.events)
        return encode_result(decision.result)

    def restore(self, image: MetadataImage) -> None:
        """Take the image of a snapshot in place of the present one: many commands in one step, without their events."""
        self.image = image
        if self._observer is not None:
            self._observer(image, ())

    def _decide(self, index: int, data: bytes) -> Decision:
        if len(data) > MAX_COMMAND_BYTES:
            return refuse("INVALID_REQUEST", f"a command has at most {MAX_COMMAND_BYTES} bytes")
        try:
            command = decode_command(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # Without the decoder's words: results are part of the state, and its wording may differ between versions.
            return refuse("INVALID_REQUEST", "these bytes are no command of this version")
        try:
            return decide(self.image, index, command)
        except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
            # Our bug, but the same one on every node: refusing keeps them equal, where raising would stop them all.
            return refuse("UNKNOWN_SERVER_ERROR", f"deciding {type(command.body).__name__}: {type(error).__name__}")


def _answered(image: MetadataImage, requester: Requester) -> Decision | None:
    broker = current_broker(image, requester.broker_id, requester.broker_epoch)
    if isinstance(broker, Decision):
        # Not registered and registered anew are one to the requester: it is not, or no longer, that incarnation.
        refusal = broker.result
        assert isinstance(refusal, Refused)
        return refuse("STALE_BROKER_EPOCH", refusal.message)
    window = image.results.get(requester.broker_id)
    if window is None:
        return None
    if (result := window.results.get(requester.sequence)) is not None:
        return Decision((), decode_result(result))
    if requester.sequence <= window.highest - RESULT_WINDOW:
        return refuse("STALE", f"sequence {requester.sequence} is below the last {RESULT_WINDOW} of this broker")
    return None


def _decide_body(image: MetadataImage, index: int, command: Command) -> Decision:
    context = Context(image, index, command.requester)
    match command.body:
        case RegisterBroker() | RegisterBroker2() | RegisterBroker3() as body:
            return register(context, body)
        case AssignNodeId() as body:
            return assign_node_id(context, body)
        case FenceBroker() as body:
            return fence(context, body)
        case UnfenceBroker() as body:
            return unfence(context, body)
        case DrainBroker() as body:
            return drain(context, body)
        case ReplicasOffline() as body:
            return replicas_offline(context, body)
        case CreateTopic() as body:
            return create_topic(context, body)
        case AlterConfigs() as body:
            return alter_configs(context, body)
        case DeleteTopic() as body:
            return delete_topic(context, body)
        case CreatePartitions() as body:
            return create_partitions(context, body)
        case AlterPartition() as body:
            return alter_partition(context, body)
        case AllocateProducerIds() as body:
            return _allocate(context, body)
        case AlterPartitionReassignments() as body:
            return alter_reassignments(context, body)
        case ElectLeaders() as body:
            return elect_leaders(context, body)
        case SetDrained() as body:
            return set_drained(context, body)


def _allocate(context: Context, body: AllocateProducerIds) -> Decision:
    start = context.image.next_producer_id
    if not 1 <= body.count <= MAX_PRODUCER_ID_BLOCK or start + body.count > MAX_PRODUCER_ID:
        return refuse("INVALID_REQUEST", f"a block has 1 to {MAX_PRODUCER_ID_BLOCK} producer ids, not {body.count}")
    return Decision([ProducerIdsAllocated(start + body.count)], ProducerIdBlock(start, body.count))
