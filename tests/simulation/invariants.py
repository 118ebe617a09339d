"""What must be true at every moment, looked at from outside every node's memory."""

from collections.abc import Iterator, Mapping
from typing import Any

from ottla.broker.assembly import Parts
from ottla.broker.partition_leader import PartitionLeader
from ottla.broker.replica import Replica
from ottla.broker.replica_session import ReplicaSession
from ottla.log.model import BrokerId, TopicIdPartition
from ottla.log.producer_state import ProducerStateManager
from ottla.log.records import batches_in
from ottla.raft.image import MetadataImage

from .world import SimulatedCluster, Violation


class Invariants:
    """``check`` raises Violation. It compares with what it saw before: call it often."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.checks = 0
        self._cluster = cluster
        self._raft_leaders: dict[int, str] = {}  # term -> process
        self._leaders: dict[Any, str] = {}  # (topic id, partition, leader epoch) -> process
        self._high_watermarks: dict[Any, int] = {}  # same key -> highest seen
        self._epochs: dict[Any, dict[int, tuple[int, int]]] = {}  # partition -> epoch -> (start, high watermark)
        self._digests: dict[int, bytes] = {}  # index -> image digest
        self._looked_at: dict[str, int] = {}  # process -> index of the image last digested
        self._results: dict[Any, Any] = {}  # broker -> its window of results in the newest image

    def check(self) -> None:
        """Look at every node once."""
        self.checks += 1
        if self._cluster.violations:
            raise Violation("; ".join(self._cluster.violations))
        nodes = list(self._nodes())
        for process, parts in nodes:
            self._check_raft(process, parts)
            self._check_image(process, parts.machine.image)
            self._check_replicas(process, parts)
        if nodes:
            by_id = {parts.node_id: parts for _, parts in nodes}
            newest = max((parts.machine.image for parts in by_id.values()), key=lambda image: image.index)
            self._check_in_sync(newest, by_id)
            self._check_unfenced(newest, by_id)
            self._check_results(newest)

    def _nodes(self) -> Iterator[tuple[str, Parts]]:
        for member in self._cluster.running():
            if member.process is not None and member.node is not None and member.node.parts is not None:
                yield member.process, member.node.parts

    def _check_raft(self, process: str, parts: Parts) -> None:
        if parts.quorum.is_leader:
            known = self._raft_leaders.setdefault(parts.quorum.term, process)
            self._hold(known == process, f"Raft term {parts.quorum.term} is led by {known} and by {process}")

    def _check_image(self, process: str, image: MetadataImage) -> None:
        if self._looked_at.get(process) == image.index:
            return
        self._looked_at[process] = image.index
        digest = image.digest()
        known = self._digests.setdefault(image.index, digest)
        self._hold(known == digest, f"{process}'s image at index {image.index} differs from another node's")
        for topic in image.topics.values():
            for number, state in enumerate(topic.partitions):
                where = f"{process}: {topic.name}-{number} {state}"
                self._hold(
                    set(state.isr) | set(state.elr) <= set(state.replicas), f"ISR or ELR beyond replicas: {where}"
                )
                self._hold(not set(state.isr) & set(state.elr), f"in ISR and in ELR: {where}")
                self._hold(state.leader is None or state.leader in state.isr, f"led from outside the ISR: {where}")
                fenced = [member for member in state.isr if image.brokers[member].fenced]
                self._hold(not fenced, f"fenced and in the ISR: {fenced}: {where}")
                leader = None if state.leader is None else image.brokers[state.leader]
                idle = [member for member in state.isr if image.brokers[member].active]
                idle = [member for member in idle if not image.brokers[member].drained]
                self._hold(leader is None or not leader.drained or not idle, f"a drained broker leads: {where}")
                enough = len(state.isr) >= image.min_insync(topic, state)
                self._hold(not (enough and state.elr), f"an ELR beside an ISR that is large enough: {where}")

    def _check_in_sync(self, image: MetadataImage, nodes: Mapping[BrokerId, Parts]) -> None:
        """Whoever may be elected holds what is committed: the ISR, and the ELR (KIP-966)."""
        for topic in image.topics.values():
            for number, state in enumerate(topic.partitions):
                key = TopicIdPartition(topic.topic_id, number)
                leading = None if state.leader not in nodes else nodes[state.leader].manager.replicas.get(key)
                leader = None if leading is None else leading.leader
                if leader is None or leader.leader_epoch != state.leader_epoch:
                    continue
                for member in (*state.isr, *state.elr):
                    replica = _replica_of(image, nodes, member, key)
                    self._hold(
                        replica is None or replica.log.log_end_offset >= leader.high_watermark,
                        f"{topic.name}-{number}: b{member} may lead and lacks what is committed: {state}",
                    )

    def _check_unfenced(self, image: MetadataImage, nodes: Mapping[BrokerId, Parts]) -> None:
        """An unfenced broker has applied what fenced it, so it has dropped the leaderships that it lost."""
        for broker in image.brokers.values():
            parts = nodes.get(broker.broker_id)
            if broker.fenced or parts is None or parts.manager._broker_epoch != broker.broker_epoch:
                continue
            self._hold(
                parts.machine.image.index >= broker.fenced_index,
                f"b{broker.broker_id} is unfenced, and has not applied its fencing at {broker.fenced_index}",
            )

    def _check_results(self, image: MetadataImage) -> None:
        """A request has one result, ever: it is not executed again."""
        for broker_id, window in image.results.items():
            before = self._results.get(broker_id)
            self._results[broker_id] = window
            if before is None or before is window or before.broker_epoch != window.broker_epoch:
                continue
            for sequence, result in before.results.items():
                again = window.results.get(sequence, result)
                self._hold(again == result, f"b{broker_id}'s request {sequence} has two results: {result}, {again}")

    def _check_replicas(self, process: str, parts: Parts) -> None:
        for replica in parts.manager.replicas.values():
            leader = replica.leader
            partition = (replica.topic_id, replica.partition)
            log = replica.log
            where = f"{process} {replica.name}"
            self._hold(
                log.log_start_offset <= replica.high_watermark <= log.log_end_offset, f"{where}: offsets disorderly"
            )
            if leader is None:
                continue
            key = (*partition, leader.leader_epoch)
            known = self._leaders.setdefault(key, process)
            self._hold(
                known == process, f"{replica.name} epoch {leader.leader_epoch} is led by {known} and by {process}"
            )
            before = self._high_watermarks.get(key, 0)
            self._hold(leader.high_watermark >= before, f"{where}: high watermark fell from {before}")
            self._high_watermarks[key] = leader.high_watermark
            self._check_complete(where, partition, leader)
            for session in replica._log_readers:
                entry = (
                    session._entries.get(TopicIdPartition(*partition)) if isinstance(session, ReplicaSession) else None
                )
                self._hold(
                    entry is None
                    or entry.leader is not leader
                    or entry.asked.current_leader_epoch == leader.leader_epoch,
                    f"{where}: a fetch of epoch {entry and entry.asked.current_leader_epoch} counts in another",
                )

    def _check_complete(self, where: str, partition: Any, leader: PartitionLeader) -> None:
        """A leader held, when it came to lead, all that any older epoch ever commits."""
        epochs = self._epochs.setdefault(partition, {})
        epochs[leader.leader_epoch] = (leader.epoch_start, leader.high_watermark)
        for epoch, (start, committed) in epochs.items():
            older = epoch < leader.leader_epoch
            began, reached = (leader.epoch_start, committed) if older else (start, leader.high_watermark)
            ordered = epoch == leader.leader_epoch or began >= reached
            self._hold(
                ordered,
                f"{where}: of epochs {epoch} and {leader.leader_epoch} the newer began at {began}, "
                f"the older committed {reached}",
            )
            self._hold(
                not (older and leader.latest_is_known) or leader.high_watermark >= committed,
                f"{where}: tells {leader.high_watermark} as latest, and epoch {epoch} committed {committed}",
            )

    def _hold(self, condition: bool, text: str) -> None:
        if not condition:
            raise Violation(f"at {self._cluster.loop.now:.3f} s: {text}")


def _replica_of(
    image: MetadataImage, nodes: Mapping[BrokerId, Parts], broker: BrokerId, key: TopicIdPartition
) -> Replica | None:
    """What the incarnation that the image knows holds; None while it does not run or has not opened it."""
    parts = nodes.get(broker)
    if parts is None or parts.manager._broker_epoch != image.brokers[broker].broker_epoch:
        return None
    return parts.manager.replicas.get(key)


def check_equal_logs(cluster: SimulatedCluster) -> None:
    """At rest: between the highest log start and the lowest high watermark all replicas hold the same bytes. Of a
    compacted log, each cleans its own in its own time: it is the last value of each key that is the same."""
    copies: dict[Any, dict[str, Any]] = {}
    for member in cluster.running():
        assert member.node is not None
        assert member.node.parts is not None
        for key, replica in member.node.parts.manager.replicas.items():
            copies.setdefault(key, {})[member.host] = replica
    for key, replicas in copies.items():
        end = min(replica.high_watermark for replica in replicas.values())
        start = max(replica.log.log_start_offset for replica in replicas.values())
        compacted = any(replica.log.config.compacts for replica in replicas.values())
        contents = {  # retention takes nothing of a log that is only compacted: there each has all from its start
            host: _bytes_between(replica.log, replica.log.log_start_offset if compacted else start, end)
            for host, replica in replicas.items()
        }
        starts = {host: replica.log.log_start_offset for host, replica in replicas.items()}
        if compacted and len(set(starts.values())) != 1:
            raise Violation(f"{key}: replicas differ below {end}: they start at {starts}")
        told = {host: _last_values(content) if compacted else content for host, content in contents.items()}
        if any(each != next(iter(told.values())) for each in told.values()):
            sizes = {host: len(content) for host, content in told.items()}
            raise Violation(f"{key}: replicas differ below {end}: {sizes}")


def check_producers(cluster: SimulatedCluster) -> None:
    """At rest: what a replica remembers of producers is what its log says, so that a batch that is sent again, to
    whoever leads then, is known where it is stored and not where it is not."""
    for member in cluster.running():
        assert member.node is not None
        assert member.node.parts is not None
        for replica in member.node.parts.manager.replicas.values():
            rebuilt = ProducerStateManager()
            for segment in replica.log._segments:
                for _, batch in segment.scan():
                    rebuilt.update(batch, 0)
            known, remembered = _remembered(rebuilt), _remembered(replica.log._producers)
            if replica.log.config.compacts or replica.log.log_start_offset > 0:
                # Older batches have left the log; a producer's last one, if it is there, is what is remembered last.
                known = {number: (epoch, batches[-1:]) for number, (epoch, batches) in known.items()}
                remembered = {n: (epoch, batches[-1:]) for n, (epoch, batches) in remembered.items() if n in known}
            if known != remembered:
                raise Violation(f"{member.host} {replica.name}: producers are not those of the log")


def _remembered(producers: ProducerStateManager) -> dict[Any, Any]:
    return {number: (known.epoch, tuple(known.batches)) for number, known in producers._producers.items()}


def _last_values(data: bytes) -> dict[Any, Any]:
    """By key, without those that were deleted: the tombstone may be gone here and not there."""
    last = {record.key: (record.offset, record.value) for batch in batches_in(data) for record in batch.records()}
    return {key: found for key, found in last.items() if found[1] is not None}


def _bytes_between(log: Any, start: int, end: int) -> bytes:
    parts, offset = [], start
    while offset < end:
        data = log.read(offset, 1 << 20, end)
        if not data:
            break
        parts.append(data)
        offset = _next_offset(data, offset)
    return b"".join(parts)


def _next_offset(data: bytes, offset: int) -> int:
    """After the last whole batch of ``data``: each starts with its base offset (i64) and length (i32), and its
    last offset delta (i32) is at byte 23."""
    position = 0
    while position < len(data):
        base = int.from_bytes(data[position : position + 8], "big")
        length = int.from_bytes(data[position + 8 : position + 12], "big")
        offset = base + int.from_bytes(data[position + 23 : position + 27], "big") + 1
        position += 12 + length
    return offset
