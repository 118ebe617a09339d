"""The stories each rule of the metadata was made for: last replica standing, zombies, lost disks, rolling restarts."""

import pytest
from msgspec.structs import replace

from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, PartitionEpoch
from ottla.raft.broker_decisions import DISK_EPOCHS_MAX
from ottla.raft.commands import (
    AllocateProducerIds,
    AlterPartition,
    AlterPartitionReassignments,
    Body,
    CreatePartitions,
    CreateTopic,
    DeleteTopic,
    DrainBroker,
    Election,
    ElectLeaders,
    FenceBroker,
    Reassignment,
    RegisterBroker,
    RegisterBroker2,
    ReplicasOffline,
    Requester,
    SetDrained,
    UnfenceBroker,
)
from ottla.raft.events import PartitionChanged
from ottla.raft.image import RESULT_WINDOW, Partition
from ottla.raft.results import (
    Done,
    PartitionAltered,
    PartitionCreation,
    PartitionsChanged,
    ProducerIdBlock,
    Refused,
    Registered,
    Result,
    TopicCreation,
)

from .metadata_cluster import TOPIC, Cluster, code, topic_id


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def three() -> Cluster:
    cluster = Cluster()
    cluster.start(1, 2, 3)
    assert isinstance(cluster.create(1, 2, 3), TopicCreation)
    return cluster


# Stories: replication


def test_last_replica_standing_is_followed_by_nobody_who_lacks_its_records(three: Cluster) -> None:
    three.fence(3)
    assert three.state() == (1, (1, 2), ())  # two are in sync: 3 may lack what they commit from now on
    three.fence(2)
    assert three.state() == (1, (1,), (2,))  # below min.insync nothing is committed, so 2 lacks nothing
    three.fence(1)
    assert three.state() == (None, (), (1, 2))
    three.unfence(3)
    assert three.state() == (None, (), (1, 2))
    three.unfence(2)
    assert three.state() == (2, (2,), (1,))
    assert isinstance(three.alter(2, 3), PartitionAltered)
    assert three.state() == (2, (2, 3), ())  # min.insync is reached and the ELR empties


def test_unclean_stop_of_the_last_eligible_replica_leaves_the_last_known_leader(three: Cluster) -> None:
    for broker in (3, 2, 1):
        three.fence(broker)
    three.register(2, unclean=True)
    assert three.state() == (None, (), (1,))
    three.unfence(2)
    assert three.state() == (None, (), (1,))
    three.register(1, unclean=True)
    assert three.state() == (None, (), ())
    assert three.partition().last_known_leader == 1
    three.unfence(3)
    assert three.partition().leader is None
    three.unfence(1)
    assert three.state() == (1, (1,), ())
    changed = [event for event in three.events[-1][1] if isinstance(event, PartitionChanged)]
    assert [event.elected_from for event in changed] == ["last_known_leader"]


@pytest.mark.parametrize("how", [{"directory": "new"}, {"quarantined": True}])
def test_a_lost_or_damaged_disk_never_leads_as_last_known(cluster: Cluster, how: dict[str, object]) -> None:
    cluster.start(1)
    cluster.create(1)
    cluster.register(1, **how)  # type: ignore[arg-type]
    cluster.unfence(1)
    assert cluster.state() == (None, (), ())
    assert cluster.partition().last_known_leader is None


def test_an_older_copy_of_the_disk_is_an_unclean_stop(three: Cluster) -> None:
    for broker in (3, 2):
        three.fence(broker)
    assert three.state() == (1, (1,), (2,))
    three.register(2, previous=three.epoch(2) - 1)
    assert three.state() == (1, (1,), ())


def started_anew(*brokers: int) -> Cluster:
    """Registered by the newest command, unfenced, with a topic."""
    cluster = Cluster()
    for broker in brokers:
        cluster.register3(broker, None)
        cluster.unfence(broker)
    assert isinstance(cluster.create(*brokers), TopicCreation)
    return cluster


