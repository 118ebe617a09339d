"""A small world in which replication goes wrong: real logs on crashing disks, the real metadata state machine, the
real roles and sessions of three brokers, and a random schedule of everything that may happen between them.

Nothing here waits: every step is one synchronous call, so one seed is one history. Brokers see the metadata late
(each has an index of its own), streams break, answers are late, brokers are fenced while they live (a pause, a
partition), killed, and lose power.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ottla.broker.partition_leader import PartitionLeader
from ottla.broker.reading import read
from ottla.broker.replica import Refused, Replica
from ottla.broker.replica_session import ReplicaSession
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import FetchPartition, FetchResult, ReplicaFetchRequest
from ottla.log.model import BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicId, TopicIdPartition, TopicPartition
from ottla.log.partition_log import PartitionLog
from ottla.log.records import BatchBuilder, batches_in
from ottla.raft.commands import (
    AlterPartition,
    Body,
    Command,
    CreateTopic,
    FenceBroker,
    RegisterBroker,
    Requester,
    UnfenceBroker,
    encode_command,
)
from ottla.raft.image import MetadataImage, Partition
from ottla.raft.results import Refused as QuorumRefused, Registered, Result, decode_result
from ottla.raft.state_machine import MetadataStateMachine

from ..simulation.crashing_storage import CrashingStorage

TOPIC_ID = TopicId("T" * 22)
KEY = TopicIdPartition(TOPIC_ID, 0)
NAME = TopicPartition("t", 0)
LAG_S = 2.0


class WorldClock:
    """Time that moves when the schedule says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(eq=False)
class Write:
    """One produce with acks=all, waiting for its acknowledgement."""

    world: "World"
    value: bytes
    offset: Offset

    def committed(self, replica: Replica) -> None:
        self.world.acknowledge(self)

    def lost(self, replica: Replica, error: ErrorCode) -> None:
        self.world.counts["lost"] += 1


@dataclass(eq=False)
class Stream:
    """A follower's stream to one incarnation of a leader, with at most one answer on its way."""

    leader: "Node"
    session: ReplicaSession
    named: bool = False
    answer: tuple[FetchResult, bytes] | None = None


@dataclass(eq=False)
class Node:
    """One broker."""

    broker_id: BrokerId
    storage: CrashingStorage
    view: MetadataImage
    replica: Replica | None = None
    epoch: BrokerEpoch | None = None
    stream: Stream | None = None
    serving: list[Stream] = field(default_factory=list)
    asked: tuple[PartitionLeader, AlterPartition] | None = None
    resolving: tuple[PartitionLeader, int] | None = None
    incarnation: int = 0
    sequence: int = 0
    damaged: bool = False  # lost power since it was last in sync

    @property
    def alive(self) -> bool:
        return self.replica is not None


