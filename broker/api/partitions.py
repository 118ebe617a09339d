"""Where partitions are and who leads them, by an operator: reassignments, elections, drains (KIP-455, KIP-460)."""

from collections.abc import Iterable

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    AlterPartitionReassignmentsRequest,
    ConfigsAltered,
    DescribeReplicasRequest,
    DescribeReplicasResponse,
    DrainBrokerRequest,
    ElectLeadersRequest,
    PartitionFailure,
    PartitionsChangedResponse,
    ReplicaProgress,
    ReplicasResult,
)
from ottla.log.model import TopicId
from ottla.raft.commands import AlterPartitionReassignments, Body, Election, ElectLeaders, Reassignment, SetDrained
from ottla.raft.results import PartitionsChanged

from ..partition_leader import PartitionLeader
from ..replica import Refused, Replica
from ..replica_manager import ReplicaManager
from .quorum_door import QuorumDoor


class PartitionsApi:
    """Answers once the quorum has decided; what then happens by itself, metadata and ``describe`` tell."""

    def __init__(self, *, manager: ReplicaManager, door: QuorumDoor) -> None:
        self._manager = manager
        self._door = door

    async def reassign(self, request: AlterPartitionReassignmentsRequest) -> PartitionsChangedResponse:
        """Ask partitions to move, or to stay. Raises Refused: UNKNOWN_TOPIC_OR_PARTITION."""
        ids = await self._ids(move.topic for move in request.moves)
        changes = tuple(Reassignment(ids[move.topic], move.partition, move.replicas) for move in request.moves)
        return await self._decide(AlterPartitionReassignments(changes), ids, request.change_id)

    async def elect(self, request: ElectLeadersRequest) -> PartitionsChangedResponse:
        """Hold elections. Raises Refused: UNKNOWN_TOPIC_OR_PARTITION."""
        ids = await self._ids(place.topic for place in request.partitions)
        elections = tuple(Election(ids[place.topic], place.partition) for place in request.partitions)
        return await self._decide(ElectLeaders(elections, request.unclean, request.leader), ids, request.change_id)

    async def drain(self, request: DrainBrokerRequest) -> ConfigsAltered:
        """A broker leads nothing that another can, or may lead again. Raises Refused: BROKER_ID_NOT_REGISTERED."""
        _, index = await self._door.decide(SetDrained(request.broker, request.drained), request.change_id)
        return ConfigsAltered(index)

    def describe(self, request: DescribeReplicasRequest) -> DescribeReplicasResponse:
        """One result per partition, in order."""
        return DescribeReplicasResponse(tuple(self._describe(*place) for place in request.partitions))

    async def _ids(self, names: Iterable[str]) -> dict[str, TopicId]:
        ids: dict[str, TopicId] = {}
        for name in names:
            if name not in ids:
                # The first look waits for the quorum, so the others' image is as new.
                known = self._manager.image.topics.get(name) if ids else await self._door.topic(name)
                if known is None:
                    raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name}")
                ids[name] = known.topic_id
        return ids

    async def _decide(self, body: Body, ids: dict[str, TopicId], change_id: str) -> PartitionsChangedResponse:
        result, index = await self._door.decide(body, change_id)
        assert isinstance(result, PartitionsChanged)
        names = {topic_id: name for name, topic_id in ids.items()}
        failed = tuple(
            PartitionFailure(names[refusal.topic_id], refusal.partition, ErrorCode.named(refusal.code), refusal.message)
            for refusal in result.failed
        )
        return PartitionsChangedResponse(index, result.changed, failed)

    def _describe(self, topic_id: TopicId, partition: int) -> ReplicasResult:
        try:
            replica = self._manager.require(topic_id, partition)
            return _described(replica, replica.require_leader())
        except Refused as refused:
            return ReplicasResult(topic_id, partition, refused.error, str(refused))


def _described(replica: Replica, leader: PartitionLeader) -> ReplicasResult:
    isr = leader.isr.committed
    followers = ((broker, follower.log_end) for broker, follower in sorted(leader.followers.items()))
    return ReplicasResult(
        topic_id=replica.topic_id,
        partition=replica.partition,
        error=ErrorCode.NONE,
        log_start=replica.log.log_start_offset,
        high_watermark=leader.high_watermark,
        log_end=leader.log_end,
        size_bytes=replica.log.size_bytes,
        replicas=(
            ReplicaProgress(leader.local, leader.log_end, leader.local in isr),
            *(ReplicaProgress(broker, log_end, broker in isr) for broker, log_end in followers),
        ),
    )