def test_a_start_that_dies_before_it_is_on_the_disk_costs_no_eligibility() -> None:
    """Found by a simulated run: 1 lost power, 3 alone had everything and was killed twice while it started; 3 was taken
    for unclean, and 1, the last known leader, led without what had been acknowledged."""
    cluster = started_anew(1, 2, 3)
    cluster.fence(2)
    assert cluster.state() == (1, (1, 3), ())
    served = cluster.epoch(3)
    cluster.fence(3)
    cluster.register3(1, cluster.epoch(1), unclean=True)
    assert cluster.state() == (None, (), (3,))
    cluster.unfence(1)
    assert cluster.state() == (None, (), (3,))
    for _ in range(3):
        cluster.register3(3, served)  # each dies before the epoch it got is on the disk
        assert cluster.state() == (None, (), (3,))
    cluster.register3(3, cluster.epoch(3))  # one that was on the disk, and dies before it is unfenced
    cluster.register3(3, cluster.image.brokers[BrokerId(3)].disk_epochs[-1])
    cluster.unfence(3)
    assert cluster.state() == (3, (3,), ())


def test_an_older_copy_of_the_disk_is_unclean_once_a_later_run_has_served() -> None:
    cluster = started_anew(1, 2, 3)
    served = cluster.epoch(3)
    cluster.register3(3, served)
    cluster.unfence(3)  # now what was committed since may rest on the disk of this run
    cluster.fence(2)
    cluster.alter(1, 3)
    cluster.fence(1)
    assert cluster.state() == (3, (3,), (1,))
    cluster.register3(3, served)
    assert cluster.state() == (None, (), (1,))


def test_a_disk_is_not_believed_for_ever() -> None:
    cluster = started_anew(1, 2, 3)
    cluster.fence(2)
    served = cluster.epoch(3)
    cluster.fence(1)
    assert cluster.state() == (3, (3,), (1,))
    for _ in range(DISK_EPOCHS_MAX + 1):
        cluster.register3(3, served)
        assert cluster.state() == (None, (), (1, 3))
    cluster.register3(3, served)
    assert cluster.state() == (None, (), (1,))


def test_kill_and_restart_of_every_broker_keeps_a_leader_of_the_elr(three: Cluster) -> None:
    for broker in (1, 2, 3):
        three.register(broker)  # killed and started before its session ended
    assert three.state() == (None, (), (2, 3))
    three.unfence(1)
    assert three.partition().leader is None
    three.unfence(3)
    assert three.state() == (3, (3,), (2,))


def test_nobody_resumes_a_leader_epoch_over_a_restart(cluster: Cluster) -> None:
    cluster.start(1)
    cluster.create(1)
    before = cluster.partition()
    cluster.register(1)
    assert cluster.partition().leader is None
    assert cluster.unfence(1) == Done()
    after = cluster.partition()
    assert (after.leader, after.isr) == (1, (1,))
    assert after.leader_epoch > before.leader_epoch
    assert after.partition_epoch > before.partition_epoch


def test_zombie_leader_cannot_alter_the_partition(three: Cluster) -> None:
    before = three.partition()
    three.fence(1)
    assert code(three.alter(1, leader=1, before=before)) == "FENCED_LEADER_EPOCH"
    assert code(three.alter(1, leader=1, before=three.partition())) == "NOT_LEADER_OR_FOLLOWER"
    ahead = replace(three.partition(), leader_epoch=LeaderEpoch(99))
    assert code(three.alter(2, leader=2, before=ahead)) == "UNKNOWN_LEADER_EPOCH"
    stale = replace(three.partition(), partition_epoch=before.partition_epoch)
    assert code(three.alter(2, leader=2, before=stale)) == "INVALID_UPDATE_VERSION"
    assert three.state() == (2, (2, 3), ())


