"""Defects of PySyncObj in who leads and who votes: the stock class fails, ours holds (docs/raft.md has the list)."""

import pytest
from pysyncobj.syncobj import _COMMAND_TYPE

from ottla.raft.codec import (
    AppendEntries,
    MalformedMessage,
    NextIndex,
    RequestVote,
    ResponsePreVote,
    ResponseVote,
    decode,
)
from ottla.raft.wal import WriteAheadLog
from ottla.raft.wal_format import WalDamaged

from .cluster import WAL_DIRECTORY, World
from .lonely import Lonely
from .stock import Stock, stock_clock, stock_pickle

# D4


def test_d4_stock_commits_by_an_answer_to_an_earlier_leadership() -> None:
    stock = Stock(3)
    stock.campaign()
    stock.hear(2, type="response_vote", term=1)
    stock._applyCommand(b"x", None, 0)
    stock.doTick(0)
    stock.hear(3, type="next_node_idx", next_node_idx=4, reset=False, success=True)  # sent in another term
    stock.doTick(0)
    assert stock.applied == [b"x"]


def test_d4_ours_an_answer_to_an_earlier_leadership_commits_nothing() -> None:
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


# D5


def test_d5_stock_counts_a_repeated_vote_twice() -> None:
    stock = Stock(5)
    stock.campaign()
    stock.hear(2, type="response_vote", term=1)
    stock.hear(2, type="response_vote", term=1)
    assert stock._isLeader()


def test_d5_ours_a_voter_has_one_vote() -> None:
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


def test_d5_ours_one_vote_is_given_per_term_also_after_a_restart() -> None:
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


# D6


def test_d6_stock_takes_three_changes_of_membership_at_once() -> None:
    with stock_pickle():
        stock = Stock(3, dynamicMembershipChange=True)
        stock.lead()
        stock.doTick(0)
        committed = stock.raftCommitIndex
        for new in (4, 5, 6):
            stock.addNodeToCluster(new)
        stock.doTick(0)
        assert {node.id for node in stock.otherNodes} == {2, 3, 4, 5, 6}
        assert stock.raftCommitIndex == committed  # none of them was agreed upon by anybody


def test_d6_membership_cannot_be_reached() -> None:
    world = Lonely(3)
    world.lead()
    world.sync()
    core = world.one.core
    for change in (core.addNodeToCluster, core.removeNodeFromCluster):
        with pytest.raises(Exception, match="dynamicMembershipChange is disabled"):
            change(4)
    with stock_pickle() as stock:  # not even the bytes of a change do anything, if somebody gets them into the log
        request = bytes([_COMMAND_TYPE.MEMBERSHIP]) + stock.dumps(("add", 4))
    world.hear(2, AppendEntries(2, 3, 2, 1, ((request, 3, 2),)))
    world.one.tick()
    assert core.applied_index == 3
    assert {node.id for node in core.otherNodes} == {2, 3}
    with pytest.raises(MalformedMessage):
        decode(b"\x93\xa3add\x01\x04")


# D11


def test_d11_stock_on_a_wiped_disk_votes_again() -> None:
    for candidate in (2, 3):
        stock = Stock(3)  # the journal of the first run is gone: the next one begins as if there had been none
        stock.hear(candidate, type="request_vote", term=5, last_log_index=1, last_log_term=0)
        assert len(stock.heard("response_vote")) == 1


def test_d11_ours_on_a_wiped_log_does_not_start() -> None:
    # A directory that is wiped whole has another directory id, which the handshake refuses: test_handshake.py.
    world = Lonely(3)
    world.hear(2, RequestVote(5, 1, 0, False))
    world.sync()
    assert len(world.heard(ResponseVote)) == 1
    world.crash(1, power=False)
    world.disks[1].remove_tree(WAL_DIRECTORY)
    with pytest.raises(WalDamaged):
        WriteAheadLog.open(WAL_DIRECTORY, world.disks[1])


# D12


def test_d12_stock_leads_on_for_half_a_minute_unheard() -> None:
    with stock_clock() as clock:
        stock = Stock(3)
        stock.lead()
        clock.now += 29
        stock.doTick(0)
        assert stock._isLeader()  # the others have elected somebody long ago


def test_d12_ours_a_leader_that_is_not_heard_leads_no_longer() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    world.isolate(leader.id)
    world.run(1.3)
    assert not leader.core.is_leader
    assert world.run_to_leader() is not leader


# D14


def test_d14_stock_a_node_that_was_cut_off_deposes_a_live_leader() -> None:
    away = Stock(3, node_id=3)
    for _ in range(9):
        away.campaign()  # nobody hears it
    (*_, request) = away.heard("request_vote")
    stock = Stock(3)
    stock.lead()
    stock._applyCommand(b"x", None, 0)
    stock.doTick(0)
    stock.hear(3, **request)
    assert not stock._isLeader()
    assert stock.raftCurrentTerm == 9
    assert stock.heard("response_vote") == []  # and the one that came back cannot win: its log is behind


def test_d14_ours_a_node_that_was_cut_off_deposes_nobody() -> None:
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


def test_d14_ours_a_node_with_a_higher_term_is_not_left_behind() -> None:
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


def test_d14_ours_who_asks_for_a_vote_while_a_leader_lives_gets_none() -> None:
    world = Lonely(3)
    world.hear(2, AppendEntries(1, 1, 1, 0))
    world.hear(3, RequestVote(9, 99, 9, False))
    assert world.one.core.term == 1
    world.now += 2  # and the leader was not heard again
    world.hear(3, RequestVote(9, 99, 9, False))
    assert world.one.core.term == 9
