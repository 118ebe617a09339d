"""Images become roles: in one step, never twice for one epoch, and never for a log that is not this topic's."""

import asyncio

import pytest

from ottla.broker import replica_manager
from ottla.broker.replica import Refused
from ottla.client.error_codes import ErrorCode
from ottla.log.model import TopicId, TopicIdPartition
from ottla.raft.commands import AlterConfigs, ConfigChange, CreatePartitions, DeleteTopic, FenceBroker, UnfenceBroker
from ottla.raft.image_codec import decode_image, encode_image

from .small_quorum import OTHER, TOPIC, A, B, C, OneBroker, SmallQuorum, a_batch


@pytest.fixture
def quorum() -> SmallQuorum:
    return SmallQuorum(A, B, C)


async def test_roles_follow_the_image(quorum):
    quorum.create("led", TOPIC, A, B)
    quorum.create("followed", OTHER, B, A)
    broker = OneBroker(quorum)
    await broker.start()
    led, followed = broker.replica(TOPIC), broker.replica(OTHER)
    assert led.leader is not None
    assert led.follower is None
    assert followed.follower is not None
    assert followed.follower.leader == B
    assert broker.fetchers.replicas == [followed]
    quorum.decide(FenceBroker(B, quorum.epochs[B]))
    await broker.see()
    assert followed.leader is not None
    assert followed.follower is None
    assert broker.fetchers.replicas == []


async def test_no_role_is_taken_before_this_incarnation_is_registered(quorum):
    quorum.create("t", TOPIC, A)
    broker = OneBroker(quorum)
    await broker.manager.open_all(quorum.image)
    await broker.see()
    replica = broker.replica()
    assert replica.leader is None
    assert replica.follower is None
    with pytest.raises(Refused) as refused:
        replica.append(memoryview(a_batch()), need_all=False)
    assert refused.value.error is ErrorCode.NOT_LEADER_OR_FOLLOWER


async def test_a_restarted_broker_never_resumes_its_leader_epoch(quorum):
    quorum.create("t", TOPIC, A)
    broker = OneBroker(quorum)
    await broker.start()
    before = broker.replica().leader.leader_epoch
    broker.replica().append(memoryview(a_batch()), need_all=False)

    again = OneBroker(quorum, broker.storage.kill())
    await again.manager.open_all(quorum.image)
    quorum.register(A)
    again.manager.activate(quorum.epochs[A])
    assert again.replica().leader is None
    await again.see()
    assert again.replica().leader is None, "it is fenced"
    quorum.decide(UnfenceBroker(A, quorum.epochs[A]))
    await again.see()
    assert again.replica().leader.leader_epoch > before
    assert again.replica().log.log_end_offset == 1


async def test_the_same_epoch_keeps_the_same_leader_object_and_a_newer_one_does_not(quorum):
    quorum.create("t", TOPIC, A, B)
    broker = OneBroker(quorum)
    await broker.start()
    leader = broker.replica().leader
    quorum.alter_isr(TOPIC, A)
    await broker.see()
    assert broker.replica().leader is leader
    assert leader.isr.committed == {A}
    assert leader.isr.partition_epoch == quorum.state().partition_epoch
    quorum.register(A)  # another incarnation: everything is laid down
    await broker.see()
    assert broker.replica().leader is None
    assert not broker.manager.active


async def test_images_that_come_while_a_log_opens_decide_its_role(quorum):
    broker = OneBroker(quorum)
    await broker.start()
    broker.executor.free.clear()
    quorum.create("t", TOPIC, A, B)
    broker.manager.apply_image(quorum.image)
    assert broker.manager.find(TopicIdPartition(TOPIC, 0)) is None
    with pytest.raises(Refused) as refused:
        broker.manager.require(TOPIC, 0)
    assert refused.value.error.retriable
    quorum.decide(FenceBroker(A, quorum.epochs[A]))  # B leads before our log is open
    broker.manager.apply_image(quorum.image)
    await broker.release()
    await broker.manager.settled()
    assert broker.replica().follower.leader == B
    assert broker.replica().leader_epoch == quorum.state().leader_epoch


async def test_a_topic_deleted_while_its_log_opens_is_set_aside(quorum):
    broker = OneBroker(quorum)
    await broker.start()
    broker.executor.free.clear()
    quorum.create("t", TOPIC, A)
    broker.manager.apply_image(quorum.image)
    quorum.decide(DeleteTopic(TOPIC))
    broker.manager.apply_image(quorum.image)
    await broker.release()
    await broker.manager.settled()
    assert broker.manager.replicas == {}
    assert [name for name in broker.directories() if not name.endswith("-stray")] == []


async def test_a_topic_made_again_under_its_name_while_the_old_log_opens(quorum):
    broker = OneBroker(quorum)
    await broker.start()
    broker.executor.free.clear()
    quorum.create("t", TOPIC, A)
    broker.manager.apply_image(quorum.image)
    quorum.decide(DeleteTopic(TOPIC))
    broker.manager.apply_image(quorum.image)
    quorum.create("t", OTHER, A)
    broker.manager.apply_image(quorum.image)
    await broker.release()
    await broker.manager.settled()
    assert broker.manager.offline == {}
    assert list(broker.manager.replicas) == [TopicIdPartition(OTHER, 0)]
    assert broker.replica(OTHER).log.topic_id == OTHER
    assert broker.replica(OTHER).leader is not None


