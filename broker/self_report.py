"""What a node tells of itself: for `status`, `/v1/node` and `/metrics`."""

from collections.abc import Iterable
from pathlib import Path

from ottla.client.protocol import DescribeNodeResponse
from ottla.log.clock import Clock
from ottla.log.model import BrokerId
from ottla.log.storage import Storage

from .assembly import Parts
from .replica import Replica


class SelfReport:
    """Reads the parts; changes nothing."""

    def __init__(self, parts: Parts, *, storage: Storage, clock: Clock, path: Path, version: str) -> None:
        self._parts = parts
        self._storage = storage
        self._clock = clock
        self._path = path
        self._version = version
        self._started_s = clock.monotonic()

    def describe(self, state: str) -> DescribeNodeResponse:
        """The node now; ``state`` is what it says it is doing."""
        parts, quorum = self._parts, self._parts.quorum
        leader = quorum.leader_id
        return DescribeNodeResponse(
            node_id=parts.node_id,
            state=state,
            version=self._version,
            quorum_leader=BrokerId(leader) if leader is not None else None,
            quorum_term=quorum.term,
            commit_index=quorum.commit_index,
            applied_index=quorum.applied_index,
            voters=tuple((number, voter.host, voter.port) for number, voter in sorted(parts.voters.items())),
            partitions_led=len(parts.manager.led),
            partitions_held=len(parts.manager.replicas),
            log_bytes=self._log_bytes(),
            free_bytes=self._storage.free_bytes(self._path),
            uptime_s=self._clock.monotonic() - self._started_s,
        )

    def gauges(self) -> Iterable[tuple[str, str, float]]:
        """Name, help and value of what is read at every scrape."""
        parts, quorum = self._parts, self._parts.quorum
        led = parts.manager.led
        yield "ottla_raft_term", "Current Raft term", quorum.term
        yield "ottla_raft_commit_index", "Raft commit index known here", quorum.commit_index
        yield "ottla_raft_applied_index", "Raft index applied here", quorum.applied_index
        yield "ottla_raft_is_leader", "1 where this node leads the quorum", float(quorum.is_leader)
        yield "ottla_partitions_led", "Partitions led here", len(led)
        yield "ottla_partitions_held", "Partitions with a replica here", len(parts.manager.replicas)
        yield "ottla_partitions_offline", "Partitions whose log here is out of service", len(parts.manager.offline)
        yield "ottla_log_directories_failed", "Directories of logs that are out of service", parts.logs.failed_count
        yield "ottla_partitions_quarantined", "Logs set aside as damaged in this run", len(parts.logs.quarantined)
        under = sum(map(_under_replicated, led))
        yield "ottla_partitions_under_replicated", "Partitions led here with replicas out of sync", under
        yield "ottla_partitions_leaderless", "Partitions without a leader, as this node knows", self._leaderless()
        yield "ottla_isr_shrinks", "ISR shrinks that this node's leaders had committed", parts.isr_keeper.shrinks
        yield "ottla_isr_expands", "ISR expansions that this node's leaders had committed", parts.isr_keeper.expands
        yield "ottla_log_bytes", "Bytes of all logs here", self._log_bytes()
        yield "ottla_log_unsynced_bytes", "Appended and not yet synced", parts.logs.unsynced_bytes

    def _log_bytes(self) -> int:
        return sum(replica.log.size_bytes for replica in self._parts.manager.replicas.values())

    def _leaderless(self) -> int:
        topics = self._parts.manager.image.topics.values()
        return sum(1 for topic in topics for state in topic.partitions if state.leader is None)


def _under_replicated(replica: Replica) -> bool:
    leader = replica.leader
    return leader is not None and len(leader.isr.committed) < 1 + len(leader.followers)
