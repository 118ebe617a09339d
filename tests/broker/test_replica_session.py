"""A follower's session at its leader: says what is new, once, to one leader epoch."""

import pytest

from ottla.broker.replica_session import ReplicaSession
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import FetchPartition, ReplicaFetchRequest
from ottla.log.model import LeaderEpoch, Offset
from ottla.log.records import batches_in
from ottla.raft.commands import DeleteTopic, FenceBroker, UnfenceBroker

from .small_quorum import TOPIC, A, B, C, OneBroker, SmallQuorum, a_batch

BUDGET = 1 << 20


@pytest.fixture
async def broker() -> OneBroker:
    quorum = SmallQuorum(A, B, C)
    quorum.create("t", TOPIC, A, B, C, partitions=3)
    broker = OneBroker(quorum)
    await broker.start()
    return broker


def open_session(broker: OneBroker, follower=B) -> ReplicaSession:
    return ReplicaSession(follower, broker.quorum.epochs[follower], broker.manager.find, broker.clock)


def name(partition=0, offset=0, epoch=0, **more) -> FetchPartition:
    """As followers ask: with the epoch of what they have."""
    more.setdefault("last_fetched_epoch", LeaderEpoch(epoch) if offset else None)
    return FetchPartition(TOPIC, partition, offset, LeaderEpoch(epoch), **more)


def ask(session: ReplicaSession, *changed: FetchPartition, forgotten=(), budget=BUDGET):
    session.receive(ReplicaFetchRequest(0, budget, changed, forgotten))
    return session.collect(budget)


def append(broker: OneBroker, partition=0, value=b"v", count=1) -> None:
    broker.replica(TOPIC, partition).append(memoryview(a_batch(value, count)), need_all=False)


async def test_data_is_sent_once_until_the_next_offset_is_named(broker):
    session = open_session(broker)
    append(broker)
    response, parts = ask(session, name())
    assert [len(list(batches_in(part))) for part in parts] == [1]
    append(broker)
    response, parts = ask(session)
    assert (parts, response.partitions) == ([], ()), "what is in flight is not followed by more of it"
    response, parts = ask(session, name(offset=1))
    (batch,) = batches_in(parts[0])
    assert batch.base_offset == 1


async def test_a_later_question_is_held_to_its_epoch_as_the_first(broker):
    session = open_session(broker)
    append(broker, count=3)
    ask(session, name())
    for epoch, error in ((1, ErrorCode.UNKNOWN_LEADER_EPOCH), (-1, ErrorCode.FENCED_LEADER_EPOCH)):
        ask(session, name(offset=1, last_fetched_epoch=LeaderEpoch(0)))
        response, _ = ask(session, name(offset=3, epoch=epoch, last_fetched_epoch=LeaderEpoch(0)))
        assert [result.error for result in response.partitions] == [error]
        assert broker.replica().leader.followers[B].log_end == 1, "what is refused acknowledges nothing"


async def test_a_later_question_is_held_to_the_logs_bounds_and_epochs_as_the_first(broker):
    session = open_session(broker)
    append(broker, count=3)
    ask(session, name())
    ask(session, name(offset=1))
    response, _ = ask(session, name(offset=3, last_fetched_epoch=LeaderEpoch(7)))
    assert [(result.diverging is not None) for result in response.partitions] == [True]
    ask(session, name(offset=1))
    broker.replica().log.advance_log_start(Offset(2))
    response, _ = ask(session, name(offset=1))
    assert [result.error for result in response.partitions] == [ErrorCode.OFFSET_OUT_OF_RANGE]
    assert broker.replica().leader.followers[B].log_end == 1


async def test_a_later_question_may_say_that_what_came_was_damaged(broker):
    session, suspected = open_session(broker), []
    broker.replica().on_suspicion = lambda replica, offset: suspected.append(offset)
    append(broker, count=3)
    ask(session, name())
    ask(session, name(offset=3))
    ask(session, name(offset=3, damaged=True))
    assert suspected == [3]


async def test_an_idle_partition_has_nothing_to_say(broker):
    session = open_session(broker)
    ask(session, name(0), name(1), name(2))
    response, parts = ask(session)
    assert (response.partitions, parts) == ((), [])
    append(broker, 1)
    response, parts = ask(session)
    assert [(result.partition, result.size > 0) for result in response.partitions] == [(1, True)]


async def test_a_fetch_acknowledges_and_the_high_watermark_is_told_without_data(broker):
    first, second = open_session(broker, B), open_session(broker, C)
    append(broker)
    ask(first, name(offset=0))
    ask(second, name(offset=0))
    ask(first, name(offset=1))
    assert broker.replica().high_watermark == 0
    ask(second, name(offset=1))
    assert broker.replica().high_watermark == 1
    response, parts = ask(first)
    (result,) = response.partitions
    assert (result.high_watermark, result.size, parts) == (1, 0, [])
    assert ask(first)[0].partitions == (), "once"


async def test_a_follower_of_an_idle_partition_learns_the_high_watermark_on_a_new_stream(broker):
    append(broker)
    for session in (open_session(broker, B), open_session(broker, C)):
        ask(session, name(offset=1))
    assert broker.replica().high_watermark == 1
    again = open_session(broker, B)
    response, _ = ask(again, name(offset=1))
    assert [result.high_watermark for result in response.partitions] == [1]


