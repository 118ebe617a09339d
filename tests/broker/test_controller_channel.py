"""A broker's line to the controller: every command gets one outcome, through lost links and lost leaders."""

import asyncio

import pytest

from ottla.broker import controller_channel
from ottla.broker.controller_channel import ControllerChannel, ControllerUnavailable, LinkLost
from ottla.broker.http.internal import CONTROL_REQUESTS_MAX
from ottla.broker.isr_keeper import IsrKeeper
from ottla.broker.replica_session import ReplicaSession
from ottla.client.protocol import FetchPartition, ReplicaFetchRequest
from ottla.log.model import BrokerEpoch
from ottla.raft.commands import AllocateProducerIds, Command
from ottla.raft.controller_port import SubmitOutcome, Submitted
from ottla.raft.image import RESULT_WINDOW
from ottla.raft.results import Done, Refused, encode_result
from ottla.raft.sessions import Heartbeat, HeartbeatAnswer

from .small_quorum import TOPIC, A, B, C, HandClock, OneBroker, SmallQuorum, a_batch

OK = Submitted(SubmitOutcome.OK, None, 9, encode_result(Done()))
UNKNOWN = Submitted(SubmitOutcome.UNKNOWN, None)
BODY = AllocateProducerIds(1)


class FakeLink:
    """Answers what the test has queued; else waits."""

    def __init__(self, node: int) -> None:
        self.node = node
        self.asked: list[Command] = []
        self.replies: list[Submitted | Exception] = []
        self.gate = asyncio.Event()
        self.answer: HeartbeatAnswer | None = HeartbeatAnswer(True, None, 5, False, False)
        self.beats: list[Heartbeat] = []
        self.closed = asyncio.Event()
        self.barriers: list[int | Exception | None] = []

    async def barrier(self) -> int | None:
        index = self.barriers.pop(0)
        if isinstance(index, Exception):
            raise index
        return index

    async def submit(self, command: Command) -> Submitted:
        self.asked.append(command)
        if not self.replies:
            waiters = [asyncio.ensure_future(self.gate.wait()), asyncio.ensure_future(self.closed.wait())]
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
            for waiter in waiters:
                waiter.cancel()
            if self.closed.is_set():
                raise LinkLost("closed")
            return OK
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        self.beats.append(beat)
        if self.answer is None:
            await self.closed.wait()
            raise LinkLost("closed")
        return self.answer

    def close(self) -> None:
        self.closed.set()


class Controllers:
    def __init__(self) -> None:
        self.leader: int | None = 1
        self.links: list[FakeLink] = []
        self.script: list[Submitted | Exception] = []
        self.barriers: list[int | Exception | None] = []

    async def dial(self, node: int) -> FakeLink:
        link = FakeLink(node)
        link.barriers = self.barriers
        link.replies = self.script
        self.links.append(link)
        return link


@pytest.fixture
def controllers(monkeypatch) -> Controllers:
    monkeypatch.setattr(controller_channel, "RETRY_S", 0)
    return Controllers()


@pytest.fixture
async def channel(controllers):
    channel = ControllerChannel(
        local=A, leader=lambda: controllers.leader, dial=controllers.dial, clock=HandClock(), heartbeat_s=0.005
    )
    channel.registered(BrokerEpoch(3))
    yield channel
    await channel.close()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def sequences(link: FakeLink) -> list[int]:
    return [command.requester.sequence for command in link.asked]


async def test_an_unknown_outcome_is_asked_again_with_the_same_sequence(channel, controllers):
    controllers.script += [UNKNOWN, LinkLost("broke"), Submitted(SubmitOutcome.FAILED, None, reason="QUEUE_FULL"), OK]
    assert await channel.submit(BODY) == (Done(), 9)
    first, second = controllers.links
    assert sequences(first) + sequences(second) == [0, 0, 0, 0]
    assert first.closed.is_set()
    controllers.script.append(OK)
    await channel.submit(BODY)
    assert sequences(second)[-1] == 1