def test_alter_partition_refuses_who_may_not_be_in_sync(three: Cluster) -> None:
    three.start(4)
    three.alter(1, 2)
    three.fence(3)
    assert code(three.alter(1, 2, 3)) == "INELIGIBLE_REPLICA"  # fenced
    assert code(three.alter(1, 2, 4)) == "INELIGIBLE_REPLICA"  # no replica of it
    three.unfence(3)
    old = three.epoch(3)
    three.register(3)
    three.unfence(3)
    body = AlterPartition(
        TOPIC,
        0,
        three.partition().leader_epoch,
        three.partition().partition_epoch,
        ((BrokerId(1), three.epoch(1)), (BrokerId(2), three.epoch(2)), (BrokerId(3), old)),
    )
    leader = Requester(BrokerId(1), three.epoch(1), 90)
    assert code(three(body, leader)) == "INELIGIBLE_REPLICA"  # another incarnation of it was in sync
    three.drain(3)
    assert code(three.alter(1, 2, 3)) == "INELIGIBLE_REPLICA"  # draining
    assert code(three.alter(2)) == "INVALID_REQUEST"  # without its leader
    assert code(three.alter(1, 2, 2)) == "INVALID_REQUEST"
    assert code(three(replace(body, topic_id=topic_id(9)), replace(leader, sequence=91))) == "UNKNOWN_TOPIC_ID"
    assert code(three(replace(body, partition=7), replace(leader, sequence=92))) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert code(three(body)) == "NOT_LEADER_OR_FOLLOWER"
    assert three.state() == (1, (1, 2), ())


def test_a_follower_dropped_for_lag_is_eligible_only_below_min_insync(three: Cluster) -> None:
    three.alter(1, 2)
    assert three.state() == (1, (1, 2), ())
    three.alter(1)
    assert three.state() == (1, (1,), (2,))
    three.alter(1, 3)
    assert three.state() == (1, (1, 3), ())


def test_an_accepted_alter_partition_ends_all_that_were_sent_before_it(three: Cluster) -> None:
    three.alter(1)
    before = three.partition()
    assert isinstance(three.alter(1), PartitionAltered)  # the same ISR: its leader gave up adding 3
    assert three.partition() == replace(before, partition_epoch=PartitionEpoch(before.partition_epoch + 1))
    assert code(three.alter(1, 3, before=before)) == "INVALID_UPDATE_VERSION"


def test_draining_hands_over_and_leaves_only_where_min_insync_allows(three: Cluster) -> None:
    three.drain(1)
    assert three.state() == (2, (2, 3), ())
    three.drain(2)
    assert three.state() == (3, (2, 3), ())  # without 2 it would fall below min.insync: 2 stays until it is gone
    three.drain(3)
    assert three.state() == (3, (2, 3), ())
    assert code(three.unfence(3)) == "INVALID_REQUEST"


def test_draining_leader_goes_when_somebody_catches_up(three: Cluster) -> None:
    three.fence(2)
    three.alter(1)
    three.drain(1)
    assert three.state() == (1, (1,), (3,))
    result = three.alter(1, 3)
    assert isinstance(result, PartitionAltered)
    assert result.state.leader == 3


def test_rolling_restart_never_leaves_the_partition_without_leader(three: Cluster) -> None:
    for broker in (1, 2, 3):
        three.drain(broker)
        assert three.partition().leader not in (None, broker)
        three.fence(broker)
        assert len(three.partition().isr) == 2
        three.register(broker)
        three.unfence(broker)
        leader = three.partition().leader
        assert leader not in (None, broker)
        assert isinstance(three.alter(1, 2, 3), PartitionAltered)
    assert three.partition().isr == (1, 2, 3)


def test_fence_needs_the_current_broker_epoch_and_is_idempotent(three: Cluster) -> None:
    assert code(three(FenceBroker(BrokerId(1), BrokerEpoch(99)))) == "STALE_BROKER_EPOCH"
    assert code(three(UnfenceBroker(BrokerId(1), BrokerEpoch(99)))) == "STALE_BROKER_EPOCH"
    assert code(three(DrainBroker(BrokerId(1), BrokerEpoch(99)))) == "STALE_BROKER_EPOCH"
    assert code(three(FenceBroker(BrokerId(9), BrokerEpoch(1)))) == "BROKER_ID_NOT_REGISTERED"
    assert three.fence(1) == Done()
    digest_source = replace(three.image, index=0)
    assert three.fence(1) == Done()
    assert replace(three.image, index=0).digest() == digest_source.digest()
    assert three.image.brokers[BrokerId(1)].fenced_index == three.index - 1