class World:
    """Three brokers, one partition, min.insync 2."""

    def __init__(self, seed: int, *, power: bool = True) -> None:
        self.random = random.Random(seed)
        self.power = power
        self.clock = WorldClock()
        self.machine = MetadataStateMachine()
        self.history: list[MetadataImage] = [self.machine.image]
        self.acknowledged: dict[Offset, bytes] = {}
        self.seen: dict[Offset, bytes] = {}
        self.counts: Counter[str] = Counter()
        self.cut: set[frozenset[BrokerId]] = set()
        self.value = 0
        # Swarm testing: histories in which some things are rare and others frequent reach what an even mix does not.
        likely = {
            "produce": 25,
            "fetch": 20,
            "deliver": 20,
            "observe": 15,
            "check isr": 5,
            "answer isr": 5,
            "unfence": 4,
            "consume": 2,
            "fault": 7,
        }
        self.weights = {name: weight * self.random.choice((0.2, 0.5, 1, 1, 2)) for name, weight in likely.items()}
        self.nodes = [Node(BrokerId(i), CrashingStorage(seed * 10 + i), self.machine.image) for i in (1, 2, 3)]
        for node in self.nodes:
            self.start(node, unclean=False)
        for node in self.nodes:
            self.decide(UnfenceBroker(node.broker_id, node.epoch or BrokerEpoch(0)))
        self.decide(CreateTopic(name="t", topic_id=TOPIC_ID, partition_count=1, replication_factor=3))
        self.catch_up()

    # --- the quorum --------------------------------------------------------------------------------------------------

    def decide(self, body: Body, asker: Node | None = None) -> tuple[Result, int]:
        index = len(self.history)
        requester = None
        if asker is not None and asker.epoch is not None:
            asker.sequence += 1
            requester = Requester(asker.broker_id, asker.epoch, asker.sequence)
        result = decode_result(self.machine.apply(index, 1, encode_command(Command(0, requester, body))))
        self.history.append(self.machine.image)
        for node in self.nodes:
            state = self.machine.image.partition(TOPIC_ID, 0)
            registration = self.machine.image.brokers.get(node.broker_id)
            back = node.alive and registration is not None and registration.broker_epoch == node.epoch
            if back and state is not None and node.broker_id in state.isr:
                node.damaged = False
        return result, index

    def state(self, image: MetadataImage) -> Partition | None:
        return image.partition(TOPIC_ID, 0)

    def observe(self, node: Node, steps: int) -> None:
        """``node`` applies a few more commands, each in one step, as its replica manager does."""
        for _ in range(steps):
            if not node.alive or node.view.index >= self.machine.image.index:
                return
            node.view = self.history[node.view.index + 1]
            self.take_role(node)
            if node.resolving is not None and node.view.index >= node.resolving[1]:
                leader, _ = node.resolving
                node.resolving = None
                assert node.replica is not None
                node.replica.isr_resolved(leader)

    def take_role(self, node: Node) -> None:
        replica, state = node.replica, self.state(node.view)
        registration = node.view.brokers.get(node.broker_id)
        if replica is None or state is None or registration is None or registration.broker_epoch != node.epoch:
            return
        if state.leader_epoch <= replica.leader_epoch:
            if replica.leader is not None:
                replica.isr_committed(state, 2, self.clock.monotonic())
            return
        self.hang_up(node)
        if state.leader == node.broker_id:
            replica.lead(node.broker_id, state, min_insync=2, now_s=self.clock.monotonic(), lag_s_max=LAG_S)
            self.counts["led"] += 1
        else:
            replica.follow(state)

    def catch_up(self) -> None:
        for node in self.nodes:
            self.observe(node, 1 << 30)

    # --- brokers -----------------------------------------------------------------------------------------------------

    def start(self, node: Node, *, unclean: bool) -> None:
        log = PartitionLog.open(
            node.storage,
            Path("/data/t-0"),
            topic_partition=NAME,
            topic_id=TOPIC_ID,
            clock=self.clock,
        )
        node.incarnation += 1
        previous = node.epoch
        result, _ = self.decide(
            RegisterBroker(
                broker_id=node.broker_id,
                incarnation_id=f"{node.broker_id}-{node.incarnation}",
                directory_id="D" * 22,  # type: ignore[arg-type]
                host="h",
                port=1,
                rack=None,
                unclean=unclean,
                previous_broker_epoch=previous,
            )
        )
        assert isinstance(result, Registered)
        node.epoch = result.broker_epoch
        node.replica = Replica(NAME, TOPIC_ID, log, Offset(0), lambda r, epoch: self.is_current(node, epoch))

    def is_current(self, node: Node, epoch: LeaderEpoch) -> bool:
        state = self.state(node.view)
        return state is not None and state.leader == node.broker_id and state.leader_epoch == epoch

    def stop(self, node: Node, *, power: bool) -> None:
        self.hang_up(node)
        for stream in list(node.serving):
            for other in self.nodes:
                if other.stream is stream:
                    self.hang_up(other)
        node.replica, node.asked, node.resolving = None, None, None
        node.storage = node.storage.crash(self.random.randrange(1 << 30)) if power else node.storage.kill()
        node.damaged = node.damaged or power
        self.counts["power" if power else "kill"] += 1

    # --- replication -------------------------------------------------------------------------------------------------

    def hang_up(self, node: Node) -> None:
        if node.stream is not None:
            node.stream.session.close()
            node.stream.leader.serving.remove(node.stream)
            node.stream = None

    def linked(self, a: Node, b: Node) -> bool:
        return a.alive and b.alive and frozenset((a.broker_id, b.broker_id)) not in self.cut

    def fetch(self, node: Node) -> None:
        """Ask the leader, or ask again; the answer comes with ``deliver``."""
        replica = node.replica
        if replica is None or replica.follower is None:
            return
        leader = self.nodes[replica.follower.leader - 1]
        if not self.linked(node, leader):
            self.hang_up(node)
            return
        if node.stream is None or node.stream.leader is not leader:
            self.hang_up(node)
            assert node.epoch is not None
            registration = leader.view.brokers.get(node.broker_id)
            if registration is None or registration.broker_epoch != node.epoch:
                return
            session = ReplicaSession(
                node.broker_id, node.epoch, lambda key: leader.replica if key == KEY else None, self.clock
            )
            node.stream = Stream(leader, session)
            leader.serving.append(node.stream)
        stream = node.stream
        if stream.answer is not None:
            return
        changed: tuple[FetchPartition, ...] = ()
        if not stream.named:
            changed = (replica.follower.ask(replica.log.log_end_offset, replica.log.latest_epoch, 1 << 20),)
            stream.named = True
        stream.session.receive(ReplicaFetchRequest(0, 1 << 20, changed))
        response, parts = stream.session.collect(1 << 20)
        if response.partitions:
            stream.answer = response.partitions[0], b"".join(parts)

    def deliver(self, node: Node) -> None:
        stream, replica = node.stream, node.replica
        if stream is None or stream.answer is None or replica is None or replica.follower is None:
            return
        if not self.linked(node, stream.leader):
            self.hang_up(node)
            return
        (result, data), stream.answer = stream.answer, None
        if result.error is ErrorCode.NONE and result.leader_epoch != replica.follower.leader_epoch:
            return
        step = replica.follower.answered(result, replica.log.log_end_offset, replica.log.end_offset_for_epoch)
        if step.truncate_to is not None:
            self.counts["truncated"] += step.truncate_to < replica.log.log_end_offset
        replica.apply(step, memoryview(data))
        if step.wait or step.append or step.truncate_to is not None:
            stream.named = False
        self.counts["replicated"] += step.append

    # --- clients -----------------------------------------------------------------------------------------------------

    def produce(self, node: Node) -> None:
        if node.replica is None or node.replica.leader is None:
            return
        self.value += 1
        value = b"%d" % self.value
        batch = BatchBuilder()
        batch.append(None, value, timestamp_ms=1)
        try:
            result = node.replica.append(memoryview(batch.build()), need_all=True)
        except Refused:
            return
        self.counts["produced"] += 1
        node.replica.when_committed(Offset(result.last_offset + 1), Write(self, value, result.base_offset))

    def acknowledge(self, write: Write) -> None:
        self.counts["acked"] += 1
        if self.acknowledged.setdefault(write.offset, write.value) != write.value:
            raise Violation(f"two acknowledged records at offset {write.offset}")

    def consume(self, node: Node) -> None:
        replica = node.replica
        if replica is None or replica.leader is None:
            return
        _, data = read(replica, FetchPartition(TOPIC_ID, 0, 0), 1 << 20)
        for batch in batches_in(data):
            for record in batch.records():
                value = record.value or b""
                if self.seen.setdefault(Offset(record.offset), value) != value:
                    raise Violation(
                        f"offset {record.offset} showed {self.seen[Offset(record.offset)]!r}, now {value!r}"
                    )
        self.counts["consumed"] += bool(data)

    # --- the controller and the leaders ------------------------------------------------------------------------------

    def check_isr(self, node: Node) -> None:
        """The leader asks; the quorum decides now or never, or later."""
        replica = node.replica
        if replica is None or replica.leader is None or node.asked or node.resolving:
            return
        leader = replica.leader

        def eligible(broker: BrokerId) -> bool:
            registration = node.view.brokers.get(broker)
            return registration is not None and registration.active

        members = leader.propose_isr(self.clock.monotonic(), eligible)
        if members is None:
            return
        leader.isr.ask(members)
        epochs = []
        for member in sorted(members):
            follower = leader.followers.get(member)
            session = follower.session if follower is not None else None
            epochs.append((member, session.broker_epoch if session else node.view.brokers[member].broker_epoch))
        node.asked = (
            leader,
            AlterPartition(TOPIC_ID, 0, leader.leader_epoch, leader.isr.partition_epoch, tuple(epochs)),
        )

    def answer_isr(self, node: Node) -> None:
        if node.asked is None:
            return
        (leader, body), node.asked = node.asked, None
        result, index = self.decide(body, node)
        self.counts["isr refused" if isinstance(result, QuorumRefused) else "isr changed"] += 1
        node.resolving = (leader, index)

    def fence(self, node: Node) -> None:
        registration = self.machine.image.brokers[node.broker_id]
        if not registration.fenced:
            self.decide(FenceBroker(node.broker_id, registration.broker_epoch))
            self.counts["fenced"] += 1

    def unfence(self, node: Node) -> None:
        registration = self.machine.image.brokers[node.broker_id]
        current = node.alive and registration.broker_epoch == node.epoch
        if registration.fenced and current and node.view.index >= registration.fenced_index:
            self.decide(UnfenceBroker(node.broker_id, registration.broker_epoch))

    # --- the schedule ------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One thing happens, with this history's own likelihoods."""
        node = self.random.choice(self.nodes)
        self.clock.seconds += self.random.choice((0.0, 0.01, 0.1))
        (name,) = self.random.choices(list(self.weights), list(self.weights.values()))
        match name:
            case "produce":
                self.produce(self.leader_or(node))
            case "fetch":
                self.fetch(node)
            case "deliver":
                self.deliver(node)
            case "observe":
                self.observe(node, self.random.choice((1, 1, 5)))
            case "check isr":
                self.check_isr(self.leader_or(node))
            case "answer isr":
                self.answer_isr(node)
            case "unfence":
                self.unfence(node)
            case "consume":
                self.consume(node)
            case "fault":
                self.fault(node)

    def leader_or(self, node: Node) -> Node:
        leading = [n for n in self.nodes if n.replica is not None and n.replica.leader is not None]
        return self.random.choice(leading) if leading else node

    def fault(self, node: Node) -> None:
        choice = self.random.random()
        if choice < 0.15:
            self.fence(self.leader_or(node))
        elif choice < 0.25:
            self.fence(node)
        elif choice < 0.40:
            self.cut.add(frozenset(n.broker_id for n in self.random.sample(self.nodes, 2)))
        elif choice < 0.55:
            self.cut.clear()
        elif choice < 0.62:
            self.clock.seconds += LAG_S
        elif choice < 0.70 and node.alive:
            node.replica and node.replica.log.sync()
        elif choice < 0.80 and node.alive:
            self.stop(node, power=self.power and self.may_lose_power(node) and self.random.random() < 0.5)
            if self.random.random() < 0.7:
                self.fence(node)
        elif not node.alive:
            self.start(node, unclean=node.damaged)

    def may_lose_power(self, node: Node) -> bool:
        """min.insync - 1 = 1: no other replica may have lost data that it has not got back."""
        return not any(other.damaged for other in self.nodes if other is not node)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def heal(self) -> None:
        """Everything comes back; replication goes on until nothing moves."""
        self.cut.clear()
        for node in self.nodes:
            if not node.alive:
                self.start(node, unclean=node.damaged)
        for _ in range(60):
            self.clock.seconds += 0.05
            for node in self.nodes:
                self.answer_isr(node)
                self.observe(node, 1 << 30)
                self.unfence(node)
                self.fetch(node)
                self.deliver(node)
                self.check_isr(node)
        self.catch_up()

    def check(self) -> None:
        """After ``heal``: one leader, everyone in sync, nothing acknowledged or seen is gone or changed."""
        state = self.state(self.machine.image)
        assert state is not None
        if state.leader is None or len(state.isr) != 3:
            raise Violation(f"did not heal: {state}")
        contents = []
        for node in self.nodes:
            assert node.replica is not None
            log = node.replica.log
            contents.append(log.read(Offset(0), 1 << 30, log.log_end_offset))
        if len(set(contents)) != 1:
            raise Violation(f"replicas differ: {[len(c) for c in contents]} bytes")
        stored = {r.offset: r.value for batch in batches_in(contents[0]) for r in batch.records()}
        for promised in (self.acknowledged, self.seen):
            for offset, value in promised.items():
                if stored.get(offset) != value:
                    raise Violation(f"offset {offset} held {value!r}, holds {stored.get(offset)!r}")
        if sorted(stored) != list(range(len(stored))):
            raise Violation("offsets are not contiguous")


__all__ = ["Violation", "World"]
