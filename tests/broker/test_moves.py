"""One broker while partitions move: what comes is copied and throttled, what goes is set aside, and near readers
(KIP-392) see no more than what is committed."""

import asyncio

import pytest

from ottla.broker.api.fetch import fetch
from ottla.broker.partition_follower import FollowerStep
from ottla.broker.replica_session import ReplicaSession
from ottla.broker.throttle import LEADER_RATE, TokenBucket, rate_of
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import FetchPartition, FetchRequest, FetchResult, ReplicaFetchRequest
from ottla.log.model import BrokerId, LeaderEpoch, Offset
from ottla.log.records import BatchBuilder
from ottla.raft.commands import AlterConfigs, AlterPartitionReassignments, ConfigChange, Reassignment

from .small_quorum import TOPIC, A, B, C, HandClock, OneBroker, SmallQuorum, a_batch

D = BrokerId(4)


@pytest.fixture
async def broker() -> OneBroker:
    quorum = SmallQuorum(A, B, C, D, racks={A: "a", B: "b", C: "c", D: "b"})
    quorum.create("t", TOPIC, A, B, C)
    broker = OneBroker(quorum)
    await broker.start()
    return broker


def move(broker: OneBroker, *target: BrokerId) -> None:
    broker.quorum.decide(AlterPartitionReassignments((Reassignment(TOPIC, 0, target or None),)))


def session_of(broker: OneBroker, follower: BrokerId) -> ReplicaSession:
    manager = broker.manager
    return ReplicaSession(follower, broker.quorum.epochs[follower], manager.find, broker.clock, manager.giving)


def ask(session: ReplicaSession, offset: int, epoch: int = 0) -> tuple[tuple[FetchResult, ...], list[bytes]]:
    asked = FetchPartition(TOPIC, 0, offset, LeaderEpoch(epoch), LeaderEpoch(0) if offset else None)
    session.receive(ReplicaFetchRequest(0, 1 << 20, (asked,)))
    response, parts = session.collect(1 << 20)
    return response.partitions, parts


async def test_a_replica_that_comes_catches_up_and_joins_and_the_old_leader_sets_its_own_aside(broker):
    replica = broker.replica()
    replica.append(memoryview(a_batch()), need_all=False)
    for follower in (B, C):
        ask(session_of(broker, follower), 1)
    move(broker, D, B)
    await broker.see()
    leader = replica.leader
    assert leader is not None
    assert leader.propose_isr(broker.clock.seconds, broker.manager.may_join_isr) is None
    session = session_of(broker, D)
    ask(session, 0)
    assert D not in (leader.propose_isr(broker.clock.seconds, broker.manager.may_join_isr) or ())
    ask(session, 1)
    assert leader.propose_isr(broker.clock.seconds, broker.manager.may_join_isr) == {A, B, C, D}
    broker.quorum.alter_isr(TOPIC, A, B, C, D)
    assert broker.quorum.state().replicas == (D, B)
    await broker.see()
    await broker.manager.settled()
    assert broker.manager.replicas == {}
    assert replica.leader is None
    assert any(name.endswith("-stray") for name in broker.directories()), "nothing is deleted unasked"


async def test_what_is_committed_does_not_wait_for_who_is_only_coming(broker):
    replica = broker.replica()
    move(broker, A, B, C, D)
    await broker.see()
    replica.append(memoryview(a_batch()), need_all=True)
    for follower in (B, C):
        ask(session_of(broker, follower), 1)
    assert replica.high_watermark == 1
    assert replica.leader.is_throttled(D)
    assert not replica.leader.is_throttled(B)


async def test_the_throttle_holds_back_only_who_comes(broker):
    broker.quorum.decide(AlterConfigs(None, "", (ConfigChange(LEADER_RATE, "set", "100"),)))
    replica = broker.replica()
    move(broker, A, B, C, D)
    await broker.see()
    replica.append(memoryview(a_batch(b"v" * 500)), need_all=False)
    coming, staying = session_of(broker, D), session_of(broker, B)
    assert ask(coming, 0)[1] == [], "the bucket begins empty"
    assert len(ask(staying, 0)[1][0]) > 500
    broker.clock.seconds += 1
    coming._release()
    assert len(coming.collect(1 << 20)[1][0]) > 500, "one larger batch, and then nothing until it is paid back"
    replica.append(memoryview(a_batch(b"w")), need_all=False)
    assert ask(coming, 1)[1] == []
    broker.clock.seconds += 10
    coming._release()
    assert len(coming.collect(1 << 20)[1]) == 1
    coming.close()


def test_a_bucket_fills_with_time_to_a_second_of_it():
    clock = HandClock()
    bucket = TokenBucket(lambda: 100, clock)
    assert bucket.allowance() == 0
    assert bucket.wait_s() == pytest.approx(0.01)
    clock.seconds += 60
    assert bucket.allowance() == 100
    bucket.take(300)
    assert (bucket.allowance(), bucket.wait_s()) == (0, pytest.approx(2.01))
    clock.seconds += 2.5
    assert bucket.allowance() == 50


