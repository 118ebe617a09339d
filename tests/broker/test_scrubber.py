"""A broker reads its logs again, by itself and when it is told of damage, and gives up what has rotted."""

import asyncio

import pytest

from ottla.broker.reading import read
from ottla.broker.replica_session import ReplicaSession
from ottla.broker.scrubber import SUSPECT_PAUSE_S, Scrubber
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import FetchPartition, ReplicaFetchRequest
from ottla.log.model import LeaderEpoch, Offset, TopicIdPartition
from tests.simulation.crashing_storage import SeededChance

from .small_quorum import TOPIC, A, B, C, OneBroker, SmallQuorum, a_batch

RECORDS_START = 61


class World:
    def __init__(self) -> None:
        quorum = SmallQuorum(A, B, C)
        quorum.create("t", TOPIC, A, B, C)
        self.broker = OneBroker(quorum)
        self.scrubber = Scrubber(
            replicas=self.broker.manager.replicas.values,
            fail=self.broker.manager.fail,
            storage=self.broker.storage,
            clock=self.broker.clock,
            chance=SeededChance(),
            run_blocking=run_inline,
            interval_s=0.001,
        )
        self.broker.manager.suspect = self.scrubber.suspect

    @property
    def replica(self):
        return self.broker.replica()

    def append(self, count: int) -> None:
        for _ in range(count):
            self.replica.append(memoryview(a_batch()), need_all=False)

    def rot(self, position: int) -> None:
        self.broker.storage.rot(self.replica.log.segments[0].path, position, 4)

    @property
    def is_given_up(self) -> bool:
        return TopicIdPartition(TOPIC, 0) in self.broker.manager.offline


async def run_inline(call):
    return call()


@pytest.fixture
async def world():
    world = World()
    await world.broker.start()
    world.append(5)
    yield world
    await world.broker.release()


def asked(offset: int, *, damaged: bool) -> FetchPartition:
    return FetchPartition(TOPIC, 0, offset, LeaderEpoch(0), damaged=damaged)


async def test_a_good_log_stays(world):
    await world.scrubber.scrub()
    assert not world.is_given_up
    assert world.scrubber.scrubbed_bytes == world.replica.log.size_bytes


async def test_what_has_rotted_is_given_up_and_does_not_open_again(world):
    log = world.replica.log
    world.rot(RECORDS_START + 3)
    await world.scrubber.scrub()
    assert world.is_given_up
    assert "condemned" in world.broker.storage.listdir(log.directory)
    assert world.scrubber.found == 1


async def test_a_pass_comes_by_itself(world):
    world.rot(RECORDS_START + 3)
    running = asyncio.create_task(world.scrubber.run())
    async with asyncio.timeout(10):
        while not world.is_given_up:
            await asyncio.sleep(0)
    running.cancel()


async def test_a_log_that_was_cut_meanwhile_is_not_given_up(world):
    log = world.replica.log

    async def cut_meanwhile(call):
        log.truncate_to(Offset(2))
        return call()

    world.scrubber._run_blocking = cut_meanwhile
    await world.scrubber.scrub()
    assert not world.is_given_up


async def test_a_segment_that_was_replaced_meanwhile_is_not_damage(world):
    log, storage = world.replica.log, world.broker.storage
    first = log.segments[0]
    log._segments.roll()
    world.append(1)

    async def replaced_meanwhile(call):
        if first in log.segments:
            log.set_aside_first(1)
            storage.open(first.path.with_suffix(""), create=True).append(b"cleaned")
            storage.replace(first.path.with_suffix(""), log.directory / "00000000000000000000.log")
        return call()

    world.scrubber._run_blocking = replaced_meanwhile
    await world.scrubber.scrub()
    assert not world.is_given_up


@pytest.mark.parametrize("rotten", [True, False])
async def test_a_follower_that_met_damage_has_its_leader_look(world, rotten):
    if rotten:
        world.rot(RECORDS_START + 3)
    session = ReplicaSession(B, world.broker.quorum.epochs[B], world.broker.manager.find, world.broker.clock)
    session.receive(ReplicaFetchRequest(0, 1 << 20, (asked(0, damaged=True),)))
    assert world.scrubber._suspects == {world.replica: 0}
    await world.scrubber.look(world.replica, Offset(0))
    assert world.is_given_up == rotten


async def test_damage_elsewhere_is_not_what_was_met(world):
    session = ReplicaSession(B, world.broker.quorum.epochs[B], world.broker.manager.find, world.broker.clock)
    session.receive(ReplicaFetchRequest(0, 1 << 20, (asked(3, damaged=False),)))
    assert not world.scrubber._suspects


async def test_whoever_suspects_for_ever_costs_a_look_now_and_then(world):
    for _ in range(3):
        read(world.replica, asked(0, damaged=True), 1 << 20)
        assert world.scrubber.suspicions == 1
        world.scrubber._suspects.clear()
        await world.scrubber.look(world.replica, Offset(0))
    world.broker.clock.seconds += SUSPECT_PAUSE_S
    read(world.replica, asked(0, damaged=True), 1 << 20)
    assert world.scrubber.suspicions == 2


@pytest.mark.parametrize("offset", [0, 4, 5, 99])
async def test_any_offset_may_be_suspected(world, offset):
    await world.scrubber.look(world.replica, Offset(offset))
    assert not world.is_given_up


async def test_a_length_that_cannot_be_is_looked_at_by_itself(world):
    world.rot(8)  # the highest byte of the first batch's length
    result, data = read(world.replica, asked(0, damaged=False), 1 << 20)
    assert (result.error, data) == (ErrorCode.NONE, b""), "nothing is committed, so nothing is read"
    leader = world.replica.require_leader()
    leader.high_watermark = world.replica.log.log_end_offset
    result, data = read(world.replica, asked(0, damaged=False), 1 << 20)
    assert result.error is ErrorCode.KAFKA_STORAGE_ERROR
    assert list(world.scrubber._suspects) == [world.replica]
    await world.scrubber.look(world.replica, Offset(0))
    assert world.is_given_up