async def test_an_entry_belongs_to_one_leader_epoch(broker):
    session = open_session(broker)
    ask(session, name())
    quorum = broker.quorum
    quorum.decide(FenceBroker(A, quorum.epochs[A]))
    await broker.see()
    response, _ = ask(session)
    assert [result.error for result in response.partitions] == [ErrorCode.NOT_LEADER_OR_FOLLOWER]
    quorum.decide(UnfenceBroker(A, quorum.epochs[A]))
    quorum.alter_isr(TOPIC, A, B, C)
    quorum.decide(FenceBroker(B, quorum.epochs[B]))
    await broker.see()
    assert quorum.state().leader == A
    leader = broker.replica().leader
    assert ask(session)[0].partitions == ()
    assert leader.followers[B].log_end is None, "what was named before counts no more"
    assert not leader.followers[B].live
    response, _ = ask(session, name(epoch=0))
    assert [result.error for result in response.partitions] == [ErrorCode.FENCED_LEADER_EPOCH]
    assert leader.followers[B].log_end is None
    response, _ = ask(session, name(epoch=leader.leader_epoch + 1))
    assert [result.error for result in response.partitions] == [ErrorCode.UNKNOWN_LEADER_EPOCH]


async def test_every_request_renews_what_is_at_the_log_end_named_or_not(broker):
    session = open_session(broker)
    append(broker, 1)
    ask(session, name(0), name(1))
    broker.clock.seconds += 3
    ask(session)
    at_end, behind = broker.replica(TOPIC, 0).leader, broker.replica(TOPIC, 1).leader
    assert at_end.caught_up_at_s(B) == broker.clock.seconds
    assert behind.caught_up_at_s(B) == broker.clock.seconds - 3


async def test_a_closed_stream_renews_nothing_and_its_follower_cannot_join(broker):
    session = open_session(broker)
    ask(session, name())
    session.close()
    append(broker)
    leader = broker.replica().leader
    assert not leader.followers[B].live
    broker.clock.seconds += 6
    assert leader.propose_isr(broker.clock.seconds, lambda _: True) == {A}


async def test_a_budget_is_shared_fairly(broker):
    session = open_session(broker)
    for partition in range(3):
        for _ in range(4):
            append(broker, partition, b"x" * 1000)
    one = len(broker.replica().log.read(0, 1, 1))
    ends = dict.fromkeys(range(3), 0)
    served: list[int] = []
    changed = [name(partition) for partition in range(3)]
    for _ in range(12):
        response, parts = ask(session, *changed, budget=one)
        changed = []
        for result, part in zip(response.partitions, parts, strict=False):
            if part:
                served.append(result.partition)
                ends[result.partition] += len(list(batches_in(part)))
                changed.append(name(result.partition, ends[result.partition]))
    assert served == [0, 1, 2] * 4


async def test_a_batch_larger_than_the_rest_of_the_budget_goes_alone(broker):
    session = open_session(broker)
    append(broker, 0, b"s")
    append(broker, 1, b"L" * 5000)
    response, parts = ask(session, name(0), name(1), budget=1000)
    assert [result.partition for result in response.partitions if result.size] == [0]
    response, parts = ask(session, budget=1000)
    assert [result.partition for result in response.partitions if result.size] == [1]
    assert len(parts[0]) > 5000


async def test_divergence_is_told_and_acknowledges_nothing(broker):
    session = open_session(broker)
    append(broker, count=2)
    response, _ = ask(session, name(offset=5, last_fetched_epoch=LeaderEpoch(0)))
    (result,) = response.partitions
    assert result.diverging is not None
    assert (result.diverging.leader_epoch, result.diverging.end_offset) == (0, 2)
    assert broker.replica().leader.followers[B].log_end is None


async def test_what_is_not_held_or_not_allowed_is_refused(broker):
    quorum = broker.quorum
    session = open_session(broker)
    response, _ = ask(session, name(partition=9))
    assert [result.error for result in response.partitions] == [ErrorCode.UNKNOWN_TOPIC_ID]
    stranger = ReplicaSession(9, quorum.epochs[B], broker.manager.find, broker.clock)
    response, _ = ask(stranger, name())
    assert [result.error for result in response.partitions] == [ErrorCode.NOT_LEADER_OR_FOLLOWER]


async def test_forgotten_partitions_and_deleted_topics_leave_nothing_behind(broker):
    session = open_session(broker)
    ask(session, name(0), name(1))
    ask(session, forgotten=((TOPIC, 0),))
    append(broker, 0)
    assert ask(session)[0].partitions == ()
    broker.quorum.decide(DeleteTopic(TOPIC))
    await broker.see()
    response, _ = ask(session)
    assert [(r.partition, r.error) for r in response.partitions] == [(1, ErrorCode.NOT_LEADER_OR_FOLLOWER)]
    assert ask(session)[0].partitions == ()


async def test_a_disk_that_cannot_be_read_is_told_and_does_not_end_the_stream(broker):
    session = open_session(broker)
    append(broker)
    append(broker)  # the last one is still in memory
    broker.storage.fail("read", name_contains="t-0")
    response, _ = ask(session, name())
    assert [result.error for result in response.partitions] == [ErrorCode.KAFKA_STORAGE_ERROR]
    response, parts = ask(session, name())
    assert parts[0]
