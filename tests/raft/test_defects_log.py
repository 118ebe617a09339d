"""Defects of PySyncObj that lose or invent entries: the stock class fails, ours holds (docs/raft.md has the list)."""

import os
from pathlib import Path
from typing import Any

import pytest
from pysyncobj.journal import FileJournal, MemoryJournal, ResizableFile

from ottla.raft.codec import AppendEntries, NextIndex, RequestVote, ResponsePreVote, ResponseVote
from ottla.raft.pysyncobj_core import RaftInvariantBroken
from ottla.raft.wal_format import WalDamaged

from .cluster import WAL_DIRECTORY, World
from .lonely import Lonely
from .stock import Stock, stock_clock, stock_pickle

X, Y = b"\0x", b"\0y"

# D1


def test_d1_stock_a_late_repetition_truncates_what_was_acknowledged() -> None:
    stock = Stock(3)
    first = {"type": "append_entries", "term": 1, "commit_index": 1, "prevLogIdx": 1, "prevLogTerm": 0}
    stock.hear(2, **first, entries=[(X, 2, 1), (Y, 3, 1)])
    stock.hear(2, **first, entries=[(X, 2, 1)])
    assert stock.log_length == 2  # entry 3 was acknowledged and is gone


def test_d1_ours_a_late_repetition_truncates_nothing() -> None:
    world = Lonely(3)
    world.hear(2, AppendEntries(1, 1, 1, 0, ((X, 2, 1), (Y, 3, 1))))
    world.hear(2, AppendEntries(1, 1, 1, 0, ((X, 2, 1),)))
    world.hear(2, AppendEntries(1, 1, 1, 0))
    assert world.one.wal.last_index == 3


def test_d1_ours_a_contradiction_truncates_and_only_a_verified_prefix_commits() -> None:
    world = Lonely(3)
    world.hear(2, AppendEntries(1, 1, 1, 0, ((X, 2, 1), (X, 3, 1))))
    world.hear(3, AppendEntries(2, 3, 1, 0))  # the new leader's log is longer, and nothing here was compared
    assert world.one.core.commit_index == 1
    world.hear(3, AppendEntries(2, 3, 1, 0, ((Y, 2, 2),)))
    assert [entry[0] for entry in world.one.wal[1:]] == [Y]
    assert world.one.core.commit_index == 2
    with pytest.raises(RaftInvariantBroken):
        world.hear(3, AppendEntries(2, 3, 1, 0, ((X, 2, 1),)))


# D2


def test_d2_stock_promises_what_a_power_cut_takes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda *_: synced.append("fsync"))
    monkeypatch.setattr(os, "fdatasync", lambda *_: synced.append("fdatasync"))
    monkeypatch.setattr(ResizableFile, "flush", lambda *_: synced.append("msync"))

    def boot(directory: str) -> Stock:
        (tmp_path / directory).mkdir()
        return Stock(3, journal=FileJournal(str(tmp_path / directory / "journal")))

    with stock_pickle():
        stock = boot("before")
        stock.hear(2, type="request_vote", term=5, last_log_index=1, last_log_term=0)
        stock.follow(2, 5, [(X, 2, 5)])
        assert [message["success"] for message in stock.transport.sent[1:]] == [True]
        assert len(stock.heard("response_vote")) == 1
        assert synced == []
        stock = boot("after")  # what was never synced is not there
        stock.hear(3, type="request_vote", term=5, last_log_index=1, last_log_term=0)
        assert len(stock.heard("response_vote")) == 1  # a second vote in term 5
        assert stock.last_index == 1


