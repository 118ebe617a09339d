"""A coordinator on a broker: real logs, and a commit that other brokers acknowledge when the test says so."""

import asyncio
import contextlib

import pytest

from ottla.broker.api.groups import GroupsApi
from ottla.broker.controller_channel import ControllerUnavailable
from ottla.broker.group import coordinator
from ottla.broker.group.coordinator import GroupCoordinator
from ottla.broker.group.internal_topic import INTERNAL_TOPIC, partition_of
from ottla.broker.group.outcome import GroupLimits, GroupRefused, Outcome
from ottla.broker.group.records import GroupRecord
from ottla.broker.group.refusals import coordinator_error
from ottla.broker.group.shard import Shard
from ottla.broker.replica_session import ReplicaSession
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    CommitPartition,
    JoinGroupRequest,
    JoinGroupResponse,
    JoinProtocol,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetFetchRequest,
    OffsetFetchResponse,
    OffsetPartition,
)
from ottla.client.protocol import FetchPartition, ReplicaFetchRequest
from ottla.log.model import TopicId
from ottla.raft.commands import FenceBroker

from ...simulation.crashing_storage import SeededChance
from ..small_quorum import A, B, C, OneBroker, SmallQuorum

GROUPS, TOPIC = TopicId("G" * 21 + "A"), TopicId("T" * 21 + "A")
GROUP = "billing"


async def nothing() -> None:
    pass


