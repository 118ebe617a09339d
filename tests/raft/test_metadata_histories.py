"""Random histories: every invariant after each command, and no election without a committed record."""

import contextlib
import random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from msgspec.structs import replace

from ottla.log.model import BrokerId, DirectoryId, TopicId
from ottla.raft.commands import (
    AllocateProducerIds,
    AlterConfigs,
    AlterPartition,
    AlterPartitionReassignments,
    Body,
    Command,
    ConfigChange,
    CreatePartitions,
    CreatePartitionsAssigned,
    CreateTopic,
    DeleteTopic,
    Election,
    ElectLeaders,
    Reassignment,
    RegisterBroker2,
    ReplicasOffline,
    Requester,
    SetDrained,
    decode_command,
    encode_command,
)
from ottla.raft.events import PartitionChanged
from ottla.raft.image import KAFKA, Listener, MetadataImage, Partition, Rules, Topic, empty_image
from ottla.raft.image_codec import TOPICS_PER_PIECE, UnreadableImage, decode_image, encode_image, image_pieces
from ottla.raft.replay import replay, replay_all
from ottla.raft.results import (
    Done,
    Result,
    encode_result,
)
from ottla.raft.state_machine import MetadataStateMachine, decide

from .metadata_cluster import TOPIC, Cluster, code, topic_id


def common_prefix(logs: list[tuple[int, ...]]) -> tuple[int, ...]:
    same = 0
    while same < min(map(len, logs)) and len({log[same] for log in logs}) == 1:
        same += 1
    return logs[0][:same]


class Replicas:
    """What the brokers' logs of one partition hold, so that a leader elected without what was committed is seen.

    Records are numbers, each appended once; a follower that fetches holds exactly its leader's log.
    """

    def __init__(self, partition: Partition) -> None:
        self.logs: dict[BrokerId, tuple[int, ...]] = dict.fromkeys(partition.replicas, ())
        self.committed: tuple[int, ...] = ()
        self.leader_epoch = partition.leader_epoch
        self.pending: tuple[int, frozenset[BrokerId]] = (
            -1,
            frozenset(),
        )  # members of ISRs on their way, and their epoch

    def propose(self, partition_epoch: int, isr: set[BrokerId]) -> None:
        """All that may still be accepted counts: the high watermark waits for every member of any of them."""
        epoch, proposed = self.pending
        self.pending = (partition_epoch, proposed | isr if epoch == partition_epoch else frozenset(isr))

    def advance(self, partition: Partition, minimum: int) -> None:
        if partition.leader is None or len(partition.isr) < minimum:
            return
        # What a member has from an older leader counts for nothing until it fetches from this one and truncates.
        epoch, proposed = self.pending
        maximal = {*partition.isr, *(proposed if epoch == partition.partition_epoch else ())}
        held = common_prefix([self.logs[member] for member in maximal])
        if len(held) > len(self.committed):
            self.committed = held

    def changed(self, event: PartitionChanged) -> None:
        leader = event.state.leader
        # Who comes begins with nothing, who goes sets aside what it has.
        self.logs = {replica: self.logs.get(replica, ()) for replica in event.state.replicas}
        if leader is None or event.state.leader_epoch == self.leader_epoch:
            return
        self.leader_epoch = event.state.leader_epoch
        log = self.logs[leader]
        if event.elected_from in ("last_known_leader", "unclean"):
            self.committed = common_prefix([log, self.committed])  # the elections that may lose, and say so
        assert log[: len(self.committed)] == self.committed, "elected without a committed record"