def test_d2_stock_takes_a_changed_byte_for_a_command(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    FileJournal(str(path)).add(b"\0pay 5", 1, 0)
    path.write_bytes(path.read_bytes().replace(b"pay 5", b"pay 9"))
    assert FileJournal(str(path))[0] == (b"\0pay 9", 1, 0)


def test_d2_stock_loses_its_tail_when_killed_while_it_compacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "journal")
    journal = FileJournal(path)
    for index in range(1, 101):
        journal.add(b"\0x", index, 1)
    add, rewritten = FileJournal.add, iter(range(10))

    def killed(*arguments: Any) -> None:
        if next(rewritten, None) is None:
            raise KeyboardInterrupt
        add(*arguments)

    monkeypatch.setattr(FileJournal, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        journal.deleteEntriesTo(50)
    assert FileJournal(path)[-1][1] == 60


def test_d2_ours_nothing_is_promised_before_it_is_durable() -> None:
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


def test_d2_ours_a_promise_of_an_older_term_is_not_kept_after_its_entry_was_replaced() -> None:
    world = Lonely(3)
    world.hear(2, AppendEntries(1, 1, 1, 0, ((X, 2, 1),)))
    world.hear(3, AppendEntries(2, 1, 1, 0, ((Y, 2, 2),)))
    world.sent.clear()
    world.sync()
    assert [message.term for message in world.heard(NextIndex)] == [2]


def test_d2_ours_a_candidate_and_a_leader_count_themselves_once_durable() -> None:
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


def test_d2_ours_a_changed_byte_is_refused() -> None:
    world = Lonely(3)
    world.hear(2, AppendEntries(1, 1, 1, 0, ((b"\0pay 5", 2, 1),)))
    world.sync()
    world.hear(2, AppendEntries(1, 2, 2, 1, ((X, 3, 1),)))  # its record says that what is before it was durable
    (path,) = (WAL_DIRECTORY / name for name in world.disks[1].listdir(WAL_DIRECTORY))
    world.crash(1, power=False)
    disk = world.disks[1]
    data = disk.read_bytes(path).replace(b"pay 5", b"pay 9")
    disk.remove(path)
    disk.open(path, create=True).append(data)
    with pytest.raises(WalDamaged):
        world.start(1)


# D7


def test_d7_stock_commits_beyond_its_log_and_acknowledges_what_nobody_else_has(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with stock_pickle():
        journal = FileJournal(path)
        for index in range(1, 13):
            journal.add(b"\0x", index, 0)
        journal.setRaftCommitIndex(12)
        journal.setCurrentTerm(1, None)
        journal.deleteEntriesFrom(5)  # the power took the tail of the journal, and left the other file
        stock = Stock(3, journal=FileJournal(path))
        stock.campaign()
        stock.hear(2, type="response_vote", term=2)
        outcomes: list[Any] = []
        stock._applyCommand(b"only here", lambda *outcome: outcomes.append(outcome), 0)
        stock.doTick(0)
        stock.doTick(0)
        assert outcomes == [(None, 0)]
        assert set(stock._SyncObj__raftMatchIndex.values()) == {0}


def test_d7_ours_the_commit_index_is_not_remembered() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    leader.propose(b"x")
    world.run(0.5)
    assert leader.core.commit_index > 1
    world.crash(leader.id, power=False)
    assert world.start(leader.id).core.commit_index == 1


# D13


def exchange(leader: Stock, follower: Stock) -> None:
    """One round trip of all that was sent."""
    for node, message in leader.transport.mail:
        if node == follower.selfNode.id:
            follower.hear(1, **message)
    for _, message in follower.transport.mail:
        leader.hear(follower.selfNode.id, **message)
    leader.transport.mail.clear()
    follower.transport.mail.clear()


def test_d13_stock_rewinds_for_ever() -> None:
    ours, theirs = MemoryJournal(), MemoryJournal()
    for journal, size, tail, term in ((ours, 1000, 400, 2), (theirs, 10, 100, 1)):
        for index in range(1, 21):
            journal.add(X, index, 0)
        for index in range(21, 21 + tail):
            journal.add(b"\0" + bytes(size), index, term)
    with stock_clock() as clock:
        leader, follower = Stock(3, journal=ours), Stock(3, node_id=2, journal=theirs)
        leader.campaign()
        leader.hear(3, type="response_vote", term=3)
        for _ in range(300):  # half a minute on a network without fault
            clock.now += 0.11
            leader.doTick(0)
            exchange(leader, follower)
        assert leader._isLeader()
        assert follower._SyncObj__raftLog[20][2] == 1  # not one of the leader's entries came over


def test_d13_ours_a_long_contradiction_is_repaired_while_the_log_grows() -> None:
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
