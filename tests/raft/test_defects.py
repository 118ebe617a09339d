"""Each defect of PySyncObj that loses data or availability: the stock class fails, ours holds."""

from pathlib import Path
from typing import Any

import pysyncobj.pickle
import pysyncobj.syncobj
import pytest
from pysyncobj.journal import Journal

from ottla.raft.codec import (
    AppendEntries,
    Message,
    NextIndex,
    PreVote,
    RequestVote,
    ResponsePreVote,
    ResponseVote,
)
from ottla.raft.engine import SafeSyncObj
from ottla.raft.pysyncobj_core import APPLIED_PER_TICK, Applied, RaftInvariantBroken
from ottla.raft.pysyncobj_pin import PINNED_VERSION, PickleForbidden, PySyncObjChanged, check_pin
from ottla.raft.replication import Progress

from .cluster import Voter, World
from .stock import Stock

X, Y = b"\0x", b"\0y"


class Lonely(World):
    """One voter of several; the others are whoever the test plays."""

    def __init__(self, size: int) -> None:
        super().__init__(1, size)
        self.one: Voter = self.voters[1]
        self.sent: list[tuple[int, Message]] = []
        transport: Any = self.one.core._barrier
        self.mesh()
        transport.deliver = lambda node, message: self.sent.append((node.id, message)) or True

    def hear(self, sender: int, message: Message) -> None:
        self.one.core.receive(sender, message)

    def sync(self) -> None:
        self.one.begin_sync()
        self.one.finish_sync()

    def lead(self) -> None:
        """Win an election by everybody's vote."""
        core = self.one.core
        self.now += 2
        self.one.tick()
        for other in self.ids[1:]:
            self.hear(other, ResponsePreVote(core.term + 1, True))
        self.sync()
        for other in self.ids[1:]:
            self.hear(other, ResponseVote(core.term))
        self.one.tick()
        assert core.is_leader

    def heard(self, kind: type) -> list[Any]:
        """What was sent of this kind since last asked."""
        found = [message for _, message in self.sent if isinstance(message, kind)]
        self.sent.clear()
        return found


def test_d1_a_late_repetition_truncates_nothing() -> None:
    stock = Stock(3)
    first = {"type": "append_entries", "term": 1, "commit_index": 1, "prevLogIdx": 1, "prevLogTerm": 0}
    stock.hear(2, **first, entries=[(X, 2, 1), (Y, 3, 1)])
    stock.hear(2, **first, entries=[(X, 2, 1)])
    assert stock.log_length == 2  # entry 3 was acknowledged and is gone

    world = Lonely(3)
    world.hear(2, AppendEntries(1, 1, 1, 0, ((X, 2, 1), (Y, 3, 1))))
    world.hear(2, AppendEntries(1, 1, 1, 0, ((X, 2, 1),)))
    world.hear(2, AppendEntries(1, 1, 1, 0))
    assert world.one.wal.last_index == 3


def test_d1_a_contradiction_truncates_and_only_a_verified_prefix_commits() -> None:
    world = Lonely(3)
    world.hear(2, AppendEntries(1, 1, 1, 0, ((X, 2, 1), (X, 3, 1))))
    world.hear(3, AppendEntries(2, 3, 1, 0))  # the new leader's log is longer, and nothing here was compared
    assert world.one.core.commit_index == 1
    world.hear(3, AppendEntries(2, 3, 1, 0, ((Y, 2, 2),)))
    assert [entry[0] for entry in world.one.wal[1:]] == [Y]
    assert world.one.core.commit_index == 2
    with pytest.raises(RaftInvariantBroken):
        world.hear(3, AppendEntries(2, 3, 1, 0, ((X, 2, 1),)))


def test_d2_nothing_is_promised_before_it_is_durable() -> None:
    world = Lonely(3)
    world.hear(2, RequestVote(5, 1, 0, False))
    assert world.heard(ResponseVote) == []
    world.sync()
    assert world.heard(ResponseVote) == [ResponseVote(5)]

    world.hear(2, AppendEntries(5, 1, 1, 0, ((X, 2, 5),)))
    alive = NextIndex(5, 1, success=False, reset=False)
    assert world.heard(NextIndex) == [alive]  # a slow disk is no dead node
    world.sync()
    assert world.heard(NextIndex) == [NextIndex(5, 3, success=True, reset=False)]