class History(Cluster):
    """Random commands to a cluster of four, every invariant checked after each."""

    BROKERS = 4

    def __init__(self, replication_factor: int, minimum: int) -> None:
        super().__init__()
        self.record = 0
        self.replicas: dict[tuple[TopicId, int], Replicas] = {}
        self.commands: list[bytes] = []
        self.delayed: list[tuple[AlterPartition, Requester]] = []
        self.start(*range(1, self.BROKERS + 1))
        configs = {"min.insync.replicas": str(minimum)}
        self(CreateTopic("t", TOPIC, 2, replication_factor, None, configs, 3))

    def __call__(self, body: Body, requester: Requester | None = None) -> Result:
        before = self.image
        self.commands.append(encode_command(Command(0, requester, body)))
        result = super().__call__(body, requester)
        assert code(result) != "UNKNOWN_SERVER_ERROR"
        self._check(before, self.image)
        for event in self.events[-1][1]:
            if isinstance(event, PartitionChanged):
                self.replicas[event.topic_id, event.partition].changed(event)
        self._advance()
        return result

    def step(self, kind: int, a: int, b: int, c: int) -> None:
        broker = a % self.BROKERS + 1
        if kind < 2:
            self.fence(broker)
        elif kind < 6:
            self.unfence(broker)
        elif kind == 6:
            self.drain(broker)
        elif kind < 9:
            listeners = some_listeners(b, c)
            self.register(broker, listeners=listeners)  # killed, or stopped cleanly: its log stays
            assert self.image.brokers[BrokerId(broker)].listeners == (listeners or ())
            self.unfence(broker)
        elif kind == 9:
            self._lose(broker, b, c)
        elif kind < 14:
            self._produce(a)
        elif kind < 16:
            self._alter(a, b, c)
        elif kind < 18:
            self._arrive()
        elif kind == 18:
            self._grow(a, b)
        elif kind == 19:
            self._request(broker, b)
        elif kind == 20:
            self._replace_the_other_topic(b)
        elif kind < 24:
            self._move(a, b, c)
        elif kind == 24:
            unclean = c % 8 == 0
            self(ElectLeaders((Election(*self._some_partition(a)),), unclean, BrokerId(b % 4 + 1) if b < 4 else None))
        elif kind == 25:
            self(SetDrained(BrokerId(broker), b % 2 == 0))
        elif kind == 26:
            self._go_offline(broker, a, b)
        else:
            self._lose_power(broker, b, c)

    def _go_offline(self, broker: int, a: int, b: int) -> None:
        """The disk refuses a copy, which loses what was not synced."""
        key = self._some_partition(a)
        log = self.replicas[key].logs.get(BrokerId(broker))
        if log is not None and self(ReplicasOffline(BrokerId(broker), self.epoch(broker), (key,))) == Done():
            self.replicas[key].logs[BrokerId(broker)] = log[: b % (len(log) + 1)]

    def _lose_power(self, broker: int, kept: int, spared: int) -> None:
        """Some of its logs lose their ends, the others had acknowledged nothing that was not durable."""
        intact = []
        for number, (key, replicas) in enumerate(self.replicas.items()):
            log = replicas.logs.get(BrokerId(broker), ())
            state = self.image.partition(*key)
            if state is not None and spared >> number & 1 and BrokerId(broker) not in state.offline:
                intact.append(key)
            elif BrokerId(broker) in replicas.logs:
                replicas.logs[BrokerId(broker)] = log[: kept % (len(log) + 1)]
        self(
            RegisterBroker2(
                BrokerId(broker),
                f"{broker}-{self.index}",
                self.image.brokers[BrokerId(broker)].directory_id,
                "h",
                1,
                None,
                unclean=True,
                previous_broker_epoch=self.epoch(broker),
                intact=tuple(intact),
            )
        )

    def _move(self, a: int, b: int, c: int) -> None:
        """To some brokers in some order, or back."""
        brokers = [BrokerId((c + n) % self.BROKERS + 1) for n in range(self.BROKERS) if b >> n & 1]
        target = tuple(reversed(brokers)) if c & 8 else tuple(brokers)
        self(AlterPartitionReassignments((Reassignment(*self._some_partition(a), target or None),)))

    def _replace_the_other_topic(self, b: int) -> None:
        """Delete it; make it anew under the same name, which is another topic."""
        other = self.image.topics.get("u")
        if other is not None:
            assert self(DeleteTopic(other.topic_id)) == Done()
            assert code(self(DeleteTopic(other.topic_id))) == "UNKNOWN_TOPIC_ID"
        if other is None or b % 2:
            self(CreateTopic("u", topic_id(self.index + 100), 1 + b % 3, 1 + b % self.BROKERS, None, {}, b))

    def _lose(self, broker: int, kept: int, how: int) -> None:
        wiped = how % 3 == 0
        for replicas in self.replicas.values():
            if broker in replicas.logs:
                log = replicas.logs[BrokerId(broker)]
                replicas.logs[BrokerId(broker)] = () if wiped else log[: kept % (len(log) + 1)]
        self.register(broker, unclean=not wiped, directory=f"new{self.index}" if wiped else "")

    def _produce(self, a: int) -> None:
        key = self._some_partition(a)
        partition = self.partition(*key)
        if partition.leader is not None:
            self.record += 1
            self.replicas[key].logs[partition.leader] += (self.record,)
            self._advance()

    def _alter(self, a: int, b: int, c: int) -> None:
        """Some followers fetch; the leader then proposes some of those that hold all it holds."""
        key = self._some_partition(a)
        partition, logs = self.partition(*key), self.replicas[key].logs
        if partition.leader is None:
            return
        for position, replica in enumerate(partition.replicas):
            if b >> position & 1:
                logs[replica] = logs[partition.leader]
        self._advance()
        caught_up = [replica for replica in partition.replicas if logs[replica] == logs[partition.leader]]
        chosen = {partition.leader, *(r for position, r in enumerate(caught_up) if c >> position & 1)}
        members = tuple((member, self.epoch(member)) for member in sorted(chosen))
        body = AlterPartition(*key, partition.leader_epoch, partition.partition_epoch, members)
        requester = Requester(partition.leader, self.epoch(partition.leader), self.index)
        if c % 2:  # arrives some time later, whatever happened until then
            self.delayed.append((body, requester))
            self.replicas[key].propose(partition.partition_epoch, chosen)
        else:
            self(body, requester)

    def _arrive(self) -> None:
        if self.delayed:
            self(*self.delayed.pop())

    def _grow(self, a: int, b: int) -> None:
        topic = self.image.topics["t"]
        count = len(topic.partitions) + 1
        if count > 4:
            return
        chosen = tuple(BrokerId((a + n) % self.BROKERS + 1) for n in range(topic.replication_factor))
        self(CreatePartitionsAssigned(TOPIC, count, a, (chosen,)) if b % 2 else CreatePartitions(TOPIC, count, a))
        if b % 2 and len(self.image.topics["t"].partitions) == count:
            assert self.partition(TOPIC, count - 1).replicas == chosen

    def _request(self, broker: int, b: int) -> None:
        requester = Requester(BrokerId(broker), self.epoch(broker), b % 8 + self.index // 2)
        first = self(AllocateProducerIds(1 + b), requester)
        assert self(AllocateProducerIds(99), requester) == first

    def _some_partition(self, a: int) -> tuple[TopicId, int]:
        return TOPIC, a % len(self.image.topics["t"].partitions)

    def _advance(self) -> None:
        for topic in self.image.topics.values():
            for number, partition in enumerate(topic.partitions):
                replicas = self.replicas.setdefault((topic.topic_id, number), Replicas(partition))
                replicas.advance(partition, self.image.min_insync(topic, partition))

    def _check(self, before: MetadataImage, after: MetadataImage) -> None:
        assert after.next_producer_id >= before.next_producer_id
        assert before.brokers.keys() <= after.brokers.keys()
        for broker_id, was in before.brokers.items():
            assert after.brokers[broker_id].broker_epoch >= was.broker_epoch
        for topic in after.topics.values():
            old = before.topics.get(topic.name)
            for number, partition in enumerate(topic.partitions):
                check_partition(after, partition, after.rules(topic, partition))
                if old is not None and old.topic_id == topic.topic_id and number < len(old.partitions):
                    check_change(before, old.partitions[number], after, partition)
                    check_move(old.partitions[number], partition, after.rules(topic, partition))


def some_listeners(b: int, c: int) -> tuple[Listener, ...] | None:
    """None as a release says that knows of none."""
    if b % 4 == 0:
        return None
    kafka = Listener(KAFKA, 9000 + c, "" if b % 4 == 1 else f"k{c}")
    return ((), (kafka,), (kafka,), (kafka, Listener("OTHER", 1 + c)))[c % 4]


def check_partition(image: MetadataImage, partition: Partition, rules: Rules) -> None:
    minimum = rules.minimum
    isr, elr = set(partition.isr), set(partition.elr)
    assert len(isr) == len(partition.isr)
    assert len(elr) == len(partition.elr)
    assert isr | elr <= set(partition.replicas)
    assert not (isr | elr) & set(partition.offline)
    assert partition.last_known_leader in (None, *partition.replicas)
    assert set(partition.offline) <= set(partition.replicas)
    assert not isr & elr
    assert not elr or len(isr) < minimum
    assert partition.leader is None or partition.leader in isr
    assert (partition.leader is None) == (not isr)
    assert partition.leader is None or partition.last_known_leader is None
    assert not any(image.brokers[member].fenced for member in isr)
    if partition.leader is None:
        assert not any(image.brokers[member].active for member in elr), "a leader is there and not elected"
    elif image.brokers[partition.leader].draining:
        assert all(image.brokers[member].draining for member in isr), "a leadership was not handed over"
    elif image.brokers[partition.leader].drained:
        assert not any(image.brokers[member].willing for member in isr), "a drained broker leads on"
    adding, removing = set(partition.adding), set(partition.removing)
    assert adding | removing <= set(partition.replicas)
    assert not adding & removing
    assert partition.replicas[len(partition.replicas) - len(removing) :] == partition.removing
    in_target = isr - removing
    done = adding <= isr and len(in_target) >= max(1, rules.goal)
    assert not (partition.reassigning and isr and done), "what is done is not over"


def check_change(before: MetadataImage, old: Partition, after: MetadataImage, new: Partition) -> None:
    assert new.partition_epoch == old.partition_epoch + (new != old)
    left = set(old.replicas) - set(new.replicas)
    assert new.leader_epoch == old.leader_epoch + (new.leader != old.leader or bool(left))
    for member in set(new.isr) - set(old.isr):
        assert after.brokers[member].active, "a fenced or draining broker entered an ISR"


def check_move(old: Partition, new: Partition, rules: Rules) -> None:
    """Nobody goes who is needed."""
    left = set(old.replicas) - set(new.replicas)
    if left & {*old.isr, *old.elr}:
        assert len(new.isr) >= max(1, rules.minimum), "too few hold what was committed"
    if left - set(old.adding):
        assert set(new.replicas) - set(old.settled) <= set(new.isr), "removed before those that come had caught up"
        assert len(new.isr) >= max(1, rules.goal), "removed while too few of those that stay were in sync"


STEPS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 15), st.integers(0, 15), st.integers(0, 15)), min_size=10, max_size=80
)


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(STEPS, st.integers(1, 4), st.integers(1, 3))
def test_random_histories_keep_every_invariant_and_every_committed_record(
    steps: list[tuple[int, int, int, int]], replication_factor: int, minimum: int
) -> None:
    history = History(replication_factor, minimum)
    for step in steps:
        history.step(*step)
    check_replay_from_scratch(history)
    check_second_machine(history)