def test_without_a_rate_nothing_is_held_back():
    bucket = TokenBucket(lambda: None, HandClock())
    bucket.take(1 << 30)
    assert (bucket.allowance(), bucket.wait_s()) == (None, 0.0)


async def test_a_brokers_own_rate_wins_over_the_clusters(broker):
    for name, rate in (("", "5"), ("2", "7")):
        broker.quorum.decide(AlterConfigs(None, name, (ConfigChange(LEADER_RATE, "set", rate),)))
    assert [rate_of(broker.quorum.image, node, LEADER_RATE) for node in (A, B)] == [5, 7]


# Reading near by


async def near(broker: OneBroker, offset: int, rack: str, epoch: int = 0, last: int | None = None) -> FetchResult:
    asked = FetchPartition(TOPIC, 0, offset, LeaderEpoch(epoch), None if last is None else LeaderEpoch(last))
    response, _ = await fetch(broker.manager, FetchRequest(0, 1, 1 << 20, (asked,), rack))
    return response.partitions[0]


async def test_the_leader_names_who_is_near_in_sync_and_far_enough(broker):
    broker.replica().append(memoryview(a_batch()), need_all=False)
    session = session_of(broker, B)
    ask(session, 0)
    ask(session_c := session_of(broker, C), 1)
    assert (await near(broker, 0, "b")).preferred_read_replica == B
    assert (await near(broker, 1, "b")).preferred_read_replica is None, "B has not come so far"
    assert (await near(broker, 0, "a")).preferred_read_replica is None, "the leader is there itself"
    assert (await near(broker, 0, "nowhere")).preferred_read_replica is None
    assert (await near(broker, 0, "")).preferred_read_replica is None
    ask(session, 1)
    named = await near(broker, 0, "b")
    assert (named.preferred_read_replica, named.size, named.error) == (B, 0, ErrorCode.NONE)
    broker.quorum.alter_isr(TOPIC, A, C)
    await broker.see()
    assert (await near(broker, 0, "b")).preferred_read_replica is None, "B is not in sync"
    session_c.close()
    assert (await near(broker, 0, "c")).preferred_read_replica is None, "C is not heard of"


@pytest.fixture
async def follower() -> OneBroker:
    """Broker A follows B, and holds records 0 and 1, of which it knows the first to be committed."""
    quorum = SmallQuorum(A, B, C, racks={A: "a"})
    quorum.create("t", TOPIC, B, A, C)
    broker = OneBroker(quorum)
    await broker.start()
    for offset, high_watermark in ((0, 0), (1, 1)):
        builder = BatchBuilder()
        builder.append(None, b"v", timestamp_ms=1)
        batch = builder.build(None, None, None, Offset(offset), LeaderEpoch(0), False)
        broker.replica().apply(FollowerStep(append=True, high_watermark=Offset(high_watermark)), memoryview(batch))
    return broker


async def test_a_follower_shows_nothing_above_its_high_watermark(follower):
    first = await near(follower, 0, "a")
    assert (first.error, first.high_watermark) == (ErrorCode.NONE, 1)
    batch_bytes = first.size
    assert batch_bytes > 0
    above = await near(follower, 1, "a", last=0)
    assert (above.error, above.size) == (ErrorCode.NONE, 0), "it is there, and not known to be committed"
    assert (await near(follower, 3, "a", last=0)).error is ErrorCode.OFFSET_NOT_AVAILABLE
    follower.replica().apply(FollowerStep(high_watermark=Offset(2)), memoryview(b""))
    assert (await near(follower, 1, "a", last=0)).size > 0
    assert (await near(follower, 0, "a")).size == 2 * batch_bytes


async def test_a_follower_serves_only_who_asks_for_it_in_its_epoch(follower):
    assert (await near(follower, 0, "")).error is ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert (await near(follower, 0, "a", epoch=1)).error is ErrorCode.UNKNOWN_LEADER_EPOCH
    follower.quorum.alter_isr(TOPIC, B, A)
    move_away = AlterPartitionReassignments((Reassignment(TOPIC, 0, (B, A)),))
    follower.quorum.decide(move_away)
    await follower.see()
    assert follower.replica().leader_epoch == 1
    assert (await near(follower, 0, "a")).error is ErrorCode.FENCED_LEADER_EPOCH


async def test_a_follower_wakes_a_long_poll_when_its_high_watermark_rises(follower):
    asked = FetchPartition(TOPIC, 0, 1, LeaderEpoch(0), LeaderEpoch(0))
    polling = asyncio.create_task(fetch(follower.manager, FetchRequest(60_000, 1, 1 << 20, (asked,), "a")))
    await asyncio.sleep(0)
    follower.replica().apply(FollowerStep(high_watermark=Offset(2)), memoryview(b""))
    response, _ = await asyncio.wait_for(polling, 10)
    assert response.partitions[0].size > 0