def test_registration_is_idempotent_by_incarnation(cluster: Cluster) -> None:
    body = RegisterBroker(BrokerId(1), "inc", DirectoryId("d"), "h", 1, None, False)
    first = cluster(body)
    assert first == Registered(BrokerEpoch(1))
    cluster.unfence(1)
    assert cluster(body) == first
    assert not cluster.image.brokers[BrokerId(1)].fenced
    again = cluster(replace(body, incarnation_id="other", previous_broker_epoch=BrokerEpoch(1)))
    assert again == Registered(BrokerEpoch(cluster.index))
    assert cluster.image.brokers[BrokerId(1)].fenced
    assert cluster.image.brokers[BrokerId(1)].fenced_index == cluster.index


# Stories: topics


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "ä", "a/b", "a\n", "x" * 250])
def test_illegal_names_are_refused(cluster: Cluster, name: str) -> None:
    cluster.start(1)
    assert code(cluster(CreateTopic(name, TOPIC))) == "INVALID_TOPIC_EXCEPTION"


@pytest.mark.parametrize("name", ["a", "...", "A.b_c-9", "x" * 249])
def test_legal_names_are_taken_with_the_defaults(cluster: Cluster, name: str) -> None:
    cluster.start(1, 2, 3, 4)
    assert cluster(CreateTopic(name, TOPIC)) == TopicCreation(name, TOPIC, 6, 3, {}, True)
    assert cluster.image.min_insync(cluster.image.topics[name]) == 2


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (CreateTopic("u", TOPIC), "INVALID_REQUEST"),  # the id is taken by another name
        (CreateTopic("t", topic_id(2)), "TOPIC_ALREADY_EXISTS"),
        (CreateTopic("u", topic_id(2), replication_factor=4), "INVALID_REPLICATION_FACTOR"),
        (CreateTopic("u", topic_id(2), replication_factor=0), "INVALID_REPLICATION_FACTOR"),
        (CreateTopic("u", topic_id(2), partition_count=0), "INVALID_PARTITIONS"),
        (CreateTopic("u", topic_id(2), partition_count=10_001), "INVALID_PARTITIONS"),
        (CreateTopic("u", topic_id(2), configs={"min.insync.replica": "1"}), "INVALID_CONFIG"),
        (CreateTopic("u", topic_id(2), configs={"min.insync.replicas": "0"}), "INVALID_CONFIG"),
        (CreateTopic("u", topic_id(2), configs={"segment.bytes": "1e6"}), "INVALID_CONFIG"),
        (CreateTopic("u", topic_id(2), assignments=()), "INVALID_PARTITIONS"),
        (CreateTopic("u", topic_id(2), assignments=((BrokerId(9),),)), "INVALID_REPLICA_ASSIGNMENT"),
        (CreateTopic("u", topic_id(2), assignments=((BrokerId(1), BrokerId(1)),)), "INVALID_REPLICA_ASSIGNMENT"),
        (CreateTopic("u", topic_id(2), assignments=((BrokerId(1),), ())), "INVALID_REPLICA_ASSIGNMENT"),
        (CreateTopic("u", topic_id(2), 2, assignments=((BrokerId(1),),)), "INVALID_REQUEST"),
        (CreatePartitions(TOPIC, 1), "INVALID_PARTITIONS"),
        (CreatePartitions(topic_id(9), 2), "UNKNOWN_TOPIC_ID"),
        (DeleteTopic(topic_id(9)), "UNKNOWN_TOPIC_ID"),
        (AllocateProducerIds(0), "INVALID_REQUEST"),
    ],
)
def test_refusals(three: Cluster, body: Body, expected: str) -> None:
    assert code(three(body)) == expected
    assert three.events[-1][1] == ()


def test_a_config_nearly_right_is_answered_with_the_right_one(three: Cluster) -> None:
    refused = three(CreateTopic("u", topic_id(2), configs={"min.insync.replica": "1"}))
    assert isinstance(refused, Refused)
    assert "did you mean min.insync.replicas?" in refused.message


def test_topic_creation_is_idempotent_by_id_and_auto_creation_takes_the_winner(three: Cluster) -> None:
    first = three(CreateTopic("u", topic_id(2), partition_count=2, replication_factor=2))
    assert first == three(CreateTopic("u", topic_id(2), partition_count=2, replication_factor=2))
    auto = three(CreateTopic("u", topic_id(3), auto_created=True))
    assert auto == TopicCreation("u", topic_id(2), 2, 2, {}, False)