# The last four are known to find an AlterPartition that ignores members' broker epochs or the partition epoch.
@pytest.mark.parametrize("seed", [*range(60), 180, 1074, 1401, 1968])
def test_long_histories_commit_lose_disks_and_elect_from_everywhere(seed: int) -> None:
    rng = random.Random(seed)
    history = History(rng.randint(1, 4), rng.randint(1, 3))
    for _ in range(200):
        history.step(rng.randrange(20), rng.randrange(16), rng.randrange(16), rng.randrange(16))
    check_replay_from_scratch(history)
    check_second_machine(history)


MOVES = st.lists(
    st.tuples(st.integers(0, 25), st.integers(0, 15), st.integers(0, 15), st.integers(0, 15)), min_size=10, max_size=80
)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(MOVES, st.integers(1, 4), st.integers(1, 3))
def test_histories_with_moves_elections_and_drains(
    steps: list[tuple[int, int, int, int]], replication_factor: int, minimum: int
) -> None:
    history = History(replication_factor, minimum)
    for step in steps:
        history.step(*step)
    check_replay_from_scratch(history)
    check_second_machine(history)


@pytest.mark.parametrize("seed", range(40))
def test_with_manual_recovery_nobody_without_a_committed_record_ever_leads_unasked(seed: int) -> None:
    """However all replicas of a partition lose what they had not synced: their power, in any order."""
    rng = random.Random(seed)
    history = History(rng.randint(2, 4), rng.randint(1, 3))
    history(AlterConfigs(TOPIC, "", (ConfigChange("unclean.recovery", "set", "manual"),)))
    for _ in range(200):
        kind = rng.choice((0, 2, 3, 4, 5, 9, 9, 9, 10, 11, 12, 13, 14, 15, 16, 21, 25))
        history.step(kind, rng.randrange(16), rng.randrange(16), rng.randrange(16))
    sources = {
        event.elected_from
        for _, events in history.events
        for event in events
        if isinstance(event, PartitionChanged) and event.topic_id == TOPIC
    }
    assert sources <= {None, "isr", "elr"}