async def test_a_redirect_is_followed_with_the_same_sequence(channel, controllers):
    controllers.script.append(Submitted(SubmitOutcome.NOT_CONTROLLER, 2))
    asking = asyncio.create_task(channel.submit(BODY))
    while not controllers.links or not controllers.links[-1].closed.is_set():
        await asyncio.sleep(0)
    controllers.leader = 2
    controllers.script.append(OK)
    await asking
    assert controllers.links[-1].node == 2
    assert sequences(controllers.links[-1]) == [0]


async def test_what_is_current_only_an_active_controller_says(channel, controllers):
    controllers.barriers += [None, LinkLost("broke"), 7]
    assert await channel.barrier(5) == 7
    assert [link.closed.is_set() for link in controllers.links] == [True, False]
    controllers.leader = None
    with pytest.raises(ControllerUnavailable):
        await channel.barrier(0.01)


async def test_barriers_do_not_crowd_the_control_stream(channel, controllers):
    under_way, most, gate = 0, 0, asyncio.Event()

    class Slow(FakeLink):
        async def barrier(self) -> int | None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await gate.wait()
            under_way -= 1
            return 7

    async def dial(node: int) -> FakeLink:
        return Slow(node)

    channel._dial = dial
    asking = [asyncio.create_task(channel.barrier(60)) for _ in range(CONTROL_REQUESTS_MAX)]
    await turns(20)
    assert most <= CONTROL_REQUESTS_MAX - RESULT_WINDOW, "there is room for every command"
    gate.set()
    assert await asyncio.gather(*asking) == [7] * CONTROL_REQUESTS_MAX


async def test_no_leader_is_waited_for(channel, controllers):
    controllers.leader = None
    asking = asyncio.create_task(channel.submit(BODY))
    await turns()
    assert controllers.links == []
    controllers.leader = 2
    controllers.script.append(OK)
    await asking


async def test_the_window_of_results_is_never_overrun(channel, controllers):
    asking = [asyncio.create_task(channel.submit(BODY)) for _ in range(RESULT_WINDOW + 40)]
    await turns(20)
    (link,) = controllers.links
    assert sorted(sequences(link)) == list(range(RESULT_WINDOW)), "the first is not resolved yet"
    link.gate.set()
    await asyncio.gather(*asking)
    assert sorted(sequences(link)) == list(range(RESULT_WINDOW + 40))


async def test_one_old_sequence_holds_the_window(channel, controllers):
    stuck = asyncio.create_task(channel.submit(BODY))
    await turns()
    controllers.script += [OK] * (RESULT_WINDOW - 1)
    for _ in range(RESULT_WINDOW - 1):
        await channel.submit(BODY)
    controllers.script.append(OK)
    late = asyncio.create_task(channel.submit(BODY))
    await turns()
    assert not late.done()
    assert max(sequences(controllers.links[0])) == RESULT_WINDOW - 1
    controllers.links[0].gate.set()
    await stuck
    await late


async def test_a_callers_time_out_leaves_the_command_running(channel, controllers):
    with pytest.raises(ControllerUnavailable):
        await channel.submit(BODY, timeout_s=0)
    await turns()
    (link,) = controllers.links
    assert channel._unresolved == {0}
    link.gate.set()
    await turns()
    assert channel._unresolved == set()
    assert channel._tasks == set()
    assert channel._limited == set()


async def test_given_up_commands_do_not_pile_up(channel, controllers, monkeypatch):
    monkeypatch.setattr(controller_channel, "COMMANDS_MAX", 3)
    for _ in range(10):
        with pytest.raises(ControllerUnavailable):
            await channel.submit(BODY, timeout_s=0)
    assert len(channel._tasks) == 3
    leaders = asyncio.create_task(channel.submit(BODY))  # what has no time-out is bounded by who asks
    await turns()
    assert len(channel._tasks) == 4
    controllers.links[0].gate.set()
    await leaders