def test_d2_a_promise_of_an_older_term_is_not_kept_after_its_entry_was_replaced() -> None:
    world = Lonely(3)
    world.hear(2, AppendEntries(1, 1, 1, 0, ((X, 2, 1),)))
    world.hear(3, AppendEntries(2, 1, 1, 0, ((Y, 2, 2),)))
    world.sent.clear()
    world.sync()
    assert [message.term for message in world.heard(NextIndex)] == [2]


def test_d2_a_candidate_and_a_leader_count_themselves_once_durable() -> None:
    world = Lonely(3)
    core = world.one.core
    world.now += 2
    world.one.tick()
    world.hear(2, ResponsePreVote(1, True))
    world.hear(2, ResponseVote(1))
    world.one.tick()
    assert not core.is_leader
    assert world.heard(RequestVote) == []
    world.sync()
    world.one.tick()
    assert core.is_leader
    assert world.heard(RequestVote) == [RequestVote(1, 1, 0, False)] * 2

    five = Lonely(5)
    five.lead()
    five.hear(2, NextIndex(1, 3, success=True, reset=False))
    five.hear(3, NextIndex(1, 3, success=True, reset=False))
    five.one.tick()
    assert five.one.core.commit_index == 1
    five.sync()
    five.one.tick()
    assert five.one.core.commit_index == 2


def test_d4_an_answer_to_an_earlier_leadership_commits_nothing() -> None:
    stock = Stock(3)
    stock.campaign()
    stock.hear(2, type="response_vote", term=1)
    stock._applyCommand(b"x", None, 0)
    stock.doTick(0)
    stock.hear(3, type="next_node_idx", next_node_idx=4, reset=False, success=True)  # sent in another term
    stock.doTick(0)
    assert stock.applied == [b"x"]

    world = Lonely(3)
    world.lead()
    world.one.core._step_down(7, world.now)
    world.lead()
    world.one.propose(b"x")
    world.one.tick()
    world.sync()
    for term in (1, 7):
        world.hear(3, NextIndex(term, 5, success=True, reset=False))
        world.one.tick()
    assert world.one.applied == []
    world.hear(3, NextIndex(world.one.core.term, 5, success=True, reset=False))
    world.one.tick()
    assert world.one.applied == [b"x"]


def test_d5_a_voter_has_one_vote() -> None:
    stock = Stock(5)
    stock.campaign()
    stock.hear(2, type="response_vote", term=1)
    stock.hear(2, type="response_vote", term=1)
    assert stock._isLeader()

    world = Lonely(5)
    world.now += 2
    world.one.tick()
    for voter in (2, 2, 3):
        world.hear(voter, ResponsePreVote(1, True))
    world.sync()
    for _ in range(3):
        world.hear(2, ResponseVote(1))
    world.one.tick()
    assert not world.one.core.is_leader
    world.hear(3, ResponseVote(1))
    world.one.tick()
    assert world.one.core.is_leader


def test_d5_one_vote_is_given_per_term_also_after_a_restart() -> None:
    world = Lonely(3)
    world.hear(2, RequestVote(5, 1, 0, False))
    world.sync()
    world.sent.clear()
    world.hear(3, RequestVote(5, 1, 0, False))
    world.sync()
    assert world.heard(ResponseVote) == []
    world.crash(1, power=True)
    one = world.start(1)
    one.core.receive(3, RequestVote(5, 1, 0, False))
    assert (one.core.term, one.wal.getVotedForNodeId()) == (5, 2)


def test_d7_the_commit_index_is_not_remembered() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    leader.propose(b"x")
    world.run(0.5)
    assert leader.core.commit_index > 1
    world.crash(leader.id, power=False)
    assert world.start(leader.id).core.commit_index == 1


