"""The controller on a fake clock: sessions, fencing, coming back, probes, pauses and requests."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum

import pytest

from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId
from ottla.raft.commands import (
    AllocateProducerIds,
    Command,
    DrainBroker,
    FenceBroker,
    RegisterBroker,
    UnfenceBroker,
    decode_command,
    encode_command,
)
from ottla.raft.controller import Controller, ControllerSettings, Heartbeat, HeartbeatAnswer, SubmitOutcome
from ottla.raft.digests import ImageDigest
from ottla.raft.proposals import QuorumUnavailable
from ottla.raft.results import ProducerIdBlock, Registered, decode_result
from ottla.raft.state_machine import MetadataStateMachine

SETTINGS = ControllerSettings()
STEP_S = 0.2


class Outcome(Enum):
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass
class Proposal:
    outcome: Outcome
    index: int | None = None
    result: bytes | None = None
    reason: str = ""


@dataclass
class FakeTime:
    """A clock that moves only when told to, and the sleepers that wait on it."""

    now: float = 100.0
    sleepers: list[tuple[float, asyncio.Future[None]]] = field(default_factory=list)

    def now_ms(self) -> int:
        return int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self.sleepers.append((self.now + seconds, future))
        await future

    def wake_due(self) -> None:
        due = [sleeper for sleeper in self.sleepers if sleeper[0] <= self.now + 1e-9]
        self.sleepers = [sleeper for sleeper in self.sleepers if sleeper not in due]
        for _, future in due:
            if not future.done():
                future.set_result(None)


class FakeQuorum:
    """Applies what is proposed at once, or fails as told."""

    def __init__(self, machine: MetadataStateMachine) -> None:
        self.machine = machine
        self.is_active = True
        self.leader_id: int | None = 1
        self.term = 1
        self.applied_index = 0
        self.listeners: list[Callable[[], None]] = []
        self.outcomes: list[Outcome] = []  # of the next proposals; OK when empty
        self.proposed: list[Command] = []
        self.gate = asyncio.Event()  # cleared: proposals wait
        self.gate.set()

    @property
    def commit_index(self) -> int:
        return self.applied_index

    def add_listener(self, callback: Callable[[], None]) -> None:
        self.listeners.append(callback)

    def apply(self, data: bytes) -> bytes:
        self.applied_index += 1
        return self.machine.apply(self.applied_index, self.term, data)

    async def read_barrier(self, timeout_s: float) -> int:
        if self.outcomes:
            raise QuorumUnavailable
        return self.applied_index

    async def propose(self, command: bytes, timeout_s: float) -> Proposal:
        self.proposed.append(decode_command(command))
        await asyncio.sleep(0)
        await self.gate.wait()
        outcome = self.outcomes.pop(0) if self.outcomes else Outcome.OK
        if outcome is Outcome.FAILED:
            return Proposal(outcome, reason="QUEUE")
        result = self.apply(command)
        if outcome is Outcome.UNKNOWN:
            return Proposal(outcome, reason="TIMEOUT")
        return Proposal(outcome, self.applied_index, result)

    def become(self, *, active: bool, term: int) -> None:
        self.is_active, self.term = active, term
        for listener in self.listeners:
            listener()


class World:
    def __init__(self) -> None:
        self.time = FakeTime()
        self.machine = MetadataStateMachine()
        self.quorum = FakeQuorum(self.machine)
        self.open_ports = {1, 2, 3}
        self.probed: list[int] = []
        self.controller = Controller(
            quorum=self.quorum,
            machine=self.machine,
            clock=self.time,
            settings=SETTINGS,
            probe=self.probe,
            voters=3,
            sleep=self.time.sleep,
        )

    async def probe(self, host: str, port: int) -> bool:
        self.probed.append(port)
        await asyncio.sleep(0)
        return port in self.open_ports

    def register(self, *brokers: int) -> None:
        for number in brokers:
            body = RegisterBroker(
                BrokerId(number), f"i{self.quorum.applied_index}", DirectoryId("d"), "h", number, None, False
            )
            self.quorum.apply(encode_command(Command(0, None, body)))

    def unfence(self, *brokers: int) -> None:
        for number in brokers:
            self.quorum.apply(encode_command(Command(0, None, UnfenceBroker(BrokerId(number), self.epoch(number)))))

    def epoch(self, broker: int) -> BrokerEpoch:
        return self.machine.image.brokers[BrokerId(broker)].broker_epoch

    def beat(self, broker: int, applied: int | None = None) -> HeartbeatAnswer:
        index = self.quorum.applied_index if applied is None else applied
        return self.controller.heartbeat(Heartbeat(BrokerId(broker), self.epoch(broker), index))

    def fenced(self) -> set[int]:
        return {number for number, broker in self.machine.image.brokers.items() if broker.fenced}

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float, *beating: int) -> None:
        """Time goes by in steps of ``STEP_S``; these brokers beat in each."""
        until = self.time.now + seconds
        while self.time.now < until - 1e-9:
            self.time.now += min(STEP_S, until - self.time.now)
            for broker in beating:
                self.beat(broker)
            self.time.wake_due()
            await self.settle()

    def proposals(self, kind: type) -> int:
        return sum(isinstance(command.body, kind) for command in self.quorum.proposed)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    world.register(1, 2, 3)
    world.unfence(1, 2, 3)
    for broker in (1, 2, 3):
        world.controller.stream_opened(BrokerId(broker), world.epoch(broker))
    running = asyncio.create_task(world.controller.run())
    await world.settle()
    yield world
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()


async def test_a_silent_broker_is_fenced_after_its_session_and_no_other(world: World) -> None:
    await world.pass_time(2.8, 1, 2)
    assert world.fenced() == set()
    await world.pass_time(0.4, 1, 2)
    assert world.fenced() == {3}
    await world.pass_time(2.0, 1, 2)
    assert world.proposals(FenceBroker) == 1


async def test_a_hung_broker_comes_back_once_it_has_seen_its_fencing(world: World) -> None:
    await world.pass_time(3.4, 1, 2)
    behind = world.beat(3, applied=world.machine.image.brokers[BrokerId(3)].fenced_index - 1)
    assert behind.fenced
    assert not behind.stale
    await world.settle()
    assert world.fenced() == {3}
    world.beat(3)
    await world.settle()
    assert world.fenced() == set()
    await world.pass_time(2.0, 1, 2, 3)
    assert world.proposals(UnfenceBroker) == 1


async def test_a_draining_broker_is_never_unfenced(world: World) -> None:
    await world.controller.submit(Command(0, None, DrainBroker(BrokerId(3), world.epoch(3))))
    assert world.beat(3).draining
    await world.pass_time(3.4, 1, 2)
    world.beat(3)
    await world.settle()
    assert world.fenced() == {3}
    assert world.proposals(UnfenceBroker) == 0


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.UNKNOWN])
async def test_fencing_is_retried_until_it_is_done(world: World, outcome: Outcome) -> None:
    world.quorum.outcomes = [outcome] * 3
    await world.pass_time(4.4, 1, 2)
    assert world.fenced() == {3}
    assert world.proposals(FenceBroker) == (4 if outcome is Outcome.FAILED else 1)


async def test_heartbeats_bring_passes_about_and_no_timer_is_needed(world: World) -> None:
    for _ in range(17):
        world.time.now += STEP_S  # and nothing that sleeps wakes
        for broker in (1, 2):
            world.beat(broker)
        await world.settle()
    assert world.fenced() == {3}
    assert len(world.time.sleepers) <= 1 + sum(future.done() for _, future in world.time.sleepers)


async def test_without_heartbeats_a_timer_does(world: World) -> None:
    for _ in range(12):
        world.time.now += SETTINGS.lull_s
        world.time.wake_due()
        await world.settle()
    assert world.fenced() == {1, 2, 3}


async def test_a_proposal_on_its_way_is_not_made_twice(world: World) -> None:
    world.quorum.gate.clear()
    await world.pass_time(5.0, 1, 2)
    assert world.proposals(FenceBroker) == 1
    world.quorum.gate.set()
    await world.settle()
    assert world.fenced() == {3}


async def test_a_broker_heard_again_before_fencing_succeeds_is_spared(world: World) -> None:
    world.quorum.outcomes = [Outcome.FAILED]
    await world.pass_time(3.0, 1, 2)
    assert world.proposals(FenceBroker) == 1
    await world.pass_time(2.0, 1, 2, 3)
    assert world.fenced() == set()


async def test_a_dead_process_is_fenced_at_once(world: World) -> None:
    world.open_ports.discard(3)
    world.controller.stream_closed(BrokerId(3), world.epoch(3))
    await world.settle()
    assert world.fenced() == {3}
    assert world.probed == [3]


async def test_a_lost_stream_to_a_living_port_is_left_to_the_session(world: World) -> None:
    world.controller.stream_closed(BrokerId(3), world.epoch(3))
    await world.settle()
    assert world.fenced() == set()
    await world.pass_time(1.0, 1, 2, 3)
    assert world.fenced() == set()
    world.open_ports.discard(3)  # it dies a little later
    await world.pass_time(SETTINGS.probe_interval_s + STEP_S, 1, 2)
    assert world.fenced() == {3}


async def test_a_stream_opened_while_we_probe_saves_its_broker(world: World) -> None:
    world.open_ports.discard(3)
    world.controller.stream_closed(BrokerId(3), world.epoch(3))
    await asyncio.sleep(0)
    world.controller.stream_opened(BrokerId(3), world.epoch(3))
    await world.settle()
    assert world.fenced() == set()


async def test_one_of_two_streams_closing_proves_nothing(world: World) -> None:
    world.open_ports.discard(3)
    world.controller.stream_opened(BrokerId(3), world.epoch(3))
    world.controller.stream_closed(BrokerId(3), world.epoch(3))
    await world.settle()
    assert world.probed == []


async def test_a_new_controller_gives_full_sessions_and_probes_who_has_no_stream(world: World) -> None:
    world.quorum.become(active=False, term=2)
    await world.pass_time(60.0)
    assert world.quorum.proposed == []
    world.controller.stream_closed(BrokerId(2), world.epoch(2))
    world.controller.stream_closed(BrokerId(3), world.epoch(3))
    world.open_ports.discard(2)
    world.quorum.become(active=True, term=3)
    await world.settle()
    assert world.fenced() == {2}
    await world.pass_time(2.8)
    assert world.fenced() == {2}
    await world.pass_time(0.4)
    assert world.fenced() == {1, 2, 3}


async def test_our_own_pause_fences_nobody(world: World) -> None:
    await world.pass_time(1.0, 1, 2, 3)
    world.time.now += 10.0  # the whole process stood still; heartbeats wait unread in the sockets
    world.time.wake_due()
    await world.settle()
    assert world.fenced() == set()
    await world.pass_time(2.0, 1, 2)
    assert world.fenced() == set()
    await world.pass_time(1.4, 1, 2)
    assert world.fenced() == {3}


async def test_an_old_incarnation_renews_nothing(world: World) -> None:
    old = world.epoch(3)
    world.register(3)
    answer = world.controller.heartbeat(Heartbeat(BrokerId(3), old, 10**6))
    assert answer.stale
    assert answer.fenced
    unknown = world.controller.heartbeat(Heartbeat(BrokerId(9), BrokerEpoch(1), 0))
    assert unknown.stale
    await world.settle()
    assert world.fenced() == {3}
    assert world.proposals(UnfenceBroker) == 0
    world.beat(3)
    await world.settle()
    assert world.fenced() == set()


async def test_elsewhere_it_points_to_the_leader(world: World) -> None:
    world.quorum.become(active=False, term=2)
    world.quorum.leader_id = 2
    answer = world.beat(1)
    assert (answer.active, answer.leader_id) == (False, 2)
    submitted = await world.controller.submit(Command(0, None, AllocateProducerIds(1)))
    assert (submitted.outcome, submitted.leader_id) == (SubmitOutcome.NOT_CONTROLLER, 2)


async def test_submit_stamps_our_time_and_returns_the_result(world: World) -> None:
    submitted = await world.controller.submit(Command(0, None, AllocateProducerIds(7)))
    assert submitted.outcome is SubmitOutcome.OK
    assert submitted.result is not None
    assert decode_result(submitted.result) == ProducerIdBlock(0, 7)
    assert submitted.index == world.quorum.applied_index
    assert world.quorum.proposed[-1].proposed_at_ms == world.time.now_ms()


async def test_submit_tells_failed_from_unknown(world: World) -> None:
    world.quorum.outcomes = [Outcome.FAILED, Outcome.UNKNOWN]
    failed = await world.controller.submit(Command(0, None, AllocateProducerIds(7)))
    unknown = await world.controller.submit(Command(0, None, AllocateProducerIds(7)))
    assert (failed.outcome, failed.reason) == (SubmitOutcome.FAILED, "QUEUE")
    assert (unknown.outcome, unknown.result) == (SubmitOutcome.UNKNOWN, None)


async def test_a_registered_broker_is_unfenced_by_its_first_full_heartbeat() -> None:
    world = World()
    running = asyncio.create_task(world.controller.run())
    body = RegisterBroker(BrokerId(1), "i", DirectoryId("d"), "h", 1, None, False)
    submitted = await world.controller.submit(Command(0, None, body))
    assert submitted.result is not None
    assert decode_result(submitted.result) == Registered(BrokerEpoch(1))
    assert world.beat(1, applied=0).fenced
    await world.settle()
    assert world.fenced() == {1}
    world.beat(1, applied=1)
    await world.settle()
    assert world.fenced() == set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_probe_that_breaks_condemns_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(host: str, port: int) -> bool:
        raise OSError("no route")

    world.controller._probe = broken
    world.controller.stream_closed(BrokerId(3), world.epoch(3))
    await world.pass_time(1.0, 1, 2, 3)
    assert world.fenced() == set()
    assert "broker 3" in caplog.text


async def test_a_broker_whose_metadata_differs_from_the_majority_is_told(world: World) -> None:
    def beat(broker: int, digest: bytes) -> HeartbeatAnswer:
        report = Heartbeat(BrokerId(broker), world.epoch(broker), 0, ImageDigest(1000, digest))
        return world.controller.heartbeat(report)

    assert not beat(1, b"x").diverged
    assert not beat(2, b"y").diverged
    assert not beat(3, b"x").diverged
    assert beat(2, b"y").diverged
    assert not beat(1, b"x").diverged


async def test_what_is_current_only_the_active_leader_says(world: World) -> None:
    assert await world.controller.barrier() == world.quorum.applied_index
    world.quorum.outcomes.append(Outcome.FAILED)
    assert await world.controller.barrier() is None, "a majority did not answer"
    world.quorum.outcomes.clear()
    world.quorum.is_active = False
    assert await world.controller.barrier() is None