async def test_too_large_is_refused_and_not_tried_again(channel, controllers):
    controllers.script.append(Submitted(SubmitOutcome.FAILED, None, reason="COMMAND_TOO_LARGE"))
    result, _ = await channel.submit(BODY)
    assert isinstance(result, Refused)
    assert result.code == "INVALID_REQUEST"


async def test_a_controller_that_hangs_is_left_well_within_a_session(channel, controllers):
    beating = asyncio.create_task(channel.beat_forever(lambda: 7))
    while not controllers.links or not controllers.links[0].beats:
        await asyncio.sleep(0)
    controllers.links[0].answer = None  # it says nothing more; its socket stays open
    asked = len(controllers.links[0].beats)
    while len(controllers.links[0].beats) == asked:
        await asyncio.sleep(0)
    controllers.leader = 2
    await asyncio.wait_for(controllers.links[0].closed.wait(), 10)
    while len(controllers.links) < 2 or not controllers.links[1].beats:
        await asyncio.sleep(0)
    assert controllers.links[1].node == 2
    assert controllers.links[1].beats[0] == Heartbeat(A, BrokerEpoch(3), 7)
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)


async def test_an_inactive_controller_is_dialled_anew(channel, controllers):
    asking = asyncio.create_task(channel.commit_index())
    assert await asking == 5
    controllers.links[0].answer = HeartbeatAnswer(False, 2, 5, False, False)
    await channel._beat(1)
    assert controllers.links[0].closed.is_set()


class SlowChannel:
    """Holds an ISR change until the test lets go."""

    def __init__(self) -> None:
        self.bodies: list[object] = []
        self.outcome: asyncio.Future = asyncio.get_running_loop().create_future()

    async def submit(self, body, timeout_s=None, *, change_id=None):
        self.bodies.append(body)
        return await asyncio.shield(self.outcome)


async def test_an_isr_change_names_the_epochs_it_was_decided_in():
    """Between the decision and the sending an image may come: the compare-and-set must then fail, not pass."""
    quorum = SmallQuorum(A, B, C)
    quorum.create("t", TOPIC, A, B, C)
    broker = OneBroker(quorum)
    await broker.start()
    sessions = [ReplicaSession(b, quorum.epochs[b], broker.manager.find, broker.clock) for b in (B, C)]
    broker.clock.seconds += 6
    sessions[0].receive(ReplicaFetchRequest(0, 1, (FetchPartition(TOPIC, 0, 0, broker.replica().leader_epoch),)))
    channel = SlowChannel()

    async def applied(index: int) -> None:
        broker.manager.apply_image(quorum.image)

    keeper = IsrKeeper(broker.manager, channel, broker.clock, applied)
    before = broker.replica().leader.isr.partition_epoch
    keeper.check()
    quorum.alter_isr(TOPIC, A, C)  # someone else's change comes first
    broker.manager.apply_image(quorum.image)
    keeper.check()  # one at a time
    await turns()
    (asked,) = channel.bodies
    assert asked.partition_epoch == before
    assert [member for member, _ in asked.new_isr] == [A, B]
    result = quorum.decide(asked, A)
    assert isinstance(result, Refused)
    channel.outcome.set_result((result, quorum.index))
    await turns()
    leader = broker.replica().leader
    assert leader.isr.pending is None
    assert leader.isr.committed == {A, C}


async def test_shrinks_are_counted_as_shrinks_even_if_the_image_comes_first():
    quorum = SmallQuorum(A, B, C)
    quorum.create("t", TOPIC, A, B, C)
    broker = OneBroker(quorum)
    await broker.start()
    broker.replica().append(memoryview(a_batch()), need_all=False)
    broker.clock.seconds += 6

    class AtOnce:
        async def submit(self, body, timeout_s=None, *, change_id=None):
            result = quorum.decide(body, A)
            broker.manager.apply_image(quorum.image)
            return result, quorum.index

    async def applied(index: int) -> None:
        pass

    keeper = IsrKeeper(broker.manager, AtOnce(), broker.clock, applied)
    keeper.check()
    await turns()
    assert (keeper.shrinks, keeper.expands) == (1, 0)