async def test_a_topic_made_again_never_sees_the_records_of_the_one_before(quorum):
    quorum.create("t", TOPIC, A)
    broker = OneBroker(quorum)
    await broker.start()
    broker.replica().append(memoryview(a_batch()), need_all=False)
    quorum.decide(DeleteTopic(TOPIC))
    quorum.create("t", OTHER, A)
    await broker.see()
    assert broker.replica(OTHER).log.log_end_offset == 0
    assert broker.replica(OTHER).high_watermark == 0
    assert any(name.endswith("-stray") for name in broker.directories()), "nothing is deleted unasked"


async def test_a_topic_deleted_between_opening_and_registering_is_let_go(quorum):
    quorum.create("t", TOPIC, A)
    broker = OneBroker(quorum)
    await broker.manager.open_all(quorum.image)
    quorum.decide(DeleteTopic(TOPIC))
    quorum.create("t", OTHER, A)
    broker.manager.apply_image(quorum.image)
    broker.manager.activate(quorum.epochs[A])
    await broker.manager.settled()
    assert list(broker.manager.replicas) == [TopicIdPartition(OTHER, 0)]
    assert broker.manager.offline == {}


async def test_setting_aside_does_not_wait_for_the_disk_where_images_are_applied(quorum):
    quorum.create("t", TOPIC, A)
    broker = OneBroker(quorum)
    await broker.start()
    changes = broker.storage.changes
    quorum.decide(DeleteTopic(TOPIC))
    broker.manager.apply_image(quorum.image)
    assert broker.storage.changes == changes
    assert broker.manager.replicas == {}
    await broker.manager.settled()
    assert broker.storage.changes > changes


async def test_a_damaged_log_takes_only_its_replica_out_of_service(quorum):
    quorum.create("bad", TOPIC, A)
    quorum.create("good", OTHER, A)
    broker = OneBroker(quorum)
    broker.storage.fail("create", name_contains="bad-0")
    await broker.start()
    assert list(broker.manager.offline) == [TopicIdPartition(TOPIC, 0)]
    assert broker.replica(OTHER).leader is not None
    with pytest.raises(Refused) as refused:
        broker.manager.require(TOPIC, 0)
    assert refused.value.error is ErrorCode.KAFKA_STORAGE_ERROR
    quorum.decide(DeleteTopic(TOPIC))
    await broker.see()
    assert broker.manager.offline == {}


async def test_what_is_asked_of_the_wrong_broker_says_what_the_image_knows(quorum):
    quorum.create("t", TOPIC, B, C)
    broker = OneBroker(quorum)
    await broker.start()
    for topic_id, partition, error in (
        (OTHER, 0, ErrorCode.UNKNOWN_TOPIC_ID),
        (TOPIC, 1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, 0, ErrorCode.NOT_LEADER_OR_FOLLOWER),
    ):
        with pytest.raises(Refused) as refused:
            broker.manager.require(topic_id, partition)
        assert refused.value.error is error
    assert broker.manager.leader_of(TOPIC, 0) == (B, 0)


async def test_new_partitions_of_a_topic_are_opened_and_the_others_left_alone(quorum):
    quorum.create("t", TOPIC, A, B, C)
    broker = OneBroker(quorum)
    await broker.start()
    leader = broker.replica().leader
    quorum.decide(CreatePartitions(TOPIC, 3))
    await broker.see()
    assert len(broker.manager.replicas) == 3
    assert broker.replica().leader is leader


async def test_what_did_not_change_of_a_topic_is_not_looked_at(quorum, monkeypatch):
    quorum.create("t", TOPIC, A, B, C, partitions=3)
    broker = OneBroker(quorum)
    await broker.start()
    looked: list[int] = []
    apply = broker.manager._apply_state
    monkeypatch.setattr(
        broker.manager, "_apply_state", lambda replica, *rest: (looked.append(replica.partition), apply(replica, *rest))
    )
    quorum.alter_isr(TOPIC, A, B)  # of partition 0
    await broker.see()
    assert looked == [0]
    assert broker.replica().leader.isr.committed == {A, B}
    looked.clear()
    quorum.decide(AlterConfigs(TOPIC, "", (ConfigChange("min.insync.replicas", "set", "3"),)))
    await broker.see()
    assert looked == [0, 1, 2], "a topic's configs are of all its partitions"
    assert broker.replica(TOPIC, 2).leader.min_insync == 3
    looked.clear()
    quorum.decide(AlterConfigs(None, "", (ConfigChange("log.retention.ms", "set", "5"),)))
    await broker.see()
    assert looked == [0, 1, 2], "and so are those of all topics"
    assert broker.replica(TOPIC, 1).log.config.retention_ms == 5