def test_a_deleted_name_is_free_for_another_id(three: Cluster) -> None:
    assert three(DeleteTopic(TOPIC)) == Done()
    assert three.image.partition(TOPIC, 0) is None
    three.create(1, number=2)
    assert three.image.topic_names == {topic_id(2): "t"}


def test_partitions_are_added_after_the_present_ones(three: Cluster) -> None:
    before = three.partition()
    assert three(CreatePartitions(TOPIC, 4, placement_seed=5)) == PartitionCreation(TOPIC, 4)
    topic = three.image.topics["t"]
    assert topic.partitions[0] == before
    assert sorted(p.leader for p in topic.partitions[:3] if p.leader) == [1, 2, 3]


def test_fenced_replicas_start_outside_the_isr_and_somebody_must_be_there(three: Cluster) -> None:
    three.fence(1)
    three.create(1, 2, 3, name="u", number=2)
    assert three.partition(topic_id(2)) == Partition(
        (BrokerId(1), BrokerId(2), BrokerId(3)),
        (BrokerId(2), BrokerId(3)),
        (),
        None,
        BrokerId(2),
        LeaderEpoch(0),
        PartitionEpoch(0),
    )
    assert code(three.create(1, name="v", number=3)) == "INVALID_REPLICA_ASSIGNMENT"
    three.fence(2)
    three.fence(3)
    assert code(three(CreateTopic("w", topic_id(4)))) == "INVALID_REPLICATION_FACTOR"


def test_min_insync_is_at_most_the_replication_factor(cluster: Cluster) -> None:
    cluster.start(1, 2)
    cluster.create(1, 2, minimum=5)
    assert cluster.image.min_insync(cluster.image.topics["t"]) == 2
    cluster.fence(2)
    assert cluster.state() == (1, (1,), (2,))


def test_producer_id_blocks_never_overlap(three: Cluster) -> None:
    assert three(AllocateProducerIds(1000)) == ProducerIdBlock(0, 1000)
    assert three(AllocateProducerIds(5)) == ProducerIdBlock(1000, 5)


# Requesters


def test_a_repeated_sequence_is_answered_and_not_executed(three: Cluster) -> None:
    requester = Requester(BrokerId(1), three.epoch(1), 7)
    first = three(AllocateProducerIds(10), requester)
    assert three(AllocateProducerIds(10), requester) == first
    assert three.image.next_producer_id == 10


def test_below_the_window_a_request_is_stale_and_inside_it_may_still_come(three: Cluster) -> None:
    epoch = three.epoch(1)
    three(AllocateProducerIds(1), Requester(BrokerId(1), epoch, 1000))
    below = three(AllocateProducerIds(1), Requester(BrokerId(1), epoch, 1000 - RESULT_WINDOW))
    assert code(below) == "STALE"
    within = three(AllocateProducerIds(1), Requester(BrokerId(1), epoch, 1001 - RESULT_WINDOW))
    assert isinstance(within, ProducerIdBlock)
    three(AllocateProducerIds(1), Requester(BrokerId(1), epoch, 1001))
    window = three.image.results[BrokerId(1)]
    assert sorted(window.results) == [1000, 1001]


def test_results_live_as_long_as_the_broker_epoch(three: Cluster) -> None:
    old = Requester(BrokerId(1), three.epoch(1), 7)
    three(AllocateProducerIds(10), old)
    three.register(1)
    assert code(three(AllocateProducerIds(10), old)) == "STALE_BROKER_EPOCH"
    assert code(three(AllocateProducerIds(10), replace(old, broker_id=BrokerId(9)))) == "STALE_BROKER_EPOCH"
    new = replace(old, broker_epoch=three.epoch(1))
    assert three(AllocateProducerIds(10), new) == ProducerIdBlock(10, 10)


def test_a_damaged_partition_is_left_and_the_others_stay(cluster: Cluster) -> None:
    cluster.start(1, 2, 3)
    cluster.create(1, 2, 3)
    cluster.create(1, 2, 3, name="other", number=2)
    cluster.create(1, name="alone", number=3)
    cluster.create(1, name="alone-and-well", number=4)
    for broker in (3, 2):
        cluster.fence(broker)
    assert cluster.state() == (1, (1,), (2,))
    cluster.register(1, damaged=[(topic_id(1), 0), (topic_id(3), 0)])
    assert cluster.state() == (None, (), (2,))
    assert cluster.partition(topic_id(2)).elr == (1, 2)
    cluster.unfence(1)
    assert cluster.partition().leader is None
    assert cluster.partition(topic_id(2)).leader == 1
    assert cluster.partition(topic_id(3)).leader is None
    assert cluster.partition(topic_id(4)).leader == 1
    assert cluster.partition(topic_id(3)).last_known_leader is None
    cluster.unfence(2)
    assert cluster.state() == (2, (2,), ())