class Coordinating:
    """Broker A coordinates all groups; B and C follow when told to."""

    def __init__(self, quorum: SmallQuorum, broker: OneBroker) -> None:
        self.quorum, self.broker = quorum, broker
        self.coordinator = GroupCoordinator(
            manager=broker.manager,
            chance=SeededChance(1),
            limits=GroupLimits(),
            create_topic=nothing,
            commit_timeout_s=5.0,
            sweep_s=600.0,
        )

    async def see(self) -> None:
        await self.broker.see()
        self.coordinator.roles_changed()

    async def loaded(self):
        while True:
            with contextlib.suppress(GroupRefused):
                return self.coordinator.shard_of(GROUP)
            await asyncio.sleep(0)

    @property
    def replica(self):
        return self.broker.replica(GROUPS)

    def followers_fetch(self) -> None:
        """They hold everything."""
        for follower in (B, C):
            session = ReplicaSession(
                follower, self.quorum.epochs[follower], self.broker.manager.find, self.broker.clock
            )
            end, epoch = self.replica.log.log_end_offset, self.replica.leader_epoch
            session.receive(ReplicaFetchRequest(0, 1, (FetchPartition(GROUPS, 0, end, epoch),)))

    async def commit(self, offset: int) -> asyncio.Task[OffsetCommitResponse]:
        shard = await self.loaded()
        request = OffsetCommitRequest(GROUP, None, "", (CommitPartition("t", 0, offset),))
        clock = self.broker.clock
        decide = lambda waiter: shard.state.commit(request, waiter, clock.monotonic(), clock.now_ms())  # noqa: E731
        task = asyncio.create_task(shard.answer(request, decide))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    async def join(self, group: str = GROUP) -> asyncio.Task[JoinGroupResponse]:
        """Of a member that waits for others."""
        shard, clock = await self.loaded(), self.broker.clock
        request = JoinGroupRequest(group, 10_000, 10_000, "", "place-1", "consumer", (JoinProtocol("range", b""),))

        def decide(waiter: object) -> Outcome:
            return shard.state.answer_classic(request, waiter, "m", clock.monotonic(), clock.now_ms())

        task = asyncio.create_task(shard.answer(request, decide))
        await asyncio.sleep(0)
        assert not task.done()
        return task

    async def fetch(self) -> asyncio.Task:
        shard = await self.loaded()
        request = OffsetFetchRequest(GROUP, (OffsetPartition("t", 0),))
        task = asyncio.create_task(shard.answer(request, lambda waiter: shard.state.fetch(request, waiter)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task


@pytest.fixture
async def here():
    quorum = SmallQuorum(A, B, C)
    quorum.create("t", TOPIC, A, B, C)
    quorum.create(INTERNAL_TOPIC, GROUPS, A, B, C)
    broker = OneBroker(quorum)
    await broker.start()
    coordinating = Coordinating(quorum, broker)
    await coordinating.see()
    coordinating.followers_fetch()
    yield coordinating
    await coordinating.coordinator.stop()


async def test_an_answer_leaves_only_when_it_is_committed(here: Coordinating) -> None:
    task = await here.commit(5)
    reading = await here.fetch()
    assert not task.done()
    assert not reading.done(), "what is not committed may be lost, and must not be shown"
    here.followers_fetch()
    assert (await task).error is ErrorCode.NONE
    assert (await reading).partitions[0].offset == 5


async def test_a_deposed_coordinator_acknowledges_nothing(here: Coordinating) -> None:
    task = await here.commit(5)
    here.quorum.decide(FenceBroker(A, here.quorum.epochs[A]))
    await here.see()
    assert (await task).error is ErrorCode.NOT_COORDINATOR
    with pytest.raises(GroupRefused) as refused:
        here.coordinator.shard_of(GROUP)
    assert refused.value.error is ErrorCode.NOT_COORDINATOR


async def test_what_was_decided_is_gone_where_the_log_takes_nothing(here: Coordinating) -> None:
    here.quorum.alter_isr(GROUPS, A)
    await here.see()
    task = await here.commit(5)
    assert (await task).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert here.replica.log.log_end_offset == 0
    assert (await (await here.fetch())).partitions[0].offset is None


async def test_a_new_coordinator_reads_what_the_old_one_wrote_deletions_too(here: Coordinating) -> None:
    for offset in range(1, 4):
        task = await here.commit(offset)
        here.followers_fetch()
        await task
    fresh = Coordinating(here.quorum, here.broker)
    assert (await (await fresh.fetch())).partitions[0].offset == 3
    shard = await fresh.loaded()
    delete = OffsetDeleteRequest(GROUP, (OffsetPartition("t", 0),))
    task = asyncio.create_task(shard.answer(delete, lambda waiter: shard.state.delete_offsets(delete, waiter)))
    await asyncio.sleep(0)
    here.followers_fetch()
    assert (await task).error is ErrorCode.NONE
    fresher = Coordinating(here.quorum, here.broker)
    assert (await (await fresher.fetch())).partitions[0].offset is None
    for each in (fresh, fresher):
        await each.coordinator.stop()


async def test_what_a_new_coordinator_read_is_told_only_once_it_is_committed(here: Coordinating) -> None:
    await here.commit(5)
    fresh = Coordinating(here.quorum, here.broker)
    reading = await fresh.fetch()
    assert not reading.done(), "the old one wrote it, and it may still be lost"
    here.followers_fetch()
    assert (await reading).partitions[0].offset == 5
    await fresh.coordinator.stop()


async def test_a_group_that_is_being_read_is_not_answered_yet(here: Coordinating) -> None:
    task = await here.commit(9)
    here.followers_fetch()
    await task
    here.broker.executor.free.clear()
    fresh = Coordinating(here.quorum, here.broker)
    with pytest.raises(GroupRefused) as refused:
        fresh.coordinator.shard_of(GROUP)
    assert refused.value.error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    await here.broker.release()
    assert (await (await fresh.fetch())).partitions[0].offset == 9
    await fresh.coordinator.stop()


async def test_groups_that_could_not_be_read_are_read_again(
    here: Coordinating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason is: groups that nobody coordinates stand still."""
    task = await here.commit(9)
    here.followers_fetch()
    await task
    fresh, replay, tries = Coordinating(here.quorum, here.broker), Shard.replay, 0

    def stumbles(shard: Shard, record: GroupRecord, written_ms: int) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise KeyError("a record that this release does not understand")
        replay(shard, record, written_ms)

    monkeypatch.setattr(Shard, "replay", stumbles)
    monkeypatch.setattr(coordinator, "LOOK_S", 0.0)
    async with asyncio.timeout(30):
        assert (await (await fresh.fetch())).partitions[0].offset == 9
    await fresh.coordinator.stop()


async def test_a_commit_that_nobody_follows_is_given_up(here: Coordinating) -> None:
    shard = await here.loaded()
    shard._commit_timeout_s = 0.0
    assert (await (await here.commit(5))).error is ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert len(here.replica._acks) == 0


async def test_groups_have_names(here: Coordinating) -> None:
    with pytest.raises(GroupRefused) as refused:
        here.coordinator.shard_of("")
    assert refused.value.error is ErrorCode.INVALID_GROUP_ID
    assert partition_of(GROUP, 1) == 0


async def test_a_member_that_waits_alone_is_let_in_when_its_time_comes(here: Coordinating) -> None:
    """No other request comes by that would look at the deadlines."""
    joining = await here.join()
    here.broker.clock.seconds += GroupLimits().initial_delay_s
    while not joining.done():
        here.followers_fetch()
        await asyncio.sleep(0.01)
    assert (await joining).error is ErrorCode.NONE


async def test_a_coordinator_that_finishes_sends_on_who_waits_and_answers_what_it_wrote(here: Coordinating) -> None:
    joining = await here.join("another")
    committing = await here.commit(5)
    here.coordinator.finish()
    assert (await asyncio.wait_for(joining, 10)).error is ErrorCode.NOT_COORDINATOR
    assert not committing.done()
    here.followers_fetch()
    assert (await committing).error is ErrorCode.NONE
    with pytest.raises(GroupRefused) as refused:
        here.coordinator.shard_of(GROUP)
    assert refused.value.error is ErrorCode.NOT_COORDINATOR


async def test_who_waits_for_others_hears_that_the_coordinator_is_another_now(here: Coordinating) -> None:
    joining = await here.join()
    here.quorum.decide(FenceBroker(A, here.quorum.epochs[A]))
    await here.see()
    assert (await asyncio.wait_for(joining, 10)).error is ErrorCode.NOT_COORDINATOR


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (None, ErrorCode.NONE),
        (ControllerUnavailable("none"), ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (TimeoutError(), ErrorCode.COORDINATOR_NOT_AVAILABLE),
    ],
)
async def test_offsets_are_told_by_who_knows_that_it_still_is_the_coordinator(
    here: Coordinating, problem: Exception | None, error: ErrorCode
) -> None:
    asked: list[float] = []

    async def barrier(timeout_s: float) -> int:
        asked.append(timeout_s)
        if problem is not None:
            raise problem
        return 7

    async def wait_applied(index: int, timeout_s: float) -> None:
        asked.append(index)

    await here.loaded()
    groups = GroupsApi(
        manager=here.broker.manager, coordinator=here.coordinator, barrier=barrier, wait_applied=wait_applied
    )
    response = await groups.answer(OffsetFetchRequest(GROUP, ()))
    assert isinstance(response, OffsetFetchResponse)
    assert (response.error, asked[1:]) == (error, [7] if problem is None else [])


@pytest.mark.parametrize(
    ("append", "told"),
    [
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_COMMIT_OFFSET_SIZE),
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
    ],
)
def test_an_append_that_is_refused_means_to_a_groups_client(append: ErrorCode, told: ErrorCode) -> None:
    assert coordinator_error(append) is told