async def test_laying_down_keeps_the_high_watermark_for_the_checkpoint(quorum):
    quorum.create("t", TOPIC, A)
    broker = OneBroker(quorum)
    await broker.start()
    broker.replica().append(memoryview(a_batch(count=3)), need_all=True)
    broker.manager.deactivate()
    assert broker.replica().leader is None
    assert list(broker.manager.high_watermarks().values()) == [3]
    await broker.see()
    assert broker.replica().leader is None, "no image gives a role to one that has left"


async def test_a_log_that_a_full_disk_kept_shut_opens_once_there_is_room(quorum, monkeypatch):
    monkeypatch.setattr(replica_manager, "RETRY_S", 0.01)
    broker = OneBroker(quorum)
    await broker.start()
    broker.storage.capacity = 0
    quorum.create("t", TOPIC, A)
    await broker.see()
    assert list(broker.manager.offline) == [TopicIdPartition(TOPIC, 0)]
    with pytest.raises(Refused) as refused:
        broker.manager.require(TOPIC, 0)
    assert refused.value.error is ErrorCode.KAFKA_STORAGE_ERROR
    broker.storage.capacity = None
    async with asyncio.timeout(10):
        while broker.manager.offline:
            await asyncio.sleep(0.001)
            await broker.manager.settled()
    assert broker.replica().leader is not None


async def leap(broker, quorum):
    """What a restored snapshot does: one image for many commands, and no object of it was ever seen before."""
    broker.manager.apply_image(decode_image(encode_image(quorum.image)))
    await broker.manager.settled()


async def test_a_leap_over_many_commands_ends_where_one_at_a_time_would(quorum):
    same, gone, led = (TopicId(name * 22) for name in "SGL")
    quorum.create("same", same, A, B)
    quorum.create("gone", gone, A, B)
    quorum.create("remade", TOPIC, A, B)
    quorum.create("led", led, B, A, C)
    broker = OneBroker(quorum)
    await broker.start()
    before = broker.replica(same).leader
    old = broker.replica(TOPIC)
    old.append(memoryview(a_batch()), need_all=False)
    followed = broker.replica(led)
    epoch = followed.leader_epoch

    quorum.alter_isr(same, A)
    quorum.alter_isr(same, A, B)
    quorum.decide(DeleteTopic(gone))
    quorum.decide(DeleteTopic(TOPIC))
    quorum.create("remade", OTHER, B, A)
    quorum.decide(FenceBroker(B, quorum.epochs[B]))
    quorum.decide(UnfenceBroker(B, quorum.epochs[B]))
    quorum.decide(CreatePartitions(led, 2))
    await leap(broker, quorum)

    assert broker.replica(same).leader is before, "its leader epoch is the same"
    assert before.isr.committed == set(quorum.state(same).isr)
    assert before.isr.partition_epoch == quorum.state(same).partition_epoch
    assert TopicIdPartition(gone, 0) not in broker.manager.replicas
    assert old.leader is None
    assert broker.replica(OTHER).log.log_end_offset == 0, "nothing of the topic before it"
    assert broker.replica(OTHER).leader is not None
    assert broker.replica(led) is followed
    assert followed.leader is not None
    assert followed.leader_epoch == quorum.state(led).leader_epoch > epoch
    assert TopicIdPartition(led, 1) in broker.manager.replicas or A not in quorum.state(led, 1).replicas


async def test_a_leap_past_this_brokers_own_fencing_drops_what_it_led(quorum):
    quorum.create("t", TOPIC, A, B)
    broker = OneBroker(quorum)
    await broker.start()
    epoch = broker.replica().leader_epoch
    quorum.decide(FenceBroker(A, quorum.epochs[A]))
    quorum.decide(UnfenceBroker(A, quorum.epochs[A]))
    await leap(broker, quorum)
    assert broker.replica().leader is None
    assert broker.replica().follower.leader == B
    assert broker.replica().leader_epoch > epoch


async def test_a_leap_past_another_incarnation_lays_everything_down(quorum):
    quorum.create("t", TOPIC, A, B)
    broker = OneBroker(quorum)
    await broker.start()
    quorum.register(A)
    quorum.decide(UnfenceBroker(A, quorum.epochs[A]))
    await leap(broker, quorum)
    assert not broker.manager.active
    assert broker.replica().leader is None
    assert broker.replica().follower is None


async def test_a_leap_that_remakes_a_topic_while_its_log_opens(quorum):
    broker = OneBroker(quorum)
    await broker.start()
    broker.executor.free.clear()
    quorum.create("t", TOPIC, A)
    broker.manager.apply_image(quorum.image)
    quorum.decide(DeleteTopic(TOPIC))
    quorum.create("t", OTHER, A)
    broker.manager.apply_image(decode_image(encode_image(quorum.image)))
    await broker.release()
    await broker.manager.settled()
    assert list(broker.manager.replicas) == [TopicIdPartition(OTHER, 0)]
    assert broker.replica(OTHER).leader is not None