def test_an_unclean_stop_with_a_damaged_partition_is_both(cluster: Cluster) -> None:
    cluster.start(1)
    cluster.create(1)
    cluster.create(1, name="other", number=2)
    cluster.register(1, unclean=True, damaged=[(topic_id(1), 0)])
    cluster.unfence(1)
    assert cluster.state() == (None, (), ())
    assert cluster.partition(topic_id(2)).leader == 1  # as last known leader


# Stories: moves, elections by order, drains


def _move(cluster: Cluster, *target: int) -> Result:
    replicas = tuple(map(BrokerId, target)) or None
    return cluster(AlterPartitionReassignments((Reassignment(TOPIC, 0, replicas),)))


@pytest.fixture
def five() -> Cluster:
    cluster = Cluster()
    cluster.start(1, 2, 3, 4, 5)
    assert isinstance(cluster.create(1, 2, 3), TopicCreation)
    return cluster


def test_a_move_adds_then_catches_up_then_removes_and_hands_over_the_leadership(five: Cluster) -> None:
    before = five.partition()
    assert _move(five, 4, 5, 2) == PartitionsChanged(1, ())
    moving = five.partition()
    assert (moving.replicas, moving.adding, moving.removing) == ((4, 5, 2, 1, 3), (4, 5), (1, 3))
    assert five.state() == (1, (2, 1, 3), ())
    five.alter(1, 2, 3, 4)
    assert five.partition().reassigning
    five.alter(1, 2, 3, 4, 5)
    after = five.partition()
    assert (after.replicas, after.adding, after.removing) == ((4, 5, 2), (), ())
    assert five.state() == (4, (4, 5, 2), ())
    assert after.leader_epoch == before.leader_epoch + 1


def test_a_replica_that_goes_ends_the_leader_epoch_even_if_the_leader_stays(five: Cluster) -> None:
    # What the one that went has still to say must not count if it is made a replica again.
    _move(five, 1, 2, 4)
    five.alter(1, 2, 3, 4)
    assert (five.partition().leader, five.partition().leader_epoch) == (1, 1)


def test_a_move_to_the_dead_stays_pending_until_it_is_called_off(five: Cluster) -> None:
    five.fence(4)
    _move(five, 1, 2, 4)
    five.alter(1, 2, 3)
    assert five.partition().adding == (4,)
    _move(five)
    assert (five.partition().replicas, five.state()) == ((1, 2, 3), (1, (1, 2, 3), ()))


def test_a_move_waits_for_enough_of_its_target(five: Cluster) -> None:
    _move(five, 4, 2, 3)
    five.fence(2)
    five.fence(3)
    five.alter(1, 4)
    assert five.partition().removing == (1,)  # 4 alone is below min.insync
    five.unfence(2)
    five.alter(1, 2, 4)
    assert five.partition().replicas == (4, 2, 3)


def test_who_was_being_added_stays_where_too_few_others_hold_what_is_committed(five: Cluster) -> None:
    _move(five, 4, 5, 1)
    five.alter(1, 2, 3, 4)
    five.fence(2)
    five.fence(3)
    result = _move(five)
    assert isinstance(result, PartitionsChanged)
    assert [refusal.code for refusal in result.failed] == ["INVALID_REPLICA_ASSIGNMENT"]
    assert four_holds(five)
    five.unfence(2)
    five.alter(1, 2, 4)
    assert _move(five) == PartitionsChanged(1, ())
    assert five.state() == (1, (1, 2), ())


def four_holds(cluster: Cluster) -> bool:
    return 4 in cluster.partition().isr