@pytest.mark.parametrize("seed", range(30))
def test_long_histories_with_moves_elections_and_drains(seed: int) -> None:
    rng = random.Random(seed)
    history = History(rng.randint(1, 4), rng.randint(1, 3))
    for _ in range(200):
        history.step(rng.randrange(26), rng.randrange(16), rng.randrange(16), rng.randrange(16))
    check_replay_from_scratch(history)
    check_second_machine(history)


@pytest.mark.parametrize("seed", range(60))
def test_long_histories_with_copies_offline_and_copies_that_a_power_cut_spares(seed: int) -> None:
    rng = random.Random(seed)
    history = History(rng.randint(1, 4), rng.randint(1, 3))
    for _ in range(200):
        history.step(rng.randrange(28), rng.randrange(16), rng.randrange(16), rng.randrange(16))
    check_replay_from_scratch(history)
    check_second_machine(history)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(MOVES, st.integers(1, 4), st.floats(0, 1))
def test_a_snapshot_in_the_middle_changes_nothing(
    steps: list[tuple[int, int, int, int]], replication_factor: int, share: float
) -> None:
    history = History(replication_factor, 2)
    for step in steps:
        history.step(*step)
    taken = int(share * len(history.commands))
    machine, other = MetadataStateMachine(), MetadataStateMachine()
    for index, data in enumerate(history.commands[:taken], 1):
        machine.apply(index, 1, data)
    state = encode_image(machine.image)
    other.restore(decode_image(state))
    assert encode_image(other.image) == state
    for index, data in enumerate(history.commands[taken:], taken + 1):
        assert other.apply(index, 1, data) == machine.apply(index, 1, data)
        assert other.image == machine.image
        assert other.image.digest() == machine.image.digest()
    assert machine.image == history.image
    assert encode_image(other.image) == encode_image(machine.image) == encode_image(history.image)


