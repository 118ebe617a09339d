"""One voter and a few together: what the engine does that is no defect of PySyncObj's."""

import pysyncobj.syncobj
import pytest

from ottla.raft.codec import AppendEntries, NextIndex, PreVote, RequestVote, ResponsePreVote, ResponseVote
from ottla.raft.pysyncobj_core import APPLIED_PER_TICK, RaftInvariantBroken
from ottla.raft.replication import Progress

from .cluster import World
from .lonely import Lonely

X = b"\0x"


@pytest.mark.parametrize("who", ["leader", "followers"])
def test_a_disk_that_hangs_for_two_seconds_costs_no_election(who: str) -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    world.run(0.5)
    term = leader.core.term
    stalled = [voter for voter in world.voters.values() if (voter is leader) == (who == "leader")]
    for voter in stalled:
        voter.stalled = True
    leader.propose(b"x")
    world.run(2)
    assert (b"x" in world.acked) == (who == "leader")  # two synced followers are a majority
    for voter in stalled:
        voter.stalled = False
    world.run(1)
    assert leader.core.is_leader
    assert leader.core.term == term
    assert world.acked == [b"x"]
    world.check_converged()


def test_a_full_disk_silences_a_follower_and_it_recovers() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    world.run(0.3)
    full = next(voter for voter in world.voters.values() if voter is not leader)
    disk = world.disks[full.id]
    disk.capacity = disk._used(disk._root)
    for number in range(20):
        leader.propose(b"%d" % number + bytes(500))
    world.run(2)
    assert len(world.acked) == 20
    assert full.core.applied_index < leader.core.applied_index
    assert leader.core.is_leader
    disk.capacity = None
    world.run(2)
    world.check_converged()


def test_leadership_is_handed_over_in_one_election() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    world.run(0.3)
    assert leader.core.hand_over()
    world.run(0.2)
    successor = world.leader()
    assert successor is not None
    assert successor is not leader
    assert successor.core.term == leader.core.term


def test_a_restarted_voter_applies_all_again_in_bounded_steps() -> None:
    world = World(1, 1)
    one = world.run_to_leader()
    for number in range(3 * APPLIED_PER_TICK):
        one.propose(b"%d" % number)
    world.run(0.2)
    world.crash(1, power=True)
    one = world.start(1)
    longest = 0
    while one.core.applied_index < one.wal.last_index:
        before = one.core.applied_index
        world.run(0.01)
        longest = max(longest, one.core.applied_index - before)
    assert longest <= APPLIED_PER_TICK
    assert one.applied == world.canon


def test_the_engine_reads_no_clock_and_no_dice_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(1, 3)

    def forbidden(*_: object) -> None:
        raise AssertionError("not through the door")

    monkeypatch.setattr(pysyncobj.syncobj, "monotonicTime", forbidden)
    monkeypatch.setattr(pysyncobj.syncobj.random, "random", forbidden)
    monkeypatch.setattr(pysyncobj.syncobj.time, "sleep", forbidden)
    leader = world.run_to_leader()
    leader.propose(b"x")
    world.run(1)
    world.isolate(leader.id)
    world.run_to_leader()
    world.mesh()
    world.run(2)
    world.check_converged()


def test_two_leaders_in_one_term_stop_the_node() -> None:
    world = Lonely(3)
    world.lead()
    with pytest.raises(RaftInvariantBroken):
        world.hear(2, AppendEntries(world.one.core.term, 1, 1, 0))


def test_an_entry_of_an_older_term_commits_only_under_one_of_this_term() -> None:
    # Raft paper, figure 8.
    world = Lonely(3)
    world.hear(2, AppendEntries(1, 1, 1, 0, ((X, 2, 1),)))
    world.lead()
    world.sync()
    world.hear(3, NextIndex(2, 3, success=True, reset=False))  # both have the old entry, and no more
    world.one.tick()
    assert world.one.core.commit_index == 1
    world.hear(3, NextIndex(2, 4, success=True, reset=False))
    world.one.tick()
    assert world.one.core.commit_index == 3


@pytest.mark.parametrize(
    ("last", "granted"), [((2, 1), False), ((9, 1), False), ((2, 2), False), ((3, 2), True), ((2, 3), True)]
)
def test_a_vote_is_for_a_log_that_is_at_least_as_new(last: tuple[int, int], granted: bool) -> None:
    world = Lonely(3)
    world.hear(2, AppendEntries(2, 1, 1, 0, ((X, 2, 1), (X, 3, 2))))
    world.now += 5
    world.hear(3, PreVote(9, *last))
    assert world.heard(ResponsePreVote) == [ResponsePreVote(9 if granted else 2, granted)] or granted
    world.hear(3, RequestVote(9, *last, True))
    world.sync()
    assert world.heard(ResponseVote) == ([ResponseVote(9)] if granted else [])