def test_more_replicas_do_not_stop_who_writes_to_those_there_are() -> None:
    cluster = Cluster()
    cluster.start(1, 2, 3)
    cluster.create(1)
    _move(cluster, 1, 2, 3)
    topic = cluster.image.topics["t"]
    assert cluster.image.min_insync(topic, cluster.partition()) == 1
    cluster.alter(1, 2, 3)
    assert cluster.image.min_insync(cluster.image.topics["t"], cluster.partition()) == 2


def test_a_deleted_topic_moves_no_more(five: Cluster) -> None:
    _move(five, 4, 5, 2)
    assert five(DeleteTopic(TOPIC)) == Done()
    result = _move(five, 1, 2, 3)
    assert isinstance(result, PartitionsChanged)
    assert [refusal.code for refusal in result.failed] == ["UNKNOWN_TOPIC_ID"]


def test_a_drained_broker_leads_nothing_stays_in_sync_and_comes_back_drained(three: Cluster) -> None:
    assert three(SetDrained(BrokerId(1), True)) == Done()
    assert three.state() == (2, (1, 2, 3), ())
    three.register(1)
    three.unfence(1)
    assert three.image.brokers[BrokerId(1)].drained
    three.alter(1, 2, 3)
    three.fence(2)
    assert three.state() == (3, (1, 3), ())
    three.fence(3)
    assert three.partition().leader == 1  # rather than nobody
    three.unfence(2)
    three.alter(1, 2)
    assert three.partition().leader == 2
    three(SetDrained(BrokerId(1), False))
    three(ElectLeaders((Election(TOPIC, 0),)))
    assert three.partition().leader == 1


def test_who_is_drained_no_more_takes_over_from_those_who_still_are(three: Cluster) -> None:
    for broker in (1, 2, 3):
        assert three(SetDrained(BrokerId(broker), True)) == Done()
    before = three.partition().leader
    other = next(broker for broker in (1, 2, 3) if broker != before)
    three(SetDrained(BrokerId(other), False))
    assert three.state() == (other, (1, 2, 3), ())
    three(SetDrained(BrokerId(before), False))
    assert three.partition().leader == other  # it is led well: who comes back takes nothing away


def test_manual_recovery_waits_for_an_operator(three: Cluster) -> None:
    topic = three.image.topics["t"]
    manual = replace(topic, configs={"unclean.recovery": "manual"})
    three.machine.image = replace(three.image, topics={"t": manual})
    for broker in (3, 2, 1):
        three.fence(broker)
    for broker in (1, 2):
        three.register(broker, unclean=True)
    three.unfence(1)
    assert three.state() == (None, (), ())
    assert three.partition().last_known_leader == 1
    assert three(ElectLeaders((Election(TOPIC, 0),), True)) == PartitionsChanged(1, ())
    assert three.state() == (1, (1,), ())
    changed = [event for event in three.events[-1][1] if isinstance(event, PartitionChanged)]
    assert [event.elected_from for event in changed] == ["unclean"]


# Stories: copies that cannot be served, and copies that a power cut leaves as they were


def test_a_copy_that_cannot_be_served_is_not_elected_until_its_broker_starts_again(three: Cluster) -> None:
    offline = ReplicasOffline(BrokerId(1), three.epoch(1), ((TOPIC, 0),))
    assert three(offline) == Done()
    assert three.state() == (2, (2, 3), ())
    assert three.partition().offline == (1,)
    three.fence(2)
    three.fence(3)
    assert three.state()[0] is None
    assert three.partition().leader is None, "1 lives, and lacks what was committed"
    three.unfence(3)
    assert three.partition().leader == 3
    three.register(1)
    assert three.partition().offline == ()


def test_what_is_intact_stays_in_sync_over_a_power_cut(three: Cluster) -> None:
    three.fence(3)
    three.fence(2)
    assert three.state() == (1, (1,), (2,))
    for intact, state in (((), (None, (), (2,))), (((TOPIC, 0),), (None, (), (1, 2)))):
        again = Cluster()
        again.machine.restore(three.image)
        again.index = three.index
        body = RegisterBroker2(
            BrokerId(1),
            "again",
            DirectoryId("dir1"),
            "b1",
            7080,
            None,
            unclean=True,
            previous_broker_epoch=three.epoch(1),
            intact=intact,
        )
        assert isinstance(again(body), Registered)
        assert again.state() == state