@given(st.binary(max_size=200))
def test_no_other_bytes_are_taken_for_an_image(data: bytes) -> None:
    with contextlib.suppress(UnreadableImage):
        decode_image(data)


def test_an_image_of_a_later_release_is_refused() -> None:
    with pytest.raises(UnreadableImage, match="feature level 2"):
        decode_image(encode_image(replace(empty_image("c"), feature_level=2)))


def test_an_image_without_observers_and_changes_is_one_that_the_release_before_can_hold() -> None:
    image = empty_image("c")
    assert msgspec.msgpack.decode(encode_image(image)) == [1, image.index, "c", 1, [], [], 0, []]
    joined = replace(image, node_ids={DirectoryId("d"): BrokerId(4)})
    assert msgspec.msgpack.decode(encode_image(joined)) == [2, image.index, "c", 1, [], [], 0, [], [["d", 4]], []]
    assert decode_image(encode_image(joined)) == joined


def test_an_alteration_that_changes_nothing_uses_up_its_epoch() -> None:
    # What the leader sent before, and gave up, must not be accepted later.
    cluster = Cluster()
    cluster.start(1, 2, 3)
    cluster.create(1, 2, 3)
    before = cluster.partition()
    cluster.alter(*before.isr)
    assert cluster.partition() == replace(before, partition_epoch=before.partition_epoch + 1)
    assert code(cluster.alter(before.leader or 0, before=before)) == "INVALID_UPDATE_VERSION"


def check_replay_from_scratch(history: History) -> None:
    """Events alone make the image, one at a time or together."""
    one_by_one = together = empty_image()
    for index, events in history.events:
        for event in events:
            one_by_one = replay(one_by_one, event)
        one_by_one = replace(one_by_one, index=index)
        together = replace(replay_all(together, events), index=index)
    assert one_by_one.digest() == together.digest() == history.image.digest()
    assert one_by_one == history.image


def check_second_machine(history: History) -> None:
    """Another node applies the same bytes to the same end, and deciding alone changes nothing."""
    machine = MetadataStateMachine()
    for index, data in enumerate(history.commands, 1):
        digest = machine.image.digest()
        decided = decide(machine.image, index, decode_command(data))
        assert machine.image.digest() == digest
        assert machine.apply(index, 1, data) == encode_result(decided.result)
    assert machine.image.digest() == history.image.digest()


@pytest.mark.parametrize("topics", [0, 15, 16, 501, 70_000])
def test_an_image_is_the_same_bytes_in_pieces_and_as_one_array(topics: int) -> None:
    named = {f"t{number}": Topic(f"t{number}", TopicId(f"{number:022}"), (), {}) for number in range(topics)}
    image = replace(empty_image("c"), topics=named, topic_names={t.topic_id: n for n, t in named.items()})
    pieces = list(image_pieces(image))
    assert len(pieces) == 2 + -(-topics // TOPICS_PER_PIECE)
    read = msgspec.msgpack.decode(b"".join(pieces))
    assert msgspec.msgpack.encode(read) == b"".join(pieces)  # each header in its shortest form
    assert decode_image(b"".join(pieces)) == image