def test_d8_a_command_runs_once_whatever_raises() -> None:
    def fail(*_: object) -> None:
        raise ValueError

    stock = Stock(1)
    stock._applyCommand(b"x", fail, 0)
    for _ in range(4):
        try:
            stock.doTick(0)
        except ValueError:
            continue
        stock.campaign() if not stock._isLeader() else None
    assert stock.applied.count(b"x") > 1

    world = World(1, 1)
    one = world.run_to_leader()
    outcomes: list[Applied] = []
    one.core.propose(b"x", fail)
    one.core.propose(b"y", outcomes.append)
    world.run(0.1)
    assert one.applied == [b"x", b"y"]
    one.core._apply = fail  # type: ignore[assignment]
    one.core.propose(b"z", outcomes.append)
    world.run(0.1)
    assert [outcome.raised for outcome in outcomes] == [None, "ValueError()"]
    assert one.core.applied_index == one.wal.last_index


def test_d9_a_follower_forwards_nothing() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    world.run(0.3)
    follower = next(voter for voter in world.voters.values() if voter is not leader)
    follower.propose(b"x")
    world.run(0.3)
    assert world.failed == [b"x"]
    assert world.canon == []


def test_d10_no_pickle_is_ever_read_or_written() -> None:
    for function in (pysyncobj.pickle.loads, pysyncobj.pickle.dumps, pysyncobj.pickle.load, pysyncobj.pickle.dump):
        with pytest.raises(PickleForbidden):
            function(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(PickleForbidden):
        World(1, 1).voters[1].core.setCodeVersion(0)


def test_d12_a_leader_that_is_not_heard_leads_no_longer() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    world.isolate(leader.id)
    world.run(1.3)
    assert not leader.core.is_leader
    assert world.run_to_leader() is not leader


def test_d13_a_long_contradiction_is_repaired_while_the_log_grows() -> None:
    world = World(1, 3)
    old = world.run_to_leader()
    world.run(0.3)
    world.isolate(old.id)
    for number in range(300):
        old.propose(b"old %d" % number + bytes(1000))
    world.run(0.5)
    leader = next(voter for voter in world.voters.values() if voter is not old)
    for _ in range(2):
        leader = world.run_to_leader()
        for number in range(400):
            leader.propose(b"new %d %d" % (world.random.randrange(1 << 30), number) + bytes(1000))
        world.run(0.5)
    assert leader is not old
    world.mesh()
    for number in range(100):
        leader.propose(b"after %d" % number)
        world.run(0.01)
    world.run(2)
    assert old.core.applied_index == leader.wal.last_index
    world.check_converged()


def test_d14_a_node_that_was_cut_off_deposes_nobody() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    world.run(0.3)
    term = leader.core.term
    away = next(voter for voter in world.voters.values() if voter is not leader)
    world.isolate(away.id)
    world.run(20)
    world.mesh()
    world.run(3)
    assert leader.core.is_leader
    assert {voter.core.term for voter in world.voters.values()} == {term}


def test_d14_a_node_with_a_higher_term_is_not_left_behind() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    away = next(voter for voter in world.voters.values() if voter is not leader)
    world.isolate(away.id)
    away.core._SyncObj__setCurrentTerm(50, None)
    world.run(1)
    world.mesh()
    world.run(5)
    world.check_converged()
    assert world.run_to_leader().core.term > 50


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


def test_a_message_of_a_stranger_changes_nothing() -> None:
    world = Lonely(3)
    world.hear(9, RequestVote(9, 9, 9, True))
    assert world.one.core.term == 0


def test_another_pysyncobj_is_refused() -> None:
    source = Path(pysyncobj.syncobj.__file__).read_bytes()
    check_pin(PINNED_VERSION, source)
    for version, content in ((PINNED_VERSION, source + b"\n"), ("0.3.18", source)):
        with pytest.raises(PySyncObjChanged, match="OTTLA-PYSYNCOBJ-CHANGED"):
            check_pin(version, content)


def test_every_override_names_a_method_that_exists() -> None:
    own = [name for kind in SafeSyncObj.__mro__[:-2] for name in vars(kind) if name.startswith("_SyncObj__")]
    assert own
    for name in own:
        assert hasattr(pysyncobj.syncobj.SyncObj, name), name


def test_the_journal_is_ours_and_stock_ones_still_work() -> None:
    world = World(1, 1)
    assert world.voters[1].core._SyncObj__raftLog is world.voters[1].wal
    assert isinstance(pysyncobj.syncobj.createJournal(None), Journal)


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