def test_what_a_broken_connection_lost_is_sent_again_at_once() -> None:
    world = Lonely(3)
    core = world.one.core
    world.lead()
    world.hear(2, NextIndex(1, 3, success=True, reset=False))
    world.sync()
    world.one.propose(b"x")
    world.one.tick()
    core.connected(2, False)
    core.connected(2, True)
    world.sent.clear()
    world.one.tick()
    again = [message for to, message in world.sent if to == 2 and isinstance(message, AppendEntries)]
    assert [entry[0] for entry in again[0].entries] == [b"\0x"]


def test_a_commit_is_told_without_waiting_for_a_heartbeat() -> None:
    world = Lonely(3)
    world.lead()
    world.sync()
    for other in (2, 3):
        world.hear(other, NextIndex(1, 3, success=True, reset=False))
    world.sent.clear()
    world.one.tick()
    assert [(message.commit_index, message.prev_index) for message in world.heard(AppendEntries)] == [(2, 2)] * 2
    world.one.tick()
    assert world.heard(AppendEntries) == []


def test_a_leader_probes_downwards_and_never_below_what_matches() -> None:
    progress = Progress(10, 0.0)
    progress.rejected(6, 0.0)
    progress.rejected(8, 0.0)  # an answer to an older message
    assert progress.next == 6
    progress.sent(5, 1, 0.0)
    progress.accepted(5, 0.0)
    assert (progress.match, progress.next, progress.probing) == (5, 6, False)
    progress.accepted(3, 0.0)
    assert progress.match == 5
    progress.rejected(2, 0.0)
    assert (progress.next, progress.probing) == (6, True)
    progress.accepted(1, 0.0)  # a mere heartbeat's answer
    assert progress.probing


class Follower(Lonely):
    """A voter that hears of a leader, node 2, in term 5."""

    def __init__(self) -> None:
        super().__init__(3)
        self.beat(entries=((X, 2, 5),))
        self.sync()
        self.sent.clear()

    def beat(
        self, after: float = 0.0, entries: tuple[tuple[bytes, int, int], ...] = (), prev: int = 1
    ) -> list[NextIndex]:
        """What it answers to a message that comes so many heartbeats after the one before."""
        self.now += after * self.one.core._timing.heartbeat_s
        self.hear(2, AppendEntries(5, 1, prev, 0 if prev == 1 else 5, entries))
        return self.heard(NextIndex)


def test_of_the_heartbeats_of_an_idle_leader_every_second_one_is_answered() -> None:
    follower = Follower()
    answers = [len(follower.beat(1.0, prev=2)) for _ in range(8)]
    assert answers in ([1, 0] * 4, [0, 1] * 4)


def test_a_heartbeat_that_comes_late_is_answered() -> None:
    follower = Follower()
    follower.beat(2.0, prev=2)
    assert [len(follower.beat(1.6, prev=2)) for _ in range(4)] == [1] * 4


def test_whatever_is_new_is_answered_at_once() -> None:
    follower = Follower()
    assert follower.beat(2.0, prev=2), "a heartbeat"
    follower.beat(0.1, entries=((X, 3, 5),), prev=2)
    follower.sync()
    assert [answer.next_index for answer in follower.heard(NextIndex)][-1:] == [4], "an entry"
    assert follower.beat(0.1, prev=3), "what waited for the disk was not told when it was said"
    assert not follower.beat(0.1, prev=3)
    assert follower.beat(0.1, entries=((X, 3, 5),), prev=2), "an entry that is here already"
    assert follower.beat(0.1, prev=2)[0].next_index == 3, "another place to have got to"
    assert [answer.reset for answer in follower.beat(0.1, prev=9)] == [True], "a gap"
    assert follower.beat(0.1, prev=2), "after a refusal"


def test_nothing_counts_as_told_before_it_is_durable_nor_when_its_connection_is_lost() -> None:
    follower = Follower()
    follower.beat(2.0, entries=((X, 3, 5),), prev=2)
    assert [answer.success for answer in follower.beat(0.1, prev=3)] == [False], "a sign of life while the disk works"
    follower.sync()
    assert [answer.next_index for answer in follower.heard(NextIndex)] == [4, 4]
    assert follower.beat(0.1, prev=3)
    assert not follower.beat(0.1, prev=3)
    follower.one.core.connected(2, False)
    follower.one.core.connected(2, True)
    assert follower.beat(0.1, prev=3)


def test_silent_heartbeats_cost_an_idle_leader_no_quorum() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    term = leader.core.term
    for _ in range(200):
        world.run(0.1)
        assert leader.core.is_leader
        assert leader.core.term == term
    ages = [world.now - progress.responded_at for progress in leader.core._progress.values()]
    assert max(ages) <= 3 * leader.core._timing.heartbeat_s
